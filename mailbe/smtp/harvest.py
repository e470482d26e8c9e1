"""Against harvesting: who asks for many recipients that nobody is, is answered ever more slowly.

RCPT has to tell who has a mailbox here (RFC 5321 7.3 speaks of VRFY and EXPN only), or mail to a mistyped
address would be lost. One or two such answers are ordinary; hundreds are somebody trying out names.
"""

from __future__ import annotations

from collections import OrderedDict

from twisted.internet.interfaces import IReactorTime

from mailbe.peers import household

FREE = 10  # unknown recipients of one peer that are answered at once
FORGOTTEN_AFTER = 3600  # seconds
SLOWEST = 10  # seconds
MAX_PEERS = 10_000


class Harvest:
    """How often each peer has asked for nobody, for all listeners of one process."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._asked: OrderedDict[str, tuple[int, float]] = OrderedDict()  # peer -> how often, and when last

    def delay(self, peer: str) -> float:
        """Count one more unknown recipient of ``peer``; how many seconds its answer is to wait."""
        now = self._clock.seconds()
        address = household(peer)
        count, last = self._asked.pop(address, (0, now))
        if now - last > FORGOTTEN_AFTER:
            count = 0
        self._asked[address] = count + 1, now
        if len(self._asked) > MAX_PEERS:
            self._asked.popitem(last=False)
        return float(min(2 ** (count - FREE), SLOWEST)) if count >= FREE else 0.0
