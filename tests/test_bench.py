"""What the benchmark computes: CPU time out of /proc, medians, ratios and tables."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.meters import Times, family, family_ticks, parse_times
from bench.peers.mailbe import Mailbe
from bench.rows import ROWS, Idle, Row, Sample
from bench.table import Spread, costs, figure, markdown, rates, ratio

# proc(5): pid, name, state, parent, ... utime, stime, cutime, cstime are the fields 14 to 17.
STAT = (
    "4711 (a) b (c) S 42 4711 4711 0 -1 4194560 100 200 0 0 31 7 500 60 20 0 1 0 123456 1000 100 18446744073709551615"
)


class AccountingTests(SynchronousTestCase):
    """Without a control group."""

    def test_the_name_of_a_process_does_not_shift_its_fields(self) -> None:
        self.assertEqual(parse_times(STAT), Times(parent=42, own=38, children=560))

    def test_a_family_is_all_descendants_and_nobody_else(self) -> None:
        parents = {1: 0, 10: 1, 11: 10, 12: 11, 13: 12, 20: 1, 21: 20}
        self.assertEqual(family(parents, 10), [10, 11, 12, 13])

    def test_a_family_whose_first_has_gone_is_empty(self) -> None:
        self.assertEqual(family({1: 0, 11: 10}, 10), [])

    def test_children_who_have_died_count_once_and_strangers_do_not(self) -> None:
        times = {10: Times(1, 100, 30), 11: Times(10, 20, 4), 99: Times(1, 1000, 1000)}
        self.assertEqual(family_ticks(times, [10, 11]), 154)


class FigureTests(SynchronousTestCase):
    def test_the_median_is_shown_with_the_least_and_the_most(self) -> None:
        self.assertEqual(Spread.of([3.0, 1.0, 2.0]), Spread(2.0, 1.0, 3.0))
        self.assertEqual(str(Spread.of([0.304, 0.25, 1.5])), "0.30 (0.25–1.50)")  # noqa: RUF001

    def test_a_single_round_has_no_range(self) -> None:
        self.assertEqual(str(Spread.of([0.5])), "0.50")

    def test_three_digits_count(self) -> None:
        shown = [figure(value) for value in (12345.6, 154.2, 44.94, 1.614, 0.45, 0.02115, 0.0)]
        self.assertEqual(shown, ["12,346", "154", "44.9", "1.61", "0.45", "0.0211", "0"])

    def test_a_ratio_is_taken_within_each_round(self) -> None:
        """In the second round the machine was three times as slow, for both."""
        self.assertEqual(ratio([2.0, 6.0, 2.2], [1.0, 3.0, 1.0]), 2.0)


class TableTests(SynchronousTestCase):
    ROWS = (Row("S1", "one each"), Idle("I", "idle", "smtp"), Row("P1", "log in"))
    SAMPLES = {
        ("S1", "we"): [Sample(0.5, 1000.0), Sample(0.4, 1200.0), Sample(0.6, 900.0)],
        ("S1", "they"): [Sample(1.5, 400.0), Sample(1.6, 500.0), Sample(1.5, 450.0)],
        ("I", "we"): [Sample(4.0, 0.0)],
        ("P1", "they"): [Sample(0.9, 100.0)],
    }

    def test_each_cell_tells_the_ratio_to_the_first_server_of_the_same_row(self) -> None:
        lines = costs(self.ROWS, ["we", "they"], self.SAMPLES).splitlines()
        self.assertEqual(
            [cell.strip() for cell in lines[2].split("|")[1:-1]],
            [
                "S1: one each [CPU ms]",
                "0.50 (0.40–0.60)",  # noqa: RUF001
                "1.50 (1.50–1.60) = 3.00 x",  # noqa: RUF001
            ],
        )

    def test_who_was_not_measured_has_an_empty_cell_and_no_ratio(self) -> None:
        lines = costs(self.ROWS, ["we", "they"], self.SAMPLES).splitlines()
        cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[3:]]
        self.assertEqual(cells, [["I: idle [KiB]", "4.00", ""], ["P1: log in [CPU ms]", "", "0.90"]])

    def test_rows_that_are_not_timed_have_no_rate(self) -> None:
        lines = rates(self.ROWS, ["we", "they"], self.SAMPLES).splitlines()
        self.assertEqual([line.split("|")[1].strip() for line in lines[2:]], ["S1 [1/s]", "P1 [1/s]"])

    def test_columns_stand_one_below_the_other(self) -> None:
        lines = markdown(["a", "b"], [["long", "1"], ["x", "22"]]).splitlines()
        self.assertEqual(lines, ["| a    | b   |", "| ---- | --- |", "| long | 1   |", "| x    | 22  |"])


class RowTests(SynchronousTestCase):
    def test_mailbe_takes_part_in_every_row(self) -> None:
        self.assertTrue(all(Mailbe.suits(key) for key in ROWS))

    def test_no_two_rows_share_a_mailbox(self) -> None:
        """What one leaves behind would be in the way of the next; only who sends is the same."""
        users = [user for row in ROWS.values() for user in set(row.users) - {"sender"}]
        self.assertEqual(len(users), len(set(users)))
