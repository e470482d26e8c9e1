"""Log lines of what happens often: none is lost, none is late, and several share an event."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from mailbe.journal import Journal


class JournalTests(SynchronousTestCase):
    def test_the_lines_of_one_turn_share_an_event(self) -> None:
        clock = Clock()
        journal = Journal(clock)
        with capturedLogs() as events:
            journal.note("one {letter}")
            journal.note("another")
            self.assertEqual(events, [])
            clock.advance(0)
            journal.note("a third")
            clock.advance(0)
        self.assertEqual([formatEvent(event) for event in events], ["one {letter}\nanother", "a third"])
        self.assertEqual(clock.getDelayedCalls(), [])
