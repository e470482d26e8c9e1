"""Who has an account on the server that is tortured: a few, some of them new in every round."""

from __future__ import annotations

import contextlib
import shutil

from mailbe.accounts import schemes, scram
from mailbe.accounts.database import Accounts, NoSuchAccount
from mailbe.address import Address
from mailbe.maildata import Maildata

PASSWORD = "no-secret-at-all"  # noqa: S105 - nothing is worth keeping here
DOMAIN = "localhost"
AT_ONCE = 12  # accounts
NEWCOMERS = 3  # in each round; as many leave after it, so that nobody's mailbox grows for ever


class People:
    """The accounts, made and removed as ``mailbe user`` does it, beside the server or without it."""

    def __init__(self, maildata: Maildata) -> None:
        self._maildata = maildata
        self._number = 0
        # Once for all: the iterations that a verifier takes would hold up every round.
        self._record = schemes.hash_password(PASSWORD.encode(), schemes.CHOICES["md5-crypt"])
        self._verifier = scram.make_verifier(PASSWORD.encode())
        self.present: list[str] = []
        """Their addresses, who came first standing first."""

    def join(self, count: int) -> list[str]:
        """Add so many accounts, which have no mailbox yet; returns their addresses.

        :raises TryLater, Unusable:
        """
        numbers = range(self._number, self._number + count)
        newcomers = [Address(f"u{number:04}", DOMAIN) for number in numbers]
        accounts = Accounts(self._maildata.accounts)
        try:
            accounts.open()
            for address in newcomers:
                accounts.add(address, self._record, self._verifier)
        finally:
            accounts.close()
        self._number += count
        self.present += map(str, newcomers)
        return [str(address) for address in newcomers]

    def leave(self, count: int) -> list[str]:
        """Remove the accounts that came first, and their mail; returns their addresses.

        :raises TryLater, Unusable, OSError:
        """
        leavers, self.present = self.present[:count], self.present[count:]
        accounts = Accounts(self._maildata.accounts)
        try:
            accounts.open()
            for text in leavers:
                address = Address.parse(text)
                with contextlib.suppress(
                    NoSuchAccount
                ):  # a crash has taken it: its mailbox did not open, which was told
                    accounts.remove(address)
                if (aside := self._maildata.put_aside(address)) is not None:
                    shutil.rmtree(aside)
        finally:
            accounts.close()
        return leavers
