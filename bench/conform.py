"""What ``mailbe conform`` finds on mailbe and on other servers, as a table: ``python -m bench.conform``.

Postfix takes mail for a Maildir that Dovecot serves, and asks Dovecot for passwords; aiosmtpd puts it into one, with
the handler that it brings. Both as they are shipped, but for ports and mailboxes. Run by root, as they change users.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.peers.base import PASSWORD, certificate, free_port, greets, program
from bench.peers.dovecot import nobody, write_settings
from tests.end_to_end.server import ALICE, PROTOCOLS, Server, environment, eventually, user

DOMAIN = "conform.test"
START_SECONDS = 30
EXTENSIONS = (  # noqa: SIM905 (read as people write them)
    "PIPELINING SIZE 8BITMIME ENHANCEDSTATUSCODES STARTTLS AUTH SMTPUTF8 CHUNKING BINARYMIME DSN LIMITS REQUIRETLS "
    "MT-PRIORITY DELIVERBY FUTURERELEASE"
).split()
CAPABILITIES = (  # noqa: SIM905
    "TOP USER SASL RESP-CODES LOGIN-DELAY PIPELINING EXPIRE UIDL IMPLEMENTATION STLS AUTH-RESP-CODE UTF8 LANG"
).split()
RULE = ("level", "section", "rule")
# The table compares features. What touches the safety of a server, its operator is told by the command itself.
ABOUT_SAFETY = re.compile("does-not-end|is-not-obeyed|forgets|relayed|asks-for-a-log-in")

# What it shares with the benchmark's comes before these lines, and the last one of a name counts.
DOVECOT = """\
protocols = pop3
ssl = yes
ssl_cert = <{chain}
ssl_key = <{key}
disable_plaintext_auth = yes
auth_mechanisms = plain login
mail_location = maildir:{mail}/alice
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = {pop3s}
    ssl = yes
  }}
}}
service auth {{
  unix_listener {auth} {{
    mode = 0666
  }}
}}
"""

MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
myhostname = {domain}
mydestination =
mynetworks = 192.0.2.1/32
inet_interfaces = loopback-only
inet_protocols = ipv4
biff = no
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {mail}
virtual_mailbox_maps = inline:{{ {{ alice@{domain} = alice/ }}, {{ postmaster@{domain} = alice/ }} }}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
smtpd_tls_chain_files = {key}, {chain}
smtpd_tls_security_level = may
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {auth}
smtpd_tls_auth_only = yes
"""

# As the package's master.cf has them, in comments.
SUBMISSION = """
127.0.0.1:{submission} inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
127.0.0.1:{submissions} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
"""

AIOSMTPD = """\
import ssl, threading
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import AuthResult, LoginPassword

def check(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and data.password == b"{password}"
    return AuthResult(success=good, handled=False)

context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain("{chain}", "{key}")
handler = Mailbox("{mail}/alice")
options = {{"hostname": "127.0.0.1", "enable_SMTPUTF8": True}}
Controller(handler, port={smtp}, **options).start()
Controller(
    handler, port={submission}, tls_context=context, authenticator=check, auth_required=True, **options
).start()
threading.Event().wait()
"""


@dataclass(frozen=True)
class Place:
    """A running server, and who has mail there."""

    ports: Mapping[str, int]
    user: str
    address: str


@contextlib.contextmanager
def mailbe(folder: Path) -> Iterator[Place]:
    """mailbe itself."""
    user(folder / "maildata", "add", ALICE, PASSWORD)
    with Server(folder / "maildata") as server:
        yield Place(server.ports, ALICE, ALICE)


@contextlib.contextmanager
def postfix(folder: Path) -> Iterator[Place]:
    """Postfix and Dovecot."""
    fields = _fields(folder)
    for name in ("config", "queue", "data"):
        (folder / name).mkdir()
    shutil.chown(folder / "data", "postfix")
    (folder / "config" / "main.cf").write_text(MAIN.format_map(fields))
    # Debian has most services in a chroot, for which a script copies files; here there is none.
    master = re.sub(r"^(\S+ +\S+ +\S+ +\S+ +)y", r"\1n", Path("/etc/postfix/master.cf").read_text(), flags=re.MULTILINE)
    master = re.sub(r"^smtp +inet", f"127.0.0.1:{fields['smtp']} inet", master, flags=re.MULTILINE)
    (folder / "config" / "master.cf").write_text(master + SUBMISSION.format_map(fields))
    command = [program("postfix") or "postfix", "-c", str(folder / "config")]
    with _dovecot(folder, fields), _running(folder, [*command, "start-fg"], fields, PROTOCOLS):
        try:
            yield Place({name: int(str(fields[name])) for name in PROTOCOLS}, "alice", f"alice@{DOMAIN}")
        finally:
            # Its master has a session of its own.
            subprocess.run([*command, "stop"], capture_output=True)  # noqa: S603


@contextlib.contextmanager
def aiosmtpd(folder: Path) -> Iterator[Place]:
    """aiosmtpd, and Dovecot for what it stores."""
    fields = _fields(folder)
    os.chown(folder / "key.pem", *nobody())
    (folder / "serve.py").write_text(AIOSMTPD.format_map(fields))
    names = ("smtp", "submission", "pop3")
    uid, gid = nobody()
    command = [sys.executable, str(folder / "serve.py")]
    with _dovecot(folder, fields), _running(folder, command, fields, names[:2], user=uid, group=gid):
        yield Place({name: int(str(fields[name])) for name in names}, "alice", f"alice@{DOMAIN}")


