"""The wire: order, waiting, silence, clients that do not read, clients that go, and the end."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailbe import limits
from mailbe.conversation import CLOSING_TIME, MAX_LINE, UNHEARD, Conversation
from mailbe.interfaces import TryLater
from mailbe.limits import Limits
from mailbe.listener import Listener
from mailbe.session import Farewell, ISession, Refusal, Reply
from mailbe.smtp.incoming import Chunk
from mailbe.smtp.session import Session
from tests.dialogue import Stage, Transport
from tests.fakes import FakeTls

DATA = b"HELO me\r\nMAIL FROM:<s@example>\r\nRCPT TO:<bob@localhost>\r\nDATA\r\n"


@implementer(ISession)
class Echo:
    """A session for these tests: it answers each line with the line, or as the line says."""

    silence = 60
    patience = 1000
    idle_commands = 500
    fault = Reply(b"fault\r\n")
    refusals = {TryLater: Reply(b"later\r\n")}
    farewells = {why: why.name.encode() + b"\r\n" for why in Farewell}

    def __init__(self, wire: Conversation) -> None:
        self.wire = wire
        self.slow: list[Deferred[bytes]] = []
        self.has_ended = 0
        self.closed_chunks = False

    def greeting(self) -> Reply:
        return Reply(b"hello\r\n")

    def answer(self, line: bytes) -> Reply | Coroutine[Any, Any, Reply]:
        word, _, rest = line.partition(b" ")
        answers: dict[bytes, Any] = {
            b"slow": self._slow,
            b"ask": self._ask,
            b"slow-ask": self._slow_ask,
            b"chunks": lambda: Reply(self._chunks(int(rest))),
            b"broken-chunks": lambda: Reply(self._broken_chunks()),
            b"big": lambda: Reply(b"x" * int(rest)),
            b"refuse": self._refuse,
            b"wrong": lambda: Reply(b"wrong\r\n", error=True),
            b"effect": lambda: Reply(b"done\r\n", effect=True),
            b"chunk": self._chunk,
            b"later": self._later,
            b"bug": lambda: 1 / 0,
            b"quit": lambda: Reply(b"bye\r\n", last=True),
        }
        answer: Reply | Coroutine[Any, Any, Reply] = answers.get(word, lambda: Reply(line + b"\r\n"))()
        return answer

    def secured(self) -> None:
        self.was_secured = True

    def ended(self) -> None:
        self.has_ended += 1

    async def _slow(self) -> Reply:
        deferred: Deferred[bytes] = Deferred()
        self.slow.append(deferred)
        return Reply(await deferred + b"\r\n")

    async def _ask(self) -> Reply:
        return Reply(b"you said " + await self.wire.ask(Reply(b"what?\r\n")) + b"\r\n")

    async def _chunk(self) -> Reply:
        await self.wire.ask(None, Chunk(1, lambda _octets: None))
        return Reply(b"taken\r\n")

    async def _slow_ask(self) -> Reply:
        await self._slow()
        return await self._ask()

    def _chunks(self, count: int) -> Iterator[bytes]:
        try:
            for number in range(count):
                yield b"%d\r\n" % number
        finally:
            self.closed_chunks = True

    def _broken_chunks(self) -> Iterator[bytes]:
        yield b"one\r\n"
        raise OSError("disk")

    def _refuse(self) -> Reply:
        raise Refusal(Reply(b"no\r\n"))

    def _later(self) -> Reply:
        raise TryLater("the disk")


class WireCase(SynchronousTestCase):
    limits = Limits(errors=3)

    def setUp(self) -> None:
        self.clock = Clock()
        self.turns = limits.Turns(self.clock)
        self.listener = Listener(Echo, self.clock, self.limits, limits.Places(self.limits, 100), self.turns)
        self.connect()

    def connect(self, peer: IAddress | None = None) -> None:
        self.transport = Transport(peerAddress=peer)
        self.writes: list[bytes] = []
        real = self.transport.write
        self.patch(self.transport, "write", lambda octets: self.writes.append(octets) or real(octets))
        self.wire = self.listener.buildProtocol(None)
        self.wire.makeConnection(self.transport)

    @property
    def session(self) -> Echo:
        session: Any = self.wire.session
        assert isinstance(session, Echo)
        return session

    def say(self, octets: bytes) -> None:
        self.wire.dataReceived(octets)

    def heard(self) -> bytes:
        heard, self.writes[:] = b"".join(self.writes), []
        return heard

    def lose(self) -> None:
        self.wire.connectionLost(None)

    @property
    def reading(self) -> bool:
        return self.transport.producerState == "producing"


class Order(WireCase):
    def test_the_replies_to_one_segment_leave_in_one_write(self) -> None:
        self.heard()
        self.say(b"a\r\nb\r\nc\r\n")
        self.assertEqual(self.writes, [b"a\r\nb\r\nc\r\n"])

    def test_what_stands_behind_a_slow_command_waits_and_nothing_more_is_read(self) -> None:
        self.heard()
        self.say(b"slow\r\nb\r\n")
        self.assertEqual((self.heard(), self.reading), (b"", False))
        self.session.slow[0].callback(b"a")
        self.assertEqual((self.heard(), self.reading), (b"a\r\nb\r\n", True))

    def test_the_transport_is_told_to_read_no_more_when_somebody_sends_ahead_and_only_then(self) -> None:
        self.say(b"slow\r\n")
        self.heard()
        self.assertTrue(self.reading)
        self.say(b"b\r\n")
        self.assertEqual((self.heard(), self.reading), (b"", False))
        self.session.slow[0].callback(b"a")
        self.assertEqual((self.heard(), self.reading), (b"a\r\nb\r\n", True))

    def test_slow_commands_in_a_row_are_answered_in_their_order(self) -> None:
        self.heard()
        self.say(b"slow\r\nslow\r\nc\r\n")
        self.assertEqual(len(self.session.slow), 1)
        self.session.slow[0].callback(b"a")
        self.session.slow[1].callback(b"b")
        self.assertEqual(self.heard(), b"a\r\nb\r\nc\r\n")

    def test_a_question_is_answered_by_the_next_line(self) -> None:
        self.heard()
        self.say(b"ask\r\nthis\r\nb\r\n")
        self.assertEqual((self.heard(), self.reading), (b"what?\r\nyou said this\r\nb\r\n", True))

    def test_a_question_may_come_after_waiting(self) -> None:
        for segments in ([b"slow-ask\r\nthis\r\nb\r\n"], [b"slow-ask\r\n", b"this\r\n", b"b\r\n"]):
            self.connect()
            self.heard()
            self.say(segments[0])
            self.session.slow[0].callback(b"")
            for segment in segments[1:]:
                self.say(segment)
            self.assertEqual((self.heard(), self.reading), (b"what?\r\nyou said this\r\nb\r\n", True))

    def test_errors_become_replies(self) -> None:
        self.heard()
        self.say(b"refuse\r\nlater\r\nbug\r\nb\r\n")
        self.assertEqual(self.heard(), b"no\r\nlater\r\nfault\r\nb\r\n")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_what_follows_the_last_reply_is_not_obeyed(self) -> None:
        self.heard()
        self.say(b"quit\r\nb\r\n")
        self.say(b"c\r\n")
        self.assertEqual((self.heard(), self.transport.disconnecting), (b"bye\r\n", True))

    def test_sessions_are_what_a_wire_needs(self) -> None:
        verifyObject(ISession, self.session)
        for words in (["smtp"], ["pop3"]):
            verifyObject(ISession, Stage(words).wire.session)
        stage = Stage(["pop3"])
        stage.wire.dataReceived(b"USER alice\r\nPASS secret\r\n")
        verifyObject(ISession, stage.wire.session)


class Channel(WireCase):
    def test_its_bindings_are_worked_out_once_and_not_before_there_are_any(self) -> None:
        found: list[dict[str, bytes]] = [{}, {"tls-exporter": b"channel"}]
        self.listener.tls = FakeTls()
        self.patch(self.listener.tls, "channel_binding", lambda transport: found.pop(0))
        self.assertEqual(self.wire.channel_binding, {})
        self.assertEqual(len(found), 2)  # nobody was asked, as there is no TLS
        self.wire.secure = True
        for wanted in ({}, {"tls-exporter": b"channel"}, {"tls-exporter": b"channel"}):
            self.assertEqual(self.wire.channel_binding, wanted)


class Silence(WireCase):
    def test_a_silent_client_is_told_and_left(self) -> None:
        self.heard()
        self.clock.advance(61)
        self.assertEqual((self.heard(), self.transport.disconnecting), (b"SILENCE\r\n", True))

    def test_our_own_work_is_no_silence(self) -> None:
        self.say(b"slow\r\n")
        self.clock.advance(1000)
        self.assertFalse(self.transport.disconnecting)
        self.session.slow[0].callback(b"a")
        self.clock.advance(59)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(2)
        self.assertTrue(self.transport.disconnecting)

    def test_a_client_that_does_not_read_our_last_words_is_cut_off(self) -> None:
        self.say(b"quit\r\n")
        self.clock.advance(CLOSING_TIME + 1)
        self.assertTrue(self.transport.aborted)

    def test_nothing_ticks_when_the_conversation_is_over(self) -> None:
        for last_words in (b"", b"quit\r\n", b"ask\r\n"):
            self.connect()
            self.say(last_words)
            self.lose()
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()][1:], [])


class Clogged(WireCase):
    """A client that does not read."""

    def test_is_not_read_from(self) -> None:
        self.heard()
        self.wire.pauseProducing()
        self.say(b"a\r\n")
        self.assertEqual((self.heard(), self.reading), (b"", False))
        self.wire.resumeProducing()
        self.assertEqual((self.heard(), self.reading), (b"a\r\n", True))

    def test_is_not_read_from_while_a_command_is_at_work_either(self) -> None:
        self.heard()
        self.say(b"slow\r\nb\r\n")
        self.wire.pauseProducing()
        self.session.slow[0].callback(b"a")
        self.assertEqual((self.heard(), self.reading), (b"a\r\n", False))
        self.wire.resumeProducing()
        self.assertEqual(self.heard(), b"b\r\n")

    def test_gets_no_more_than_it_takes(self) -> None:
        self.heard()
        self.wire.pauseProducing()
        self.wire.resumeProducing()
        real = self.transport.write
        self.patch(self.transport, "write", lambda octets: (real(octets), self.wire.pauseProducing()))
        self.say(b"chunks 3\r\nb\r\n")
        self.assertEqual(self.heard(), b"0\r\n")
        self.wire.resumeProducing()
        self.assertEqual(self.heard(), b"1\r\n")
        self.wire.resumeProducing()
        self.assertEqual(self.heard(), b"2\r\n")
        self.wire.resumeProducing()
        self.assertEqual(self.heard(), b"b\r\n")

    def test_does_not_make_us_hoard_replies(self) -> None:
        self.heard()
        self.say(b"big %d\r\nb\r\n" % Limits().memory)
        self.clock.advance(0)
        self.assertEqual([len(octets) for octets in self.writes], [Limits().memory, 3])

    def test_is_silent(self) -> None:
        self.wire.pauseProducing()
        self.clock.advance(61)
        self.assertTrue(self.transport.disconnecting)

    def test_is_cut_off_and_nothing_more_of_it_is_obeyed(self) -> None:
        real = self.transport.write
        self.patch(self.transport, "write", lambda octets: (real(octets), self.wire.pauseProducing()))
        self.say(b"chunks 3\r\nb\r\n")
        self.clock.advance(61)
        self.assertTrue(self.transport.aborted)
        self.heard()
        self.lose()
        self.assertEqual(self.heard(), b"")
        self.assertTrue(self.session.closed_chunks)
        self.assertEqual(self.session.has_ended, 1)


TURN = limits.Turns.COMMANDS


class Turns(WireCase):
    """Who says much at once, and the others."""

    def test_after_some_commands_the_others_have_their_turn(self) -> None:
        self.heard()
        self.say(b"a\r\n" * (2 * TURN + 1))
        self.assertEqual((self.heard(), self.reading), (b"a\r\n" * TURN, False))
        self.clock.advance(0)
        self.assertEqual((self.heard(), self.reading), (b"a\r\n" * (TURN + 1), True))

    def test_what_is_no_line_is_no_new_turn(self) -> None:
        self.heard()
        self.say(b"chunk\r\nx" * (2 * TURN))
        # The octet of the last one waits for the next turn.
        self.assertEqual((self.heard(), self.reading), (b"taken\r\n" * (TURN - 1), False))
        self.clock.advance(0)
        self.assertEqual((self.heard(), self.reading), (b"taken\r\n" * (TURN + 1), True))

    def test_of_a_crowd_few_have_their_turn_at_a_time(self) -> None:
        wires = [self.wire]
        for _ in range(9):
            self.connect()
            wires.append(self.wire)
        for wire in wires:
            wire.dataReceived(b"a\r\n" * (TURN + 1))
        for left in (6, 2, 0):
            self.clock.calls.pop(0).func()  # and not those that it leads to
            self.assertEqual(sum(wire.transport.producerState == "paused" for wire in wires), left)

    def test_a_reply_that_is_taken_as_fast_as_it_is_sent_lets_the_others_have_theirs(self) -> None:
        self.patch(limits.Turns, "OCTETS", 6)
        self.heard()
        self.say(b"chunks 4\r\nb\r\n")
        self.assertEqual(self.heard(), b"0\r\n1\r\n")
        self.clock.advance(0)
        self.assertEqual(self.heard(), b"2\r\n3\r\nb\r\n")

    def test_who_goes_before_a_reply_has_its_next_turn_is_sent_nothing_more(self) -> None:
        self.patch(limits.Turns, "OCTETS", 3)
        self.say(b"chunks 4\r\nb\r\n")
        self.lose()
        self.heard()
        self.clock.advance(0)
        self.assertEqual((self.heard(), self.session.has_ended, self.session.closed_chunks), (b"", 1, True))

    def test_long_replies_are_soon_a_turn(self) -> None:
        self.heard()
        self.say(b"big 40000\r\n" * 3)
        self.assertEqual(len(self.heard()), 80000)
        self.clock.advance(0)
        self.assertEqual((len(self.heard()), self.reading), (40000, True))

    def test_a_client_that_says_little_at_a_time_has_all_the_turns_it_wants(self) -> None:
        for _ in range(2 * TURN):
            self.say(b"a\r\n")
        self.assertTrue(self.reading)

    def test_who_goes_before_its_turn_comes_again_is_not_obeyed_any_more(self) -> None:
        self.say(b"a\r\n" * (TURN + 1))
        self.lose()
        self.heard()
        self.clock.advance(0)
        self.assertEqual((self.heard(), self.session.has_ended), (b"", 1))


class Patience(WireCase):
    """Clients that nothing comes of."""

    def test_mistakes_have_an_end(self) -> None:
        self.say(b"wrong\r\n" * 3)
        self.heard()
        self.say(b"a\r\nb\r\n")
        self.assertEqual((self.heard(), self.transport.disconnecting), (b"NO_EFFECT\r\n", True))

    def test_commands_without_effect_have_an_end(self) -> None:
        for _ in range(500):
            self.say(b"a\r\n")
        self.heard()
        self.say(b"a\r\n")
        self.assertEqual((self.heard(), self.transport.disconnecting), (b"NO_EFFECT\r\n", True))

    def test_an_effect_makes_up_for_what_was_before(self) -> None:
        for _ in range(10):
            self.say(b"wrong\r\n" * 2 + b"effect\r\n" + b"a\r\n" * 400 + b"effect\r\n")
            while not self.reading:
                self.clock.advance(0)
        self.assertFalse(self.transport.disconnecting)

    def test_what_we_cannot_help_is_no_mistake_of_the_client(self) -> None:
        self.say(b"later\r\n" * 10)
        self.assertFalse(self.transport.disconnecting)

    def test_an_octet_now_and_then_is_silence(self) -> None:
        self.heard()
        for _ in range(60):
            self.say(b"a")
            self.clock.advance(1)
        self.assertEqual((self.heard(), self.transport.disconnecting), (b"SILENCE\r\n", True))

    def test_a_line_now_and_then_has_an_end(self) -> None:
        for _ in range(25):
            self.clock.advance(40)
            self.say(b"a\r\n")
        self.heard()
        self.clock.advance(1)
        self.say(b"a\r\n")
        self.assertEqual((self.heard(), self.transport.disconnecting), (b"TOO_SLOW\r\n", True))


class Places(WireCase):
    """More connections than there are places for."""

    limits = Limits(connections_per_address=2)

    def test_one_too_many_is_told_so_and_hung_up_on(self) -> None:
        self.connect()
        self.heard()
        self.connect()
        self.assertEqual((self.heard(), self.transport.disconnecting), (b"NO_PLACE\r\n", True))
        self.say(b"a\r\n")
        self.assertEqual(self.heard(), b"")

    def test_who_goes_makes_place_and_who_was_turned_away_does_not(self) -> None:
        first = self.wire
        self.connect()
        self.connect()
        self.lose()
        self.connect()
        self.assertEqual(self.heard(), b"NO_PLACE\r\n")
        self.lose()
        first.connectionLost(None)
        self.connect()
        self.assertEqual(self.heard(), b"hello\r\n")

    def test_who_would_have_to_shake_hands_first_is_cut_off(self) -> None:
        stage = Stage(["implicit"])
        for _ in range(75):  # of 100 descriptors
            stage.connect()
        self.assertTrue(stage.transport.aborted)


@implementer(ITCPTransport)
class HalfCloseable(Transport):
    """A transport whose writing end can be closed alone."""

    half_closed = False

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


class LastWords(SynchronousTestCase):
    """A client that goes on sending must be able to read why we hang up: a closed socket answers with a reset."""

    def setUp(self) -> None:
        self.stage = Stage(["strict"], transport=HalfCloseable)
        self.stage.wire.dataReceived(b"x" * MAX_LINE)

    def test_only_our_end_is_closed(self) -> None:
        self.assertIn(b"500 5.5.2", self.stage.hear())
        self.assertTrue(self.stage.transport.half_closed)
        self.assertFalse(self.stage.transport.disconnecting)
        self.stage.wire.dataReceived(b"x" * UNHEARD)
        self.assertFalse(self.stage.transport.aborted)
        self.stage.wire.readConnectionLost()
        self.assertTrue(self.stage.transport.disconnecting)

    def test_who_never_stops_is_cut_off(self) -> None:
        self.stage.wire.dataReceived(b"x" * UNHEARD)
        self.stage.wire.dataReceived(b"x")
        self.assertTrue(self.stage.transport.aborted)

    def test_who_never_closes_is_cut_off(self) -> None:
        self.stage.clock.advance(CLOSING_TIME)
        self.assertTrue(self.stage.transport.aborted)

    def test_a_service_that_stops_does_not_wait_for_it(self) -> None:
        self.stage.listener.wind_up(4)
        self.assertTrue(self.stage.transport.aborted)

    def test_so_may_who_sends_octets_that_nobody_can_count(self) -> None:
        stage = Stage([], transport=HalfCloseable)
        stage.wire.dataReceived(b"EHLO me\r\nBDAT many\r\n" + b"x" * 1000)
        self.assertIn(b"501 5.5.4", stage.hear())
        self.assertEqual((stage.transport.half_closed, stage.transport.disconnecting), (True, False))
        stage.wire.dataReceived(b"\r\nNOOP\r\n" * 100)
        self.assertEqual(stage.hear(), b"")


class LongReplies(WireCase):
    def test_go_out_in_order_with_the_others(self) -> None:
        self.heard()
        self.say(b"a\r\nchunks 3\r\nb\r\n")
        self.assertEqual(self.heard(), b"a\r\n0\r\n1\r\n2\r\nb\r\n")

    def test_that_cannot_be_sent_to_their_end_are_not_ended(self) -> None:
        self.heard()
        self.say(b"broken-chunks\r\nb\r\n")
        self.say(b"c\r\n")
        self.assertEqual((self.heard(), self.transport.aborted), (b"one\r\n", True))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)


class Leaving(WireCase):
    """A client that goes."""

    def test_while_we_wait_for_it_ends_the_command_and_logs_nothing(self) -> None:
        self.say(b"ask\r\n")
        self.lose()
        self.assertEqual((self.session.has_ended, self.flushLoggedErrors()), (1, []))

    def test_while_we_work_lets_the_command_finish_first(self) -> None:
        self.say(b"slow\r\nb\r\n")
        self.lose()
        self.assertEqual(self.session.has_ended, 0)
        self.heard()
        self.session.slow[0].callback(b"a")
        self.assertEqual((self.session.has_ended, self.heard()), (1, b""))

    def test_that_says_nothing_more_may_still_be_listening(self) -> None:
        # printf … | nc: all is said, and the client's end is shut, before the first reply
        self.heard()
        self.say(b"a\r\nslow\r\n")
        self.wire.readConnectionLost()
        self.assertEqual((self.heard(), self.transport.disconnecting), (b"a\r\n", False))
        self.session.slow[0].callback(b"b")
        self.assertEqual((self.heard(), self.transport.disconnecting), (b"b\r\n", True))
        self.wire.readConnectionLost()
        self.wire.writeConnectionLost()
        self.lose()
        self.assertEqual(self.session.has_ended, 1)

    def test_that_says_nothing_more_is_answered_when_the_others_had_their_turn(self) -> None:
        self.heard()
        self.say(b"a\r\n" * TURN)
        self.wire.readConnectionLost()
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(0)
        self.assertEqual((self.heard(), self.transport.disconnecting), (b"a\r\n" * TURN, True))

    def test_while_we_work_is_asked_nothing_more(self) -> None:
        self.say(b"slow-ask\r\n")
        self.lose()
        self.session.slow[0].callback(b"")
        self.assertEqual((self.session.has_ended, self.flushLoggedErrors()), (1, []))

    def test_does_not_stop_a_letter_that_has_arrived(self) -> None:
        stage = Stage([], slow=True)
        stage.wire.dataReceived(DATA + b"Hello\r\n.\r\n")
        stage.lose()
        self.assertEqual(stage.letters("bob@localhost"), [])
        stage.hear()
        self.assertEqual(len(stage.letters("bob@localhost")), 1)

    def test_while_the_maildrop_is_being_opened_lets_it_go_again(self) -> None:
        stage = Stage(["pop3"], slow=True)
        stage.wire.dataReceived(b"USER alice\r\nPASS secret\r\n")
        stage.lose()
        stage.hear()
        self.assertFalse(stage.world.reception["alice@localhost"].busy)

    def test_lets_the_maildrop_go(self) -> None:
        stage = Stage(["pop3"])
        stage.wire.dataReceived(b"USER alice\r\nPASS secret\r\n")
        self.assertTrue(stage.world.reception["alice@localhost"].busy)
        stage.lose()
        self.assertFalse(stage.world.reception["alice@localhost"].busy)

    def test_behind_quit_does_not_stop_the_deletion(self) -> None:
        stage = Stage(["pop3", "mail"], slow=True)
        stage.wire.dataReceived(b"USER alice\r\nPASS secret\r\nDELE 1\r\n")
        stage.hear()
        stage.wire.dataReceived(b"QUIT\r\n")
        stage.lose()
        self.assertTrue(stage.world.reception["alice@localhost"].busy)
        stage.hear()
        self.assertEqual(len(stage.letters("alice@localhost")), 1)
        self.assertFalse(stage.world.reception["alice@localhost"].busy)


class Stopping(WireCase):
    """The service stops."""

    def stop(self) -> Deferred[None]:
        self.heard()
        return self.listener.wind_up(4)

    def test_who_is_idle_is_told(self) -> None:
        ended = self.stop()
        self.assertEqual((self.heard(), self.transport.disconnecting), (b"SHUTDOWN\r\n", True))
        self.assertNoResult(ended)
        self.lose()
        self.successResultOf(ended)
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])

    def test_a_command_that_is_at_work_is_answered_first(self) -> None:
        self.say(b"slow\r\nb\r\n")
        self.stop()
        self.assertEqual(self.heard(), b"")
        self.session.slow[0].callback(b"a")
        self.assertEqual((self.heard(), self.transport.disconnecting), (b"a\r\nSHUTDOWN\r\n", True))

    def test_a_long_reply_is_sent_to_its_end(self) -> None:
        self.wire.pauseProducing()
        self.say(b"")
        real = self.transport.write
        self.wire.resumeProducing()
        self.patch(self.transport, "write", lambda octets: (real(octets), self.wire.pauseProducing()))
        self.say(b"chunks 2\r\n")
        self.stop()
        self.wire.resumeProducing()
        self.wire.resumeProducing()
        self.assertEqual((self.heard(), self.transport.disconnecting), (b"1\r\nSHUTDOWN\r\n", True))

    def test_nobody_is_waited_for_who_was_asked_a_question(self) -> None:
        self.say(b"ask\r\n")
        self.stop()
        self.assertEqual((self.heard(), self.transport.disconnecting), (b"SHUTDOWN\r\n", True))

    def test_a_letter_on_its_way_is_finished(self) -> None:
        stage = Stage([])
        stage.wire.dataReceived(DATA + b"Hello\r\n")
        stage.hear()
        stage.listener.wind_up(4)
        self.assertFalse(stage.transport.disconnecting)
        stage.wire.dataReceived(b".\r\nNOOP\r\n")
        heard = stage.hear().split(b"\r\n")
        self.assertEqual([line[:9] for line in heard], [b"250 2.0.0", b"421 4.3.2", b""])
        self.assertEqual(len(stage.letters("bob@localhost")), 1)

    def test_who_takes_too_long_is_cut_off(self) -> None:
        self.say(b"slow\r\n")
        ended = self.stop()
        self.clock.advance(5)
        self.assertTrue(self.transport.aborted)
        self.lose()
        self.successResultOf(ended)  # the command may still be at work, but nobody waits for it
        self.session.slow[0].callback(b"a")
        self.assertEqual(self.session.has_ended, 1)

    def test_a_handshake_is_not_waited_for(self) -> None:
        stage = Stage(["implicit"])
        stage.listener.wind_up(4)
        self.assertTrue(stage.transport.aborted)

    def test_nobody_there_is_nobody_to_wait_for(self) -> None:
        self.lose()
        self.successResultOf(self.stop())


class Peers(WireCase):
    def test_only_this_machine_is_private(self) -> None:
        for peer, name, private in (
            (IPv4Address("TCP", "127.0.0.1", 1), "127.0.0.1", True),
            (IPv4Address("TCP", "127.9.9.9", 1), "127.9.9.9", True),
            (IPv4Address("TCP", "192.0.2.1", 1), "192.0.2.1", False),
            (IPv6Address("TCP", "::1", 1), "::1", True),
            (IPv6Address("TCP", "::ffff:127.0.0.1", 1), "127.0.0.1", True),
            (IPv6Address("TCP", "::ffff:192.0.2.1", 1), "192.0.2.1", False),
            (IPv6Address("TCP", "fe80::1%eth0", 1), "fe80::1", False),
            (UNIXAddress(None), "", True),
        ):
            self.connect(peer)
            self.assertEqual((self.wire.peer, self.wire.private), (name, private))

    def test_the_peers_address_goes_with_its_log_in_and_into_the_trace(self) -> None:
        stage = Stage([])
        stage.wire.dataReceived(b"HELO me\r\nAUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n")
        self.assertIsInstance(stage.wire.session, Session)
        self.assertEqual(stage.checker.peers, ["127.0.0.1"])
        stage.wire.dataReceived(DATA.replace(b"s@example", b"alice@localhost") + b"Hello\r\n.\r\n")
        (letter,) = stage.letters("bob@localhost")
        lines = letter.split(b"\r\n")
        self.assertEqual(lines[:2], [b"Return-Path: <alice@localhost>", b"Received: from me ([127.0.0.1])"])
        self.assertEqual(lines[2:4], [b"\tby mail.test with SMTP id letter1", b"\tfor <bob@localhost>;"])
        self.assertEqual(lines[-2:], [b"Hello", b""])

    def test_the_trace_says_how_the_letter_came(self) -> None:
        # RFC 3848
        for before, keyword in (
            (b"HELO me\r\n", b"SMTP"),
            (b"EHLO me\r\n", b"ESMTP"),
            (b"EHLO me\r\nAUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n", b"ESMTPA"),
            (b"LHLO me\r\n", b"LMTP"),
        ):
            stage = Stage(["lmtp"] if b"LHLO" in before else [])
            mail = b"MAIL FROM:<>\r\nRCPT TO:<bob@localhost>\r\nRCPT TO:<alice@localhost>\r\nDATA\r\n.\r\n"
            stage.wire.dataReceived(before + mail)
            (letter,) = stage.letters("bob@localhost")
            self.assertIn(b" with " + keyword + b" id letter1;\r\n", letter)

    def test_and_whether_it_is_of_utf8(self) -> None:
        # RFC 6531 4.3
        for words, before, keyword in (
            ("", b"EHLO me\r\n", b"UTF8SMTP"),
            ("", b"EHLO me\r\nAUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n", b"UTF8SMTPA"),
            ("implicit", b"EHLO me\r\n", b"UTF8SMTPS"),
            ("implicit lmtp", b"LHLO me\r\n", b"UTF8LMTPS"),
        ):
            stage = Stage(words.split())
            stage.wire.dataReceived(
                before + b"MAIL FROM:<> SMTPUTF8\r\nRCPT TO:<j\xc3\xb6rg@localhost>\r\nDATA\r\n.\r\n"
            )
            (letter,) = stage.letters("jörg@localhost")
            self.assertIn(b" with " + keyword + b" id letter1\r\n\tfor <j\xc3\xb6rg@localhost>;\r\n", letter)


class Pieces(SynchronousTestCase):
    """A letter by BDAT, over the wire."""

    def begin(self) -> Stage:
        stage = Stage(["strict"])
        stage.wire.dataReceived(b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<bob@localhost>\r\n")
        stage.hear()
        return stage

    def test_of_some_size_may_be_many(self) -> None:
        stage = self.begin()
        stage.wire.dataReceived((b"BDAT 1000\r\n" + b"x" * 998 + b"\r\n") * 50 + b"BDAT 0 LAST\r\n")
        self.assertEqual(stage.hear().count(b"250 2.0.0 "), 51)
        self.assertEqual(len(stage.letters("bob@localhost")), 1)

    def test_of_next_to_nothing_are_commands_without_effect(self) -> None:
        stage = self.begin()
        stage.wire.dataReceived(b"BDAT 0\r\n" * 10)
        said = stage.hear()
        self.assertEqual((said.count(b"250 2.0.0 "), said.count(b"421 4.7.0 ")), (4, 1))

    def test_end_with_the_service_when_the_piece_is_there(self) -> None:
        stage = self.begin()
        stage.wire.dataReceived(b"BDAT 10\r\nabc")
        stage.listener.wind_up(4)
        self.assertFalse(stage.transport.disconnecting)
        stage.wire.dataReceived(b"defghij")
        self.assertRegex(stage.hear(), rb"\A250 2\.0\.0 10 [^\r]+\r\n421 4\.3\.2 [^\r]+\r\n\Z")
        self.assertTrue(stage.transport.disconnecting)

    def test_are_forgotten_where_the_letter_cannot_be_begun(self) -> None:
        stage = self.begin()
        office = stage.wire.session._office  # type: ignore[attr-defined]
        self.patch(office, "letter", lambda envelope: 1 / 0)
        stage.wire.dataReceived(b"BDAT 3\r\na\r\n")
        self.assertEqual(stage.hear()[:9], b"451 4.3.0")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        del office.letter
        stage.wire.dataReceived(b"BDAT 3 LAST\r\nb\r\n")
        self.assertEqual(stage.hear()[:9], b"503 5.5.1")
        self.assertEqual(stage.letters("bob@localhost"), [])
