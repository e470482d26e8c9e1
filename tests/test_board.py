"""Several processes count their connections on one board, and each sees what the others have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import mailbe
from mailbe import board
from mailbe.board import Board, Handle

ELSEWHERE = """
import sys
from mailbe.board import Board, Handle
Board(Handle(int(sys.argv[1]), 2, bytes(32)), 1).put("192.0.2.1", 5, 7)
"""


class Counting(SynchronousTestCase):
    def setUp(self) -> None:
        self.empty = Board.make(3)
        self.boards = [Board(self.empty.handle, number) for number in range(3)]

    def test_each_sees_what_the_others_have_and_not_its_own(self) -> None:
        for number, one in enumerate(self.boards):
            one.put("192.0.2.1", 10**number, 2 * 10**number)
        self.assertEqual([one.elsewhere("192.0.2.1") for one in self.boards], [110, 101, 11])
        self.assertEqual([one.all_elsewhere() for one in self.boards], [220, 202, 22])
        self.assertEqual(self.boards[0].elsewhere("192.0.2.2"), 0)

    def test_what_has_gone_is_taken_away_and_its_place_used_again(self) -> None:
        for number in range(100_000):
            address = f"10.0.{number // 256}.{number % 256}"
            self.boards[0].put(address, 1, 1)
            self.assertEqual(self.boards[1].elsewhere(address), 1)
            self.boards[0].put(address, 0, 0)
            self.assertEqual(self.boards[1].elsewhere(address), 0)

    def test_of_ten_thousand_addresses_hardly_one_finds_no_place(self) -> None:
        addresses = [f"10.0.{number // 256}.{number % 256}" for number in range(10_000)]
        for number, address in enumerate(addresses, 1):
            self.boards[0].put(address, 3, 3 * number)
        missed = sum(self.boards[1].elsewhere(address) != 3 for address in addresses)
        self.assertLess(missed, 50)
        self.assertEqual(self.boards[1].all_elsewhere(), 30_000)

    def test_one_that_has_ended_counts_no_more(self) -> None:
        self.boards[0].put("192.0.2.1", 5, 5)
        self.empty.wipe(0)
        self.assertEqual((self.boards[1].elsewhere("192.0.2.1"), self.boards[1].all_elsewhere()), (0, 0))

    def test_another_process_sees_it_too(self) -> None:
        handle = Handle(Board.make(2).handle.descriptor, 2, bytes(32))
        subprocess.run(
            [sys.executable, "-c", ELSEWHERE, str(handle.descriptor)],
            cwd=Path(mailbe.__file__).parents[1],
            pass_fds=[handle.descriptor],
            check=True,
        )
        ours = Board(handle, 0)
        self.assertEqual((ours.elsewhere("192.0.2.1"), ours.all_elsewhere()), (5, 7))

    def test_who_is_ahead_leaves_the_next_to_another_that_serves(self) -> None:
        one, two, _ = self.boards
        one.serve()
        one.put("192.0.2.1", 1000, 1000)
        self.assertFalse(one.is_ahead(), "who does not serve takes nobody")
        two.serve()
        one.put("192.0.2.1", 2, 2)
        self.assertTrue(one.is_ahead())
        two.put("192.0.2.1", 2, 2)
        self.assertFalse(one.is_ahead() or two.is_ahead())
        one.put("192.0.2.1", 90, 90)
        two.put("192.0.2.1", 80, 80)
        self.assertFalse(one.is_ahead(), "of many a few more are no reason")
        one.put("192.0.2.1", 3, 3)
        self.empty.wipe(1)
        self.assertFalse(one.is_ahead(), "nor does who has ended")

    @given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(0, 3))))
    def test_it_says_what_was_written_last(self, changes: list[tuple[int, int, int]]) -> None:
        self.patch(board, "BUCKETS", 8)  # so that places are used again
        for number in range(3):
            self.empty.wipe(number)
        kept: dict[tuple[int, int], int] = {}
        for number, address, count in changes:
            self.boards[number].put(f"10.0.0.{address}", count, 0)
            kept[number, address] = count
        for address in range(31):
            counts = [kept.get((number, address), 0) for number in range(3)]
            for number, one in enumerate(self.boards):
                self.assertLessEqual(one.elsewhere(f"10.0.0.{address}"), sum(counts) - counts[number])
                if len(changes) <= board.WAYS:
                    self.assertEqual(one.elsewhere(f"10.0.0.{address}"), sum(counts) - counts[number])
