"""How many connections there are places for."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailbe.board import Board
from mailbe.limits import OTHERS_CONNECTIONS, Limits, Places, Turns


class Taking(SynchronousTestCase):
    def taken(self, places: Places, peer: str, *, local: bool = False, tries: int = 3000) -> int:
        """How many of ``tries`` a peer gets."""
        return sum(places.take(peer, local=local) for _ in range(tries))

    def test_one_address_does_not_get_them_all(self) -> None:
        places = Places(Limits(), 20_000)
        self.assertEqual(self.taken(places, "192.0.2.1"), OTHERS_CONNECTIONS)
        self.assertEqual(self.taken(places, "192.0.2.2"), OTHERS_CONNECTIONS)

    def test_this_machine_gets_what_there_is(self) -> None:
        places = Places(Limits(connections=2500), 20_000)
        self.assertEqual(self.taken(places, "127.0.0.1", local=True), 2500)
        self.assertEqual(self.taken(places, "192.0.2.1"), 0)

    def test_a_limit_that_is_asked_for_holds_for_this_machine_too(self) -> None:
        places = Places(Limits(connections_per_address=3), 20_000)
        self.assertEqual(self.taken(places, "127.0.0.1", local=True), 3)
        self.assertEqual(self.taken(places, "192.0.2.1"), 3)

    def test_a_network_of_ipv6_is_one_address(self) -> None:
        places = Places(Limits(connections_per_address=3), 20_000)
        self.assertEqual(self.taken(places, "2001:db8::1"), 3)
        self.assertEqual(self.taken(places, "2001:db8::2"), 0)
        self.assertEqual(self.taken(places, "2001:db8:0:1::1"), 3)

    def test_there_are_never_more_than_there_are_descriptors_for(self) -> None:
        places = Places(Limits(), 1024)
        self.assertEqual(places.all, 768)
        self.assertEqual(self.taken(places, "127.0.0.1", local=True), 768)

    def test_who_leaves_makes_place_for_another(self) -> None:
        places = Places(Limits(connections=3, connections_per_address=2), 20_000)
        self.assertEqual(self.taken(places, "192.0.2.1"), 2)
        self.assertEqual(self.taken(places, "192.0.2.2"), 1)
        places.leave("192.0.2.1")
        self.assertEqual(self.taken(places, "192.0.2.2"), 1)
        self.assertEqual(self.taken(places, "192.0.2.1"), 0)

    def test_what_others_on_the_board_have_counts(self) -> None:
        limits = Limits(connections=5, connections_per_address=3)
        handle = Board.make(2).handle
        here, there = (Places(limits, 20_000, Board(handle, number)) for number in range(2))
        self.assertEqual(self.taken(here, "192.0.2.1", tries=2), 2)
        self.assertEqual(self.taken(there, "192.0.2.1"), 1)
        self.assertEqual(self.taken(here, "192.0.2.1"), 0)
        self.assertEqual(self.taken(there, "192.0.2.2"), 2)
        self.assertEqual(self.taken(here, "192.0.2.3"), 0)
        there.leave("192.0.2.1")
        self.assertEqual(self.taken(here, "192.0.2.1"), 1)

    def test_each_on_the_board_has_descriptors_of_its_own(self) -> None:
        handle = Board.make(2).handle
        here, there = (Places(Limits(), 100, Board(handle, number)) for number in range(2))
        self.assertEqual(here.all, 150)
        self.assertEqual(self.taken(here, "127.0.0.1", local=True), 75)
        self.assertEqual(self.taken(there, "127.0.0.1", local=True), 75)


class Standing(SynchronousTestCase):
    def test_nobody_waits_for_ever_and_nobody_comes_twice_in_a_turn(self) -> None:
        clock = Clock()
        turns = Turns(clock)
        had: list[int] = []

        def again(number: int) -> None:
            had.append(number)
            if had.count(number) < 3:
                turns.wait(lambda: again(number))

        for number in range(2 * Turns.AT_ONCE + 1):
            turns.wait(lambda number=number: again(number))
        clock.advance(0)
        self.assertEqual(had, [*range(2 * Turns.AT_ONCE + 1)] * 3)
        self.assertEqual(clock.getDelayedCalls(), [])
