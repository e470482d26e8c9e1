"""The client for a dumb terminal and for scripts: a command a line, and what is asked for, a line each.

On a terminal it prompts. From a pipe it prompts for nothing: a script gives each command, and behind it a line for each
thing that would be asked for. A script ends at the first command that fails, with status 1; what it marked as deleted
is deleted by ``quit`` alone, not by its end.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer

from mailbe.client.commands import Commands, Quit, Wrong
from mailbe.client.errors import MailError, TooManyFailures
from mailbe.client.keyboard import Over, Script, Terminal
from mailbe.client.servers import Servers
from mailbe.client.trust import Trust

REST_SECONDS = 60


def run(servers: Servers, trust: Trust, name: str | None) -> int:
    """Talk to whoever is at stdin until they quit; returns the exit status.

    :param name: who logs in, if that was said already; on a terminal that is then done first.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every terminal has the letters of all languages
    person = Terminal() if sys.stdin.isatty() else Script()
    return Plain(servers, trust, person, name or "").run()


class Plain:
    """One session at the keyboard, or one script."""

    def __init__(self, servers: Servers, trust: Trust, person: Script, name: str) -> None:
        self._servers, self._person, self._name = servers, person, name
        self._commands = Commands(servers, trust, person, name)
        self._mail = self._commands.mail
        self._over = False
        self._status = 0

    def run(self) -> int:
        """Carry out commands until ``quit`` or the end of input; returns the exit status."""
        if self._person.interactive:
            self._person.say(f"This is mailbe's mail program, for {self._servers.name}. help says what it knows.")
            if self._name:
                self._attempt(self._commands.login)
        try:
            while not self._over:
                self._attempt(self._next)
        finally:
            self._mail.close()
        return self._status

    def _next(self) -> None:
        try:
            with self._resting():
                line = self._person.ask("> ")
        except KeyboardInterrupt:
            if not self._person.interactive:
                raise
            self._person.say("\nquit ends the program")
        else:
            self._commands.obey(line)

    @contextmanager
    def _resting(self) -> Iterator[None]:
        """Log out when somebody at a terminal says nothing for long, as the maildrop is shut for others meanwhile."""
        timer = Timer(REST_SECONDS, self._mail.rest)
        timer.daemon = True
        if self._person.interactive:
            timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _attempt(self, act: Callable[[], None]) -> None:
        """Do it, and tell what goes wrong; in a script that is the end."""
        try:
            act()
        except Wrong as error:
            self._failed(str(error), 2)
        except TooManyFailures as error:
            self._failed(str(error), 1)
            self._status, self._over = 1, True
        except MailError as error:
            self._failed(str(error), 1)
        except KeyboardInterrupt:
            self._person.say()
            self._failed("broken off", 1)
        except Over:
            self._end_of_input()
        except Quit:
            self._over = True

    def _failed(self, text: str, status: int) -> None:
        self._person.complain(text)
        if not self._person.interactive:
            self._status, self._over = status, True

    def _end_of_input(self) -> None:
        if self._mail.deleted:
            count = len(self._mail.deleted)
            self._person.complain(f"the input ended before quit, so nothing is deleted ({count} marked)")
            self._status = 1
        self._over = True
