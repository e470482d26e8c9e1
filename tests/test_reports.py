"""Reports of what has become of a letter: who gets one, and what stands in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailbe.address import Address
from mailbe.interfaces import Deadline, Envelope, ILetter, MailboxFull, Quota, Recipient, TryLater
from mailbe.reports import MAX_HEADER, MAX_RETURNED, Fate, Reports
from mailbe.smtp.notifications import Witnessed
from tests.fakes import FakePostOffice, FakeSubmitter, World

ALICE, BOB, JOERG = Address("alice", "localhost"), Address("bob", "localhost"), Address("jörg", "localhost")
ALL = frozenset({"SUCCESS", "FAILURE", "DELAY"})
HEADER = b"Received: by mail.test\r\nSubject: =?utf-8?Q?=C3=89t=C3=A9?= at last\r\nMessage-ID: <1@me>\r\n"
LETTER = HEADER + b"\r\nThe body.\r\n"
NOW, ARRIVED = 1_000_000_000.0, 999_999_000.0


def fate(action: str = "delivered", address: Address = BOB, **of_recipient: Any) -> Fate:
    """What became of a letter to ``address``, of which the sender wants to know all."""
    status, text = {"delivered": ("2.1.5", ""), "failed": ("5.4.7", "too late"), "delayed": ("4.2.2", "full")}[action]
    return Fate(Recipient(address, cast(Any, None), **{"notify": ALL} | of_recipient), action, status, text)


class ReportTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(dict.fromkeys(("alice@localhost", "bob@localhost", "jörg@localhost"), b""))
        self.office = FakePostOffice(self.world)
        self.lines: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.lines.append)

    def send(self, *fates: Fate, envelope: Envelope | None = None, content: bytes = LETTER) -> bytes | None:
        """Have it reported; the letter that is then in alice's mailbox, or in the sender's."""
        self.lines.clear()
        envelope = envelope or Envelope(ALICE)
        chunks = (content[begin : begin + 1000] for begin in range(0, len(content), 1000))
        reports = Reports(self.office, "mail.test", lambda: NOW)
        sending = reports.send(envelope, "letter7", ARRIVED, fates, chunks)
        self.knows = self.successResultOf(Deferred.fromCoroutine(sending))
        drop = self.world.reception[str(envelope.reverse_path or ALICE)]
        letters = list(drop.letters.values())
        drop.letters.clear()
        self.assertLessEqual(len(letters), 1)
        return letters[0] if letters else None

    def parts(self, *fates: Fate, **of_letter: Any) -> tuple[EmailMessage, list[EmailMessage]]:
        report = self.send(*fates, **of_letter)
        assert report is not None
        return taken_apart(report)

    def line(self) -> str:
        """The only one in the log."""
        (event,) = self.lines
        return cast(str, event["log_format"]).format(**event)

    def test_it_says_to_people_what_has_become_of_what(self) -> None:
        report, (text, *_) = self.parts(fate(), fate("failed", Address("x", "localhost"), original="rfc822;x@y"))
        self.assertEqual(report["Subject"], "Your letter could not be delivered")
        self.assertEqual(report["From"], "Mail Delivery System <postmaster@localhost>")
        self.assertEqual(report["To"], "alice@localhost")
        self.assertEqual(parsedate_to_datetime(report["Date"]).timestamp(), NOW)
        said = text.get_content().replace("\r\n", "\n")
        self.assertIn("Subject: Été at last\n", said)
        self.assertIn(
            "could not be delivered to:\n\n    x@localhost, when you wrote to x@y\n        too late (5.4.7)", said
        )
        self.assertIn("in the mailbox of:\n\n    bob@localhost\n", said)

    def test_it_says_to_programs_what_has_become_of_what(self) -> None:
        envelope = Envelope(
            ALICE, id="order 66", hold="for;60", release=NOW, deadline=Deadline(NOW + 60, give_up=True, trace=False)
        )
        fates = fate("delayed", original="rfc822;Bob@Example"), fate("failed", Address("a b", "localhost"))
        _, (_, status, _) = self.parts(*fates, envelope=envelope)
        self.assertEqual(status.get_content_type(), "message/delivery-status")
        of_letter, failed, delayed = cast(list[EmailMessage], status.get_payload())
        self.assertEqual(of_letter["Original-Envelope-Id"], "order 66")
        self.assertEqual(of_letter["Reporting-MTA"], "dns; mail.test")
        self.assertEqual(parsedate_to_datetime(of_letter["Arrival-Date"]).timestamp(), ARRIVED)
        self.assertEqual(parsedate_to_datetime(of_letter["Deliver-By-Date"]).timestamp(), NOW + 60)
        self.assertEqual(of_letter["Future-Release-Request"], "for;60")
        self.assertNotIn("Original-Recipient", failed)
        self.assertEqual(failed["Final-Recipient"], 'rfc822; "a b"@localhost')
        self.assertEqual((failed["Action"], failed["Status"]), ("failed", "5.4.7"))
        self.assertEqual(failed["Diagnostic-Code"], "x-mailbe; too late")
        self.assertEqual(delayed["Original-Recipient"], "rfc822;Bob@Example")
        self.assertEqual(delayed["Action"], "delayed")
        self.assertEqual(parsedate_to_datetime(delayed["Last-Attempt-Date"]).timestamp(), NOW)
        self.assertEqual(delayed["Final-Log-Id"], "letter7")

    def test_what_was_not_said_does_not_stand_there(self) -> None:
        _, (_, status, _) = self.parts(fate())
        of_letter, of_bob = cast(list[EmailMessage], status.get_payload())
        self.assertEqual(of_letter.keys(), ["Reporting-MTA", "Arrival-Date"])
        self.assertEqual(of_bob.keys(), ["Final-Recipient", "Action", "Status", "Last-Attempt-Date", "Final-Log-Id"])

    def test_it_is_an_answer_of_a_machine_to_that_letter(self) -> None:
        report, _ = self.parts(fate())
        self.assertEqual(report["Auto-Submitted"], "auto-replied")
        self.assertEqual(report["In-Reply-To"], "<1@me>")
        self.assertEqual(report["References"], "<1@me>")
        self.assertEqual(report["Return-Path"], "<>")
        other, _ = self.parts(fate(), content=b"Message-ID: nonsense\r\n\r\n")
        self.assertNotIn("In-Reply-To", other)
        self.assertNotEqual(report["Message-ID"], other["Message-ID"])

    def test_only_who_wants_to_know_is_told(self) -> None:
        never, unsaid = frozenset[str](), None
        for action, wish in (("delivered", "SUCCESS"), ("failed", "FAILURE"), ("delayed", "DELAY")):
            for notify in (never, unsaid, *(frozenset({word}) for word in ALL)):
                told = wish in notify if notify is not None else action != "delivered"
                self.assertEqual(self.send(fate(action, notify=notify)) is not None, told, f"{action} {notify}")
                self.assertTrue(self.knows)

    def test_of_those_whom_nobody_wants_to_know_of_nothing_is_told(self) -> None:
        report = self.send(fate(), fate(address=JOERG, notify=frozenset({"FAILURE"})))
        assert report is not None
        self.assertNotIn("jörg".encode(), report)

    def test_there_is_no_report_to_nobody(self) -> None:
        self.assertIsNone(self.send(fate("failed"), envelope=Envelope(None)))

    def test_it_is_a_letter_of_nobody_so_there_is_no_report_of_it(self) -> None:
        self.assertIn(
            b"Return-Path: <>\r\n", self.send(fate(), envelope=Envelope(ALICE, FakeSubmitter(ALICE, self.world))) or b""
        )
        self.assertFalse(self.world.envoi["alice@localhost"].letters)

    def test_the_header_comes_back_and_the_whole_letter_only_if_it_failed_and_was_wanted(self) -> None:
        for action, whole, kind, content in (
            ("delivered", False, "text/rfc822-headers", HEADER),
            ("delivered", True, "text/rfc822-headers", HEADER),
            ("delayed", True, "text/rfc822-headers", HEADER),
            ("failed", False, "text/rfc822-headers", HEADER),
            ("failed", True, "message/rfc822", LETTER),
        ):
            report = self.send(fate(action), envelope=Envelope(ALICE, whole=whole))
            assert report is not None
            self.assertIn(f"\r\nContent-Type: {kind}\r\n\r\n".encode() + content + b"\r\n--", report)

    def test_of_a_large_letter_only_the_header_comes_back(self) -> None:
        large = LETTER + b"x" * 2 * MAX_RETURNED
        taken = 0

        def content() -> Iterator[bytes]:
            nonlocal taken
            for begin in range(0, len(large), 10_000):
                taken += 1
                yield large[begin : begin + 10_000]

        reports = Reports(self.office, "mail.test", lambda: NOW)
        envelope = Envelope(ALICE, whole=True)
        sending = reports.send(envelope, "letter7", ARRIVED, [fate("failed")], content())
        self.successResultOf(Deferred.fromCoroutine(sending))
        (report,) = self.world.reception["alice@localhost"].letters.values()
        self.assertIn(b"text/rfc822-headers\r\n\r\n" + HEADER + b"\r\n--", report)
        self.assertLess(taken * 10_000, MAX_RETURNED + 20_000)

    def test_a_header_without_end_is_cut_behind_a_line(self) -> None:
        report = self.send(fate(), content=HEADER + b"X: y\r\n" * MAX_HEADER)
        assert report is not None
        self.assertIn(b"X: y\r\n\r\n--", report)
        self.assertLess(len(report), MAX_HEADER + 5000)

    def test_utf8_stands_as_it_is_where_it_belongs(self) -> None:
        header = "Subject: Été\r\nFrom: <jörg@localhost>\r\n".encode()
        envelope = Envelope(JOERG, whole=True, utf8=True)
        report = self.send(fate("failed", JOERG, original="utf-8;Jörg@x"), envelope=envelope, content=header + b"\r\n")
        assert report is not None
        message, (text, status, returned) = taken_apart(report)
        self.assertEqual(message["Content-Transfer-Encoding"], "8bit")
        self.assertIn("To: <jörg@localhost>\r\n".encode(), report)
        self.assertIn("    jörg@localhost, when you wrote to Jörg@x\r\n", text.get_content())
        self.assertEqual(status.get_content_type(), "message/global-delivery-status")
        self.assertIn("\r\nOriginal-Recipient: utf-8;Jörg@x\r\n".encode(), report)
        self.assertIn("\r\nFinal-Recipient: utf-8; jörg@localhost\r\n".encode(), report)
        self.assertEqual(returned.get_content_type(), "message/global")
        _, (_, _, headers) = self.parts(fate(), envelope=replace(envelope), content=header + b"\r\n")
        self.assertEqual(headers.get_content_type(), "message/global-headers")

    def test_without_utf8_it_is_ascii(self) -> None:
        report = self.send(fate("failed"), content=LETTER)
        assert report is not None
        _, (text, status, returned) = taken_apart(report)
        # The subject is told as people read it.
        self.assertEqual(text["Content-Transfer-Encoding"], "8bit")
        self.assertNotIn("Content-Transfer-Encoding", status)
        self.assertNotIn("Content-Transfer-Encoding", returned)
        plain = self.send(fate("failed"), content=b"Subject: one\r\n\r\n")
        assert plain is not None
        self.assertTrue(plain.isascii())
        self.assertNotIn(b"Content-Transfer-Encoding", plain)

    def test_what_turns_a_line_round_is_not_shown_to_people(self) -> None:
        turned = "bob+\u202egpj.exe"
        given = fate(address=Address(turned, "localhost"), original="utf-8;\u2066x\u200b@y")
        _, (text, status, _) = self.parts(given, content=b"Subject: =?utf-8?q?=E2=80=AEx?=\r\n\r\n")
        self.assertIn("    Subject: ?x\r\n", text.get_content())
        self.assertIn("    bob+?gpj.exe@localhost, when you wrote to ?x?@y\r\n", text.get_content())
        self.assertIn(turned, status.as_bytes().decode())  # programs compare it

    def test_a_field_is_found_by_its_whole_name_in_any_case_and_form(self) -> None:
        header = b"X-Subject: no\r\nSUBJECT\t:\r\n at\r\n\tlast\r\nsubject: no\r\nmessage-Id: <1@me>\r\n"
        content = header + b"\r\nMessage-ID: <2@me>\r\n"
        report, (text, *_) = self.parts(fate("failed"), envelope=Envelope(ALICE, whole=True), content=content)
        self.assertIn("    Subject: at last\r\n", text.get_content())
        self.assertEqual(report["In-Reply-To"], "<1@me>")

    def test_a_header_that_no_header_should_be_comes_back_encoded(self) -> None:
        for header in (b"Subject: caf\xe9\r\n", b"X: " + b"x" * 1000 + b"\r\n", b"X: \0\r\n"):
            report, (_, _, returned) = self.parts(fate(), content=header + b"\r\n")
            self.assertEqual(returned.get_content_type(), "text/rfc822-headers")
            self.assertEqual(returned["Content-Transfer-Encoding"], "quoted-printable")
            self.assertEqual(returned.get_payload(decode=True), header)
            self.assertNotIn(b"\0", bytes(report))

    def test_a_letter_of_other_octets_comes_back_as_it_is(self) -> None:
        letter = b"Subject: caf\xe9\r\n\r\n\xff\r\n"
        report = self.send(fate("failed"), envelope=Envelope(ALICE, whole=True), content=letter)
        assert report is not None
        self.assertIn(b"message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + letter + b"\r\n--", report)

    def test_a_host_without_a_domain_is_not_said_to_be_in_the_dns(self) -> None:
        reports = Reports(self.office, "localhost", lambda: NOW)
        self.successResultOf(
            Deferred.fromCoroutine(reports.send(Envelope(ALICE), "letter7", ARRIVED, [fate()], [LETTER]))
        )
        (report,) = self.world.reception["alice@localhost"].letters.values()
        self.assertIn(b"\r\nReporting-MTA: x-local-hostname; localhost\r\n", report)

    @given(st.binary(max_size=300), st.text(st.characters(max_codepoint=127), max_size=20))
    def test_whatever_stands_in_the_letter_the_report_is_one(self, content: bytes, text: str) -> None:
        content = b"Subject: " + content.replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n\r\n"
        given = replace(fate("failed"), text=text)
        message, parts = self.parts(given, content=content)
        self.assertEqual(message.get_content_type(), "multipart/report")
        self.assertEqual(len(parts), 3)
        self.assertEqual(message.defects, [])
        _, of_bob = cast(list[EmailMessage], parts[1].get_payload())
        self.assertEqual(of_bob["Action"], "failed")
        self.assertFalse(self.flushLoggedErrors())

    def test_who_is_not_here_gets_none_and_the_log_says_so(self) -> None:
        for address, why in (
            (Address("nobody", "localhost"), "nobody of that name is here"),
            (Address("a", "x"), "that is another host's"),
        ):
            self.world.reception[str(address)] = self.world.reception["alice@localhost"]
            self.assertIsNone(self.send(fate("failed"), envelope=Envelope(address)))
            self.assertFalse(self.knows)
            self.assertEqual(self.line(), f"letter7: no report to {address}: {why}")

    def test_where_it_cannot_be_stored_the_log_says_so(self) -> None:
        for failure, why in (
            (MailboxFull(), "there is no room on the disk"),
            (TryLater("the disk is odd"), "the disk is odd"),
        ):
            self.world.failure = failure
            self.assertIsNone(self.send(fate("failed")))
            self.assertFalse(self.knows)
            self.assertEqual(self.line(), f"letter7: no report to alice@localhost: {why}")
        self.world.failure = None
        self.world.quotas["alice@localhost"] = Quota(letters=0)
        self.assertIsNone(self.send(fate("failed")))
        self.assertEqual(self.line(), "letter7: no report to alice@localhost: the mailbox is full")

    def test_a_letter_that_cannot_be_read_is_one_line_in_the_log(self) -> None:
        def content() -> Iterator[bytes]:
            yield HEADER
            raise OSError(5, "Input/output error")

        reports = Reports(self.office, "mail.test", lambda: NOW)
        sending = reports.send(Envelope(ALICE), "letter7", ARRIVED, [fate("failed")], content())
        self.successResultOf(Deferred.fromCoroutine(sending))
        self.assertFalse(self.world.reception["alice@localhost"].letters)
        self.assertEqual(self.line(), "letter7: no report to alice@localhost: [Errno 5] Input/output error")

    def test_what_nobody_expected_is_logged_and_not_raised(self) -> None:
        self.world.failure = ZeroDivisionError()
        self.assertIsNone(self.send(fate("failed")))
        self.assertFalse(self.knows)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class WitnessTests(SynchronousTestCase):
    """What the session keeps of a letter for a report."""

    def witnessed(self, chunks: Iterable[bytes]) -> tuple[bytes, bytes]:
        """What was kept of a letter, and what was delivered of it."""
        world = World({"bob@localhost": b""})
        office = FakePostOffice(world)
        envelope = Envelope(None, recipients=[Recipient(BOB, office.destination(BOB, None))])
        letter = Witnessed(office.letter(envelope), ARRIVED)
        verifyObject(ILetter, letter)
        for chunk in chunks:
            letter.write(chunk)
        self.successResultOf(Deferred.fromCoroutine(letter.deliver()))
        return bytes(letter.header), world.reception["bob@localhost"].letters[letter.id]

    def test_its_header_is_kept_however_it_comes(self) -> None:
        kept, delivered = self.witnessed(LETTER[octet : octet + 1] for octet in range(len(LETTER)))
        self.assertEqual(kept, HEADER + b"\r\n")
        self.assertTrue(delivered.endswith(LETTER))

    def test_no_more_is_kept_than_a_header_may_have(self) -> None:
        lines = [b"X: " + b"y" * 995 + b"\r\n"] * 1000
        kept, delivered = self.witnessed(lines)
        self.assertEqual(kept, b"".join(lines)[:MAX_HEADER])
        self.assertTrue(delivered.endswith(b"".join(lines)))


def taken_apart(report: bytes) -> tuple[EmailMessage, list[EmailMessage]]:
    """A report and its three parts, when it is of the form that it must have (RFC 6522 3, RFC 5322 2.1.1)."""
    assert all(len(line) <= 998 for line in report.split(b"\r\n")), "a line is too long"
    assert not {*b"\r\n"} & {*report.replace(b"\r\n", b"")}, "a CR or LF is no line end"
    message = message_from_bytes(report, policy=policy.default)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    parts = cast(list[EmailMessage], message.get_payload())
    assert len(parts) == 3, parts
    assert parts[0].get_content_type() == "text/plain"
    return cast(EmailMessage, message), parts
