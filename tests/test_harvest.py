"""Who tries out names is answered ever more slowly."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailbe.smtp import harvest
from mailbe.smtp.harvest import FREE, SLOWEST, Harvest


class Delays(SynchronousTestCase):
    def test_the_first_are_free_and_then_each_takes_twice_as_long(self) -> None:
        asked = Harvest(Clock())
        self.assertEqual([asked.delay("192.0.2.1") for _ in range(FREE)], [0.0] * FREE)
        self.assertEqual([asked.delay("192.0.2.1") for _ in range(6)], [1, 2, 4, 8, SLOWEST, SLOWEST])

    def test_peers_do_not_pay_for_each_other(self) -> None:
        asked = Harvest(Clock())
        for _ in range(FREE + 1):
            asked.delay("192.0.2.1")
        self.assertEqual(asked.delay("192.0.2.2"), 0)

    def test_a_network_of_ipv6_is_one_peer(self) -> None:
        asked = Harvest(Clock())
        for host in range(FREE):
            asked.delay(f"2001:db8::{host:x}")
        self.assertEqual((asked.delay("2001:db8::ffff"), asked.delay("2001:db8:0:1::1")), (1, 0))

    def test_who_never_stops_is_never_answered_faster(self) -> None:
        asked = Harvest(Clock())
        self.assertEqual(max(asked.delay("192.0.2.1") for _ in range(3000)), SLOWEST)
        self.assertEqual(asked.delay("192.0.2.1"), SLOWEST)

    def test_the_peers_that_are_remembered_are_bounded(self) -> None:
        self.patch(harvest, "MAX_PEERS", 2)
        asked = Harvest(Clock())
        for _ in range(FREE + 1):
            asked.delay("192.0.2.1")
        asked.delay("192.0.2.2")
        asked.delay("192.0.2.3")
        self.assertEqual(asked.delay("192.0.2.1"), 0)
