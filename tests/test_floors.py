"""The house has floors: who may import whom. A protocol never sees a store, and never the other protocol."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import mailbe

PACKAGE = Path(mailbe.__file__).parent
GROUND = {
    "address",
    "arguments",
    "characters",
    "dots",
    "mime",
    "peers",
    "ports",
    "sent",
    "signals",
    "surrogate",
    "trace",
    "__init__",
}
SEAMS = GROUND | {"interfaces"}
TALK = SEAMS | {"session", "limits", "conversation", "listener", "sasl"}
STORE = SEAMS | {"durable", "maildata"}
MAY_IMPORT = {
    "address": set(),
    "arguments": set(),
    "characters": set(),
    "dots": GROUND,
    "mime": set(),
    "peers": GROUND,
    "ports": set(),
    "sent": GROUND,
    "signals": set(),
    "surrogate": set(),
    "trace": GROUND,
    "interfaces": GROUND,
    "board": GROUND,
    "session": SEAMS,
    # The listener holds conversations; a conversation names its type alone.
    "limits": SEAMS | {"session", "board"},
    "outlet": SEAMS | {"session", "limits"},
    "silence": set(),
    "conversation": SEAMS | {"session", "limits", "listener", "outlet", "silence"},
    "listener": SEAMS | {"session", "limits", "conversation", "transport"},
    "transport": set(),
    "proxied": GROUND,
    "journal": set(),
    "sasl": SEAMS,
    "smtp": TALK | {"smtp", "journal", "reports"},
    "pop3": TALK | {"pop3"},
    "durable": SEAMS,
    "maildata": STORE,
    "letterfile": STORE,
    "listing": STORE | {"letterfile"},
    "maildir": STORE | {"letterfile", "listing"},
    "accounts": STORE | {"accounts", "listening"},
    "rooms": STORE | {"letterfile", "listing"},
    "slip": SEAMS,
    "held": STORE | {"letterfile", "listing", "slip"},
    "allowance": STORE | {"held", "rooms"},
    "postoffice": STORE | {"accounts", "allowance", "rooms", "slip"},
    "tls": STORE | {"tls"},
    "realm": STORE | {"accounts", "maildir", "postoffice"},
    "expiry": STORE | {"accounts"},
    "reports": SEAMS,
    "release": STORE | {"held", "letterfile", "listing", "postoffice", "reports", "rooms", "slip"},
    "holding": STORE | {"held", "listing", "release", "slip"},
    "configuration": STORE | {"accounts", "limits"},
    "listening": {"maildata"},
    "opening": STORE | {"accounts", "configuration", "listening", "tls"},
    "web": SEAMS | {"autoconfig", "limits", "listening", "web"},
    "service": TALK
    | STORE
    | {"allowance"}
    | {"journal", "proxied", "transport", "smtp", "pop3", "maildir", "accounts", "postoffice", "realm", "rooms", "tls"}
    | {"board", "configuration", "expiry", "held", "holding", "listening", "opening", "release", "reports", "web"},
    "crew": {"board", "configuration"},
    "process": {"__init__", "configuration", "crew"},
    "supervisor": STORE
    | {"accounts", "board", "configuration", "crew", "limits", "listening", "opening", "process", "service", "tls"},
    "tap": SEAMS | {"accounts", "limits", "maildata", "configuration", "opening", "service", "supervisor"},
    # The door of a process of its own, as the tap is.
    "worker": STORE | {"board", "configuration", "crew", "listener", "listening", "opening", "service", "tap", "tls"},
    "terminal": set(),
    "torture": STORE | {"accounts", "terminal"},
    "autoconfig": {"address", "listening"},
    "announce": STORE | {"accounts", "announce", "autoconfig", "listening"},
    # A program of its own: what an address is, how dots are stuffed, and where a server on this machine says its ports.
    "client": GROUND | {"listening", "maildata"},
    "conform": GROUND | {"terminal"},
    "held_options": STORE | {"accounts", "held", "slip"},
    "cli": SEAMS | {"accounts", "announce", "client", "conform", "held_options", "maildata", "rooms", "torture"},
    "__init__": set(),
}
STANDARD_LIBRARY_ONLY = GROUND - {"address"}
HOLD_THE_REACTOR = {"tap", "cli", "worker"}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """The dotted names of all that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


class Floors(SynchronousTestCase):
    def test_no_room_imports_what_stands_above_or_beside_it(self) -> None:
        for path in PACKAGE.rglob("*.py"):
            for name in imports(path):
                if name == "mailbe" or name.startswith("mailbe."):
                    other = name.split(".")[1] if "." in name else "__init__"
                    other = other if other in MAY_IMPORT else "__init__"  # a name in mailbe itself
                    self.assertIn(other, MAY_IMPORT[room(path)] | {room(path)}, f"{path} imports {name}")

    def test_every_room_has_its_floor(self) -> None:
        self.assertEqual({room(path) for path in PACKAGE.rglob("*.py")}, set(MAY_IMPORT))

    def test_the_ground_needs_only_the_standard_library_and_addresses_idna(self) -> None:
        for path in PACKAGE.rglob("*.py"):
            if room(path) in STANDARD_LIBRARY_ONLY:
                packages = {name.partition(".")[0] for name in imports(path)}
                self.assertFalse(packages & {"twisted", "zope", "sqlalchemy", "passlib", "idna"}, str(path))

    def test_only_the_doors_hold_the_global_reactor(self) -> None:
        holders = {room(path) for path in PACKAGE.rglob("*.py") if "twisted.internet.reactor" in imports(path)}
        self.assertLessEqual(holders, HOLD_THE_REACTOR)
