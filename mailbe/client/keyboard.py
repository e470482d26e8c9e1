"""Who talks to the plain client: somebody at a terminal, who is prompted, or a script, which is not."""

from __future__ import annotations

import getpass
import sys

from mailbe.client.certificate import Certificate
from mailbe.client.words import size

LONG_TRANSFER = 512 * 1024  # octets, from which on progress is shown


class Over(Exception):
    """The input has come to its end."""


class Script:
    """Input from a pipe or a file: no prompts."""

    interactive = False

    def ask(self, prompt: str) -> str:
        """The next line of input.

        :raises Over:
        """
        line = sys.stdin.readline()
        if not line:
            raise Over
        return line.rstrip("\r\n")

    def ask_secret(self, prompt: str) -> str:
        """The same, of something that nobody should see."""
        return self.ask(prompt)

    def say(self, text: str = "") -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def complain(self, text: str) -> None:
        """Say why something did not work."""
        sys.stderr.write(f"mailbe: {text}\n")

    def progress(self, done: int, total: int) -> None:
        """So many octets of so many have gone."""

    def agrees(self, question: str) -> bool:
        """Whether the answer is yes. A script never agrees to what it was not written for."""
        return False

    def trusts(self, certificate: Certificate) -> bool:
        """Show a certificate that does not verify; whether it is to be trusted from now on."""
        self.complain(f"{certificate.place} shows a certificate that cannot be verified: {certificate.why}")
        if certificate.changed:
            self.complain("IT IS NOT THE ONE THAT YOU ACCEPTED BEFORE. Somebody may stand between you and the server.")
        self.complain(f"  made for     {', '.join(certificate.names) or 'nobody'}")
        self.complain(f"  signed by    {certificate.issuer}")
        if certificate.ends:
            self.complain(f"  valid until  {certificate.ends:%Y-%m-%d}")
        self.complain(f"  SHA-256      {certificate.fingerprint}")
        return self._takes_it()

    def _takes_it(self) -> bool:
        self.complain("give the authority's certificate with --ca, or accept this one on a terminal")
        return False


class Terminal(Script):
    """Somebody at a keyboard."""

    interactive = True

    def __init__(self) -> None:
        # Lines can be edited and called back, where the terminal allows.
        import readline  # noqa: F401

    def ask(self, prompt: str) -> str:
        try:
            return input(prompt)
        except EOFError:
            self.say()
            raise Over from None

    def ask_secret(self, prompt: str) -> str:
        try:
            return getpass.getpass(prompt)
        except EOFError:
            self.say()
            raise Over from None

    def complain(self, text: str) -> None:
        self.say(text)

    def progress(self, done: int, total: int) -> None:
        if total >= LONG_TRANSFER:
            sys.stdout.write(f"\r{done * 100 // total:3} % of {size(total)}" + ("\r\n" if done == total else ""))
            sys.stdout.flush()

    def agrees(self, question: str) -> bool:
        while (answer := self.ask(f"{question} [yes/no] ").strip().lower()) not in ("yes", "no", ""):
            self.say("yes or no, in full")
        return answer == "yes"

    def _takes_it(self) -> bool:
        return self.agrees("Did whoever runs the server tell you this fingerprint? Trust it from now on?")