SERVERS = {"mailbe": mailbe, "Postfix, Dovecot": postfix, "aiosmtpd": aiosmtpd}


def _fields(folder: Path) -> dict[str, object]:
    chain, key = certificate(folder)
    uid, gid = nobody()
    for name in ("mail", "dovecot"):
        (folder / name).mkdir()
    os.chown(folder / "mail", uid, gid)
    about = {"folder": folder, "mail": folder / "mail", "auth": folder / "dovecot" / "auth", "chain": chain, "key": key}
    people = {"uid": uid, "gid": gid, "domain": DOMAIN, "password": PASSWORD}
    return about | people | {name: free_port() for name in PROTOCOLS}


def _dovecot(folder: Path, fields: Mapping[str, object]) -> contextlib.AbstractContextManager[None]:
    own = {name: fields[name] for name in ("mail", "auth", "chain", "key", "pop3", "pop3s")}
    return _running(folder, write_settings(folder / "dovecot", DOVECOT, **own), fields, ("pop3",))


@contextlib.contextmanager
def _running(
    folder: Path, command: Sequence[str], fields: Mapping[str, object], ports: Sequence[str], **who: int
) -> Iterator[None]:
    with (folder / "output").open("ab") as output:
        process = subprocess.Popen(  # noqa: S603
            command, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **who
        )
    try:
        plain = [int(str(fields[name])) for name in ports if not name.endswith("s")]
        eventually(lambda: all(map(greets, plain)), f"{command[0]} answers", START_SECONDS)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(START_SECONDS)


def conform(place: Place) -> dict[str, Any]:
    """What a run finds, as ``--json`` tells it."""
    ports = [word for name, port in place.ports.items() for word in (f"--{name}", str(port))]
    command = ["conform", "localhost", "--user", place.user, "--address", place.address, "--password-stdin", "--json"]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", "from mailbe.cli import main; raise SystemExit(main())", *command, *ports],
        env=environment(),
        input=f"{PASSWORD}\n",
        capture_output=True,
        text=True,
    )
    if done.stderr:
        raise SystemExit(done.stderr)
    whole: dict[str, Any] = json.loads(done.stdout)
    if "pop3s" not in place.ports:  # then the POP3 is somebody else's
        whole["listeners"] = [each for each in whole["listeners"] if not _is_pop3(each["name"])]
        whole["checks"] = [check for check in whole["checks"] if not _is_pop3(check["listener"])]
    return whole


def offered(found: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """A row for each extension, of SMTP and then of POP3."""
    for kind, keywords in (("EHLO", EXTENSIONS), ("CAPA", CAPABILITIES)):
        yield f"| {kind} | {' | '.join(found)} |"
        yield "|---" * (1 + len(found)) + "|"
        for keyword in keywords:
            cells = [_where(whole, keyword, pop3=kind == "CAPA") for whole in found.values()]
            yield f"| {' | '.join([keyword, *cells])} |"
        yield ""


def _where(whole: Mapping[str, Any], keyword: str, *, pop3: bool) -> str:
    """On which listeners a keyword is offered: yes, if on all that have no TLS at the beginning."""
    those = [each for each in whole["listeners"] if _is_pop3(each["name"]) == pop3 and not each["name"].endswith("s")]
    names = [each["name"] for each in those if keyword in each["offers"]]
    return "yes" if len(names) == len(those) > 0 else ", ".join(names)


def _is_pop3(listener: str) -> bool:
    return listener.startswith("pop3")


def table(found: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """A row for each rule that some server does not pass."""
    yield f"| level | section | rule | {' | '.join(found)} |"
    yield "|---" * (3 + len(found)) + "|"
    rules: dict[tuple[str, ...], None] = {}
    for whole in found.values():
        those = [check for check in whole["checks"] if not ABOUT_SAFETY.search(check["name"])]
        rules |= dict.fromkeys(map(_row, those))
    for rule in rules:
        cells = [_came_out([check for check in whole["checks"] if _row(check) == rule]) for whole in found.values()]
        if any(word in cell for cell in cells for word in ("failed", "absent", "unclear")):
            yield f"| {' | '.join([*rule, *cells])} |"


def _row(check: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(check[key] for key in RULE)


def _came_out(checks: Sequence[Mapping[str, str]]) -> str:
    """How one rule came out on the listeners of a server: what is not offered is not broken."""
    verdicts = dict.fromkeys(check["verdict"] for check in checks if check["verdict"] != "skipped")
    if verdicts:
        return ", ".join(verdicts)
    return "not offered" if any(check["reason"].endswith("is not offered") for check in checks) else "-"


def main() -> None:
    """Run it on the servers that are named, or on all."""
    parser = argparse.ArgumentParser(prog="python -m bench.conform", description=__doc__)
    parser.add_argument("servers", nargs="*", metavar="SERVER", help=", ".join(SERVERS))
    names = parser.parse_args().servers or list(SERVERS)
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        folder = Path(tempfile.mkdtemp(prefix="conform-"))
        folder.chmod(0o755)
        try:
            with SERVERS[name](folder) as place:
                found[name] = conform(place)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    for line in (*offered(found), *table(found)):
        print(line)  # noqa: T201


if __name__ == "__main__":
    main()
