"""What is written arrives: the same text, the same files, for those it was meant for."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailbe.address import Address, is_domain, is_name
from mailbe.client.drafts import MOST_REFERENCES, Draft, forward, parcel, quoted, reply
from mailbe.client.errors import BadDraft
from mailbe.client.reading import Attachment, Person, read

ALICE, JOERG = "alice@localhost", "jörg@bücher.example"
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Cf"]), max_size=200)
# What has to be encoded, quoted, folded or left alone, side by side, as random characters seldom stand.
PIECES = ["a", "0 000", " ", " [", "ä", "¡¡ࠀ", "ࠀ" * 12, "\U0001f600" * 40, "x" * 70, "x" * 300, "=?utf-8?q?x?=", "=?",
          ",", "\\", '"', "(", "."]  # fmt: skip
LINE = TEXT | st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
LOST_A_SPACE = "0 000¡¡ࠀࠀࠀࠀࠀࠀࠀࠀࠀࠀࠀࠀ ["  # in the library's folding, between two encoded words

NAME = st.text(st.characters(categories=["Ll", "Lo"], exclude_characters="\u2028"), min_size=1, max_size=14).filter(
    lambda text: not text.isascii() and is_name(text) and is_domain(text)
)


class Parcels(SynchronousTestCase):
    def test_everybody_gets_it_once_and_nobody_sees_who_got_a_blind_copy(self) -> None:
        made = parcel(Draft("b@x.org, C <c@x.org>", "Hi", "x", cc="d@x.org, b@x.org", bcc="secret@x.org"), ALICE)
        self.assertEqual(made.recipients, ("b@x.org", "c@x.org", "d@x.org", "secret@x.org"))
        self.assertNotIn(b"secret", made.octets)
        self.assertNotIn(b"bcc", made.octets.lower())

    def test_it_can_cross_any_server(self) -> None:
        made = parcel(Draft(ALICE, "Grüße " * 40, "ä" * 5000 + "\n.\nFrom here\n" + "x" * 5000), ALICE)
        self.assertTrue(made.octets.isascii())
        for line in made.octets.split(b"\r\n"):
            self.assertLessEqual(len(line), 998)
            self.assertNotIn(b"\n", line)
            self.assertNotIn(b"\r", line)

    def test_a_long_header_is_folded_and_no_address_or_id_is_cut(self) -> None:
        domain = ".".join(["long" * 12] * 4)
        people = [Person(f"Dr. Jörg the {number}th", f"{'j' * 50}{number}@{domain}") for number in range(30)]
        plain = [Person(f"Bob the {number}th of that name", f"b{number}@x.org") for number in range(30)]
        draft = Draft(", ".join(map(str, people)), "a plain subject " * 30, "", cc=", ".join(map(str, plain)))
        made = parcel(draft, f"alice@{domain}")
        header = made.octets.partition(b"\r\n\r\n")[0].decode("ascii")
        for line in header.split("\r\n"):
            self.assertTrue(len(line) <= 78 or (f"@{domain}" in line and line.strip().count(" ") <= 1), line)
        self.assertNotIn("=?", header.partition("\r\nCc: ")[2])
        message = email.message_from_bytes(made.octets, policy=email.policy.default)
        self.assertEqual(message["From"], f"alice@{domain}")
        self.assertTrue(message["Message-ID"].endswith(f"@{domain}>"))
        for name, told in (("To", people), ("Cc", plain)):
            self.assertEqual([(one.display_name, one.addr_spec) for one in message[name].addresses],
                             [(one.name, one.address) for one in told])  # fmt: skip
        self.assertEqual(message["Subject"], ("a plain subject " * 30).strip())

    @given(LINE, st.lists(TEXT).map("\n".join), TEXT.filter(str.strip), st.binary(max_size=300))
    @example(LOST_A_SPACE, "", "a", b"")
    @example("", "", '"a"', b"")
    def test_what_was_written_is_what_is_read(self, subject: str, text: str, name: str, content: bytes) -> None:
        made = parcel(Draft(ALICE, subject, text, attachments=(Attachment(name, "text/plain", content),)), ALICE)
        shown = read(made.octets)
        self.assertEqual(shown.heading.subject, " ".join(subject.split()))
        self.assertEqual(shown.text.rstrip("\n"), text.rstrip("\n"))
        (attached,) = shown.attachments
        self.assertEqual((attached.name, attached.content), (" ".join(name.split()), content))
        self.assertLessEqual(max(map(len, made.octets.split(b"\r\n"))), 998)

    @given(LINE.filter(str.strip))
    @example(LOST_A_SPACE)
    def test_names_of_people_arrive(self, name: str) -> None:
        quotable = " ".join(name.replace("\\", "").replace('"', "").split())
        made = parcel(Draft(f'"{quotable}" <bob@x.org>', "", ""), ALICE)
        self.assertEqual(made.recipients, ("bob@x.org",))
        self.assertEqual(read(made.octets).to, (Person(quotable, "bob@x.org"),))

    @given(LINE.filter(str.strip))
    def test_whoever_wrote_can_be_written_back_to(self, name: str) -> None:
        person = Person(" ".join(name.split()), "bob@x.org")
        self.assertEqual(read(parcel(Draft(f"{person}, {person}", "", ""), ALICE).octets).to[0], person)

    def test_nothing_that_is_typed_becomes_a_header(self) -> None:
        made = parcel(Draft(ALICE, "a\r\nBcc: x@y.z\nX-Evil: 1", "text", in_reply_to="<a@b>\r\nX-Evil: 2"), ALICE)
        message = email.message_from_bytes(made.octets, policy=email.policy.default)
        self.assertIsNone(message["X-Evil"])
        self.assertIsNone(message["Bcc"])
        self.assertEqual(message["In-Reply-To"], "<a@b>")

    def test_what_cannot_be_sent_is_told_in_a_line(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        bad = {
            Draft("", "", ""): "to nobody",
            Draft(" , ;", "", ""): "to nobody",
            Draft("alice bob", "", ""): "no address: alice bob",
            Draft("a@b, c@d e@f", "", ""): "no address: c@d e@f",
            Draft("a@b, bob@", "", ""): "name@domain",
            Draft("a@b, Bob <>", "", ""): "no address: Bob <>",
            Draft("Bob <b@c> <d@e>", "", ""): "no address",
            Draft('"Bob <b@c>', "", ""): "",
            Draft("ä b@x.org", "", ""): "no address",
            Draft("ä\x85@x.org", "", ""): "no address",
            Draft(f"{'ä' * 33}@x.org", "", ""): "longer than 64 octets",
            Draft("a@ä..org", "", ""): "name@domain",
            Draft("a@x\x1b[2Jy", "", ""): "",
            Draft(ALICE, "", "", cc="x@"): "name@domain",
            Draft(ALICE, "", "", attachments=(folder / "none.txt",)): "No such file",
            Draft(ALICE, "", "", attachments=(folder,)): "Is a directory",
            Draft(ALICE, "", "", attachments=(Path("~nobody-of-that-name/x"),)): "cannot be attached",
        }
        for draft, words in bad.items():
            error = self.assertRaises(BadDraft, parcel, draft, ALICE)
            self.assertIn(words, str(error))
            self.assertNotIn("\n", str(error))
            self.assertNotIn("\x1b", str(error))

    def test_a_plain_name_is_somebody_of_ones_own_domain(self) -> None:
        made = parcel(Draft("bob, C <carl>; d@x.org,,", "", ""), ALICE)
        self.assertEqual(made.recipients, ("bob@localhost", "carl@localhost", "d@x.org"))

    def test_a_domain_in_letters_of_its_own_is_written_as_servers_know_it(self) -> None:
        self.assertEqual(parcel(Draft("x@bücher.example", "", ""), ALICE).recipients, ("x@xn--bcher-kva.example",))
        self.assertEqual(parcel(Draft("x@straße.example", "", ""), ALICE).recipients, ("x@xn--strae-oqa.example",))

    def test_so_is_ones_own_where_the_name_before_it_is_ascii(self) -> None:
        made = parcel(Draft("bob", "", ""), "alice@bücher.example")
        self.assertEqual(made.sender, "alice@xn--bcher-kva.example")
        self.assertEqual(made.recipients, ("bob@xn--bcher-kva.example",))
        self.assertTrue(made.octets.isascii())

    def test_with_an_address_of_utf8_in_it_a_header_is_of_utf8(self) -> None:
        """RFC 6532 3: and no encoded words, which an address cannot be."""
        for sender, draft in {
            ALICE: Draft(f"Jörg <{JOERG}>", "größer", "text"),
            JOERG: Draft(f"Ülo <{ALICE}>", "größer", "text"),
            "иван@x.org": Draft(ALICE, "größer", "text", cc=f"{JOERG}, b@x.org"),
        }.items():
            made = parcel(draft, sender)
            header, _, body = made.octets.partition(b"\r\n\r\n")
            self.assertIn(b"Subject: gr\xc3\xb6\xc3\x9fer\r\n", header)
            self.assertNotIn(b"=?", header)
            self.assertTrue(body.isascii())
            shown = read(made.octets)
            self.assertEqual(made.sender, sender)
            self.assertEqual([person.address for person in (*shown.sender, *shown.to, *shown.cc)],
                             [sender, *made.recipients])  # fmt: skip

    def test_who_gets_a_blind_copy_leaves_no_trace_in_the_header_by_being_of_utf8(self) -> None:
        made = parcel(Draft(ALICE, "größer", "text", bcc=JOERG), ALICE)
        self.assertEqual(made.recipients, (ALICE, JOERG))
        self.assertTrue(made.octets.isascii())

    @given(NAME, NAME, LINE, TEXT.filter(str.strip))
    @example("ä", "ä", LOST_A_SPACE, "a")
    def test_addresses_of_utf8_arrive(self, local: str, label: str, called: str, file: str) -> None:
        address = f"{local}@{label}.example"
        quotable = " ".join(called.replace("\\", "").replace('"', "").split())
        draft = Draft(f'"{quotable}" <{address}>, {address}x', called, "", attachments=(Attachment(file, "a/b", b"x"),))
        made = parcel(draft, address)
        for line in made.octets.split(b"\r\n"):
            self.assertLessEqual(len(line), 998)  # octets, RFC 5322 2.1.1
        shown = read(made.octets)
        self.assertEqual([person.address for person in (*shown.sender, *shown.to)], [made.sender, *made.recipients])
        self.assertEqual(Address.parse(made.sender).key, Address.parse(address).key)
        self.assertEqual((shown.to[0].name, shown.heading.subject), (quotable, " ".join(called.split())))
        self.assertEqual([one.name for one in shown.attachments], [" ".join(file.split())])

    def test_a_file_is_attached_as_what_it_is(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        kinds = {"a.pdf": "application/pdf", "b.tar.gz": "application/octet-stream", "c": "application/octet-stream",
                 "d.eml": "application/octet-stream", "e.html": "text/html"}  # fmt: skip
        for name in kinds:
            (folder / name).write_bytes(b"\x00\xff\r\n.\r\n")
        made = parcel(Draft(ALICE, "", "text", attachments=tuple(folder / name for name in kinds)), ALICE)
        shown = read(made.octets)
        self.assertEqual({one.name: one.media_type for one in shown.attachments}, kinds)
        self.assertEqual({one.content for one in shown.attachments}, {b"\x00\xff\r\n.\r\n"})


class Answers(SynchronousTestCase):
    def received(self, **headers: str) -> EmailMessage:
        message = EmailMessage()
        for name, value in headers.items():
            message[name.replace("_", "-")] = value
        message.set_content("first\n> older\n\nlast\n")
        return message

    def test_an_answer_goes_to_its_writer_and_hangs_in_the_thread(self) -> None:
        letter = read(
            self.received(
                From='"B, Bob" <bob@x.org>', To=ALICE, Subject="Re: Plan", Message_ID="<2@x>", References="<1@x>",
                Date="Mon, 23 Nov 2026 08:00:00 +0200",
            ).as_bytes()
        )  # fmt: skip
        draft = reply(letter, ALICE)
        self.assertEqual((draft.to, draft.cc, draft.subject), ('"B, Bob" <bob@x.org>', "", "Re: Plan"))
        self.assertEqual(draft.text, "\n\nOn 2026-11-23 at 08:00, B, Bob wrote:\n> first\n>> older\n>\n> last\n")
        sent = email.message_from_bytes(parcel(draft, ALICE).octets, policy=email.policy.default)
        self.assertEqual(sent["In-Reply-To"], "<2@x>")
        self.assertEqual(sent["References"], "<1@x> <2@x>")
        self.assertEqual(parcel(draft, ALICE).recipients, ("bob@x.org",))

    def test_an_answer_to_all_leaves_oneself_out(self) -> None:
        letter = read(
            self.received(
                From="bob@x.org", To=f"{ALICE.upper()}, c@x.org", Cc="d@x.org, C <C@x.org>, bob@x.org"
            ).as_bytes()
        )
        draft = reply(letter, ALICE, everybody=True)
        self.assertEqual((draft.to, draft.cc), ("bob@x.org", "c@x.org, d@x.org"))

    def test_who_answers_a_letter_of_his_own_goes_on_writing_to_the_same_people(self) -> None:
        letter = read(self.received(From=ALICE, To="bob@x.org", Cc="c@x.org").as_bytes())
        self.assertEqual(reply(letter, ALICE.upper()).to, "bob@x.org")
        draft = reply(letter, ALICE, everybody=True)
        self.assertEqual((draft.to, draft.cc), ("bob@x.org", "c@x.org"))

    def test_two_spellings_of_an_address_beyond_ascii_are_one_person(self) -> None:
        headers = "From: JÖRG@xn--bcher-kva.example\r\nTo: jo\u0308rg@Bücher.example, b@x.org\r\nCc: B@x.org\r\n\r\n"
        letter = read(headers.encode())
        self.assertEqual(reply(letter, JOERG).to, "jo\u0308rg@Bücher.example, b@x.org")
        self.assertEqual(reply(letter, "c@x.org", everybody=True).cc, "b@x.org")

    def test_the_id_of_a_letter_beyond_ascii_is_told_where_a_header_may_be_of_utf8(self) -> None:
        letter = read(f"From: {JOERG}\r\nMessage-ID: <1@bücher>\r\nReferences: <0@x>\r\n\r\n".encode())
        draft = reply(letter, ALICE)
        header = parcel(draft, ALICE).octets
        self.assertTrue(header.startswith("In-Reply-To: <1@bücher>\r\nReferences: <0@x>\r\n <1@bücher>\r\n".encode()))
        header = parcel(replace(draft, to="b@x.org"), ALICE).octets
        self.assertTrue(header.startswith(b"References: <0@x>\r\nFrom: "), header)
        self.assertTrue(header.isascii())

    def test_an_answer_goes_to_whose_name_is_folded_within_its_quotes(self) -> None:
        letter = read(b'From: "Bob,\r\n the Builder" <bob@x.org>\r\nSubject: x\r\n\r\n')
        self.assertEqual(reply(letter, ALICE).to, '"Bob, the Builder" <bob@x.org>')

    def test_a_subject_half_of_encoded_words_and_half_of_utf8_is_answered_as_it_is_meant(self) -> None:
        letter = read("From: ࠀ =?utf-8?q?J=C3=B6?= <b@x.org>\r\nSubject: größer =?utf-8?q?=C3=A4?= ࠀ\r\n\r\n".encode())
        draft = reply(letter, ALICE)
        self.assertEqual((draft.to, draft.subject), ("ࠀ Jö <b@x.org>", "Re: größer ä ࠀ"))

    def test_reply_to_comes_before_from(self) -> None:
        letter = read(self.received(From="bob@x.org", Reply_To="list@x.org", Subject="x").as_bytes())
        self.assertEqual(reply(letter, ALICE).to, "list@x.org")

    def test_the_long_ids_of_a_long_thread_stay_whole(self) -> None:
        ids = [f"<{'x' * 90}{number}@long.example>" for number in range(60)]
        draft = Draft(ALICE, "", "", in_reply_to=ids[-1], references=" ".join(ids))
        octets = parcel(draft, ALICE).octets
        references = email.message_from_bytes(octets)["References"].split()
        self.assertEqual((references[0], references[-1], len(references)), (ids[0], ids[-1], MOST_REFERENCES))
        self.assertNotIn(b"=?", octets.partition(b"From:")[0])

    def test_a_letter_is_handed_on_with_its_files(self) -> None:
        message = self.received(From="bob@x.org", Subject="Plan")
        message.add_attachment(b"1234", maintype="image", subtype="png", filename="p.png")
        draft = forward(read(message.as_bytes()))
        self.assertEqual((draft.subject, draft.to), ("Fwd: Plan", ""))
        self.assertIn("From: bob@x.org\nSubject: Plan\n\nfirst\n", draft.text)
        self.assertEqual(draft.attachments, (Attachment("p.png", "image/png", b"1234"),))

    def test_quoting_marks_every_line(self) -> None:
        self.assertEqual(quoted("a\n\n>b\n\n"), "> a\n>\n>>b\n")
