"""Marionette, Thunderbird's remote control: scripts sent over a loopback connection run inside it, with all rights.

Messages are JSON, ``LENGTH:[kind, id, …]`` each way.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
from typing import Any

SECONDS = 60  # the most that one script may take

# Every script begins with this.
PRELUDE = """
    const {MailServices} = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
    const main = () => Services.wm.getMostRecentWindow("mail:3pane");
    const composer = () => Services.wm.getMostRecentWindow("msgcompose");
    const server = () => MailServices.accounts.defaultAccount.incomingServer;
    const inbox = () => server().rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
"""


class ScriptError(AssertionError):
    """What a script in Thunderbird, or Marionette itself, complained of."""


class DialogOpen(ScriptError):
    """A dialog is in the way, whose text this is, and the script was not run."""


class DialogCame(DialogOpen):
    """A dialog, which says nothing yet, has come up while the script ran, and what that returned is lost."""


class Marionette:
    """The connection over which scripts are run inside Thunderbird."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS + 10)
        self._stream = self._socket.makefile("rb")
        self._ids = itertools.count(1)
        self._read()  # the greeting
        wanted = {"pageLoadStrategy": "none", "unhandledPromptBehavior": "ignore"}
        given = self.command("WebDriver:NewSession", **wanted)["capabilities"]
        # Of what it does not know, it says nothing; and dialogs that it dismisses by itself say nothing to us.
        assert wanted.items() <= given.items(), given
        self.command("Marionette:SetContext", value="chrome")
        self.command("WebDriver:SetTimeouts", script=SECONDS * 1000)

    def command(self, name: str, **parameters: object) -> Any:
        """Have one command done, and return its result."""
        number = next(self._ids)
        message = json.dumps([0, number, name, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(message), message))
        _, answered, error, result = self._read()
        if error and error["error"] == "unexpected alert open":
            raise DialogOpen(error["data"]["text"])
        if error:
            raise ScriptError(f"{error['error']}: {error['message']}")
        assert answered == number
        return result

    def run(self, script: str, *arguments: object) -> Any:
        """Run the body of an async function with ``args``, and return what it returns."""
        wrapped = f"""
            const done = arguments[arguments.length - 1], args = [...arguments].slice(0, -1);
            {PRELUDE}
            (async () => {{ {script} }})().then(value => done([value ?? null]), error => done(String(error)));
        """
        result = self.command(
            "WebDriver:ExecuteAsyncScript", script=wrapped, args=arguments, newSandbox=True, sandbox="system"
        )["value"]
        if isinstance(result, str):
            raise ScriptError(result)
        if result is None:  # WebDriver, "Execute Async Script", where a prompt opens meanwhile
            raise DialogCame
        return result[0]

    def attempt(self, script: str, *arguments: object) -> Any:
        """What ``run`` returns, or ``None`` where a dialog has come up meanwhile: it can be tried again."""
        with contextlib.suppress(DialogCame):
            return self.run(script, *arguments)

    def dismiss_dialog(self) -> None:
        """Cancel the dialog that is in the way, if it still is."""
        with contextlib.suppress(ScriptError):
            self.command("WebDriver:DismissAlert")

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def _read(self) -> Any:
        length = b""
        while (octet := self._stream.read(1)) != b":":
            if not octet:
                raise ScriptError("Thunderbird closed the Marionette connection")
            length += octet
        return json.loads(self._stream.read(int(length)))
