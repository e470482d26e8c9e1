"""SCRAM against the RFC's own example, another author's client over both protocols, and every odd answer."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable

from scramp import ScramClient, ScramException
from scramp.core import Gs2Header
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailbe import sasl
from mailbe.interfaces import IProof, TryLater
from tests.dialogue import Stage
from tests.fakes import verifier

# RFC 7677 3
EXAMPLE_CLIENT_FIRST = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
EXAMPLE_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
EXAMPLE_SERVER_FIRST = f"r=rOprNGfwEbeRWgbNEkqO{EXAMPLE_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
EXAMPLE_CLIENT_FINAL = f"c=biws,r=rOprNGfwEbeRWgbNEkqO{EXAMPLE_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
EXAMPLE_SERVER_FINAL = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
EXAMPLE_VERIFIER = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)
CHANNEL = {"tls-exporter": b"exported" * 4, "tls-server-end-point": b"digest" * 5}

Answer = str | Callable[[str], str]


def admitted() -> None:
    """Nobody has guessed too often."""


class Script:
    """A client that has its answers ready, or makes them of the challenge."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.heard: list[str] = []

    def ask(self, challenge: bytes) -> Deferred[bytes]:
        self.heard.append(b64decode(challenge).decode())
        answer = self._answers.pop(0)
        text = answer if isinstance(answer, str) else answer(self.heard[-1])
        return succeed(b64encode(text.encode()))


class Example(SynchronousTestCase):
    """RFC 7677 3, the user ``user`` with the password ``pencil``."""

    def begin(self, *answers: Answer) -> tuple[Script, sasl.Proof]:
        script = Script(*answers)
        client = sasl.Client(script.ask, "192.0.2.1", {})
        beginning = sasl.scram(client, EXAMPLE_CLIENT_FIRST.encode(), plus=False, nonce=EXAMPLE_NONCE)
        return script, self.successResultOf(Deferred.fromCoroutine(beginning))

    def test_who_is_locked_out_meanwhile_does_not_learn_that_the_proof_was_good(self) -> None:
        def locked() -> None:
            raise TryLater("locked")

        script, proof = self.begin(EXAMPLE_CLIENT_FINAL, "")
        self.failureResultOf(Deferred.fromCoroutine(proof.prove(EXAMPLE_VERIFIER, locked)), TryLater)
        self.assertEqual(script.heard, [EXAMPLE_SERVER_FIRST])

    def test_it_is_had_octet_by_octet(self) -> None:
        script, proof = self.begin(EXAMPLE_CLIENT_FINAL, "")
        self.assertEqual((proof.username, proof.peer), (b"user", "192.0.2.1"))
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(proof.prove(EXAMPLE_VERIFIER, admitted))))
        self.assertEqual(script.heard, [EXAMPLE_SERVER_FIRST, EXAMPLE_SERVER_FINAL])

    def test_it_is_credentials_for_the_portal(self) -> None:
        verifyObject(IProof, self.begin()[1])

    def test_a_wrong_proof_is_told_nothing(self) -> None:
        script, proof = self.begin(EXAMPLE_CLIENT_FINAL.replace("p=dH", "p=eH"))
        self.assertFalse(self.successResultOf(Deferred.fromCoroutine(proof.prove(EXAMPLE_VERIFIER, admitted))))
        self.assertEqual(script.heard, [EXAMPLE_SERVER_FIRST])

    def test_a_damaged_verifier_lets_nobody_in_and_says_nothing(self) -> None:
        for damage in (
            "",
            "{MD5}x",
            EXAMPLE_VERIFIER[:-1],
            EXAMPLE_VERIFIER.replace("256", "1"),
            EXAMPLE_VERIFIER + "\n",
        ):
            script, proof = self.begin()
            self.failureResultOf(Deferred.fromCoroutine(proof.prove(damage, admitted)), TryLater)
            self.assertEqual(script.heard, [])

    def test_no_two_nonces_are_the_same(self) -> None:
        nonces = set()
        for _ in range(2):
            script = Script("*")
            proof = self.successResultOf(
                Deferred.fromCoroutine(
                    sasl.scram(sasl.Client(script.ask, "", {}), EXAMPLE_CLIENT_FIRST.encode(), plus=False)
                )
            )
            self.failureResultOf(Deferred.fromCoroutine(proof.prove(EXAMPLE_VERIFIER, admitted)))
            nonces.update(script.heard)
        self.assertEqual(len(nonces), 2)


class Finals(SynchronousTestCase):
    """What may be wrong with the client's second message, and with its third."""

    def prove(self, *answers: Answer) -> Deferred[bool]:
        client = sasl.Client(Script(*answers).ask, "", {})
        beginning = sasl.scram(client, EXAMPLE_CLIENT_FIRST.encode(), plus=False, nonce=EXAMPLE_NONCE)
        proof = self.successResultOf(Deferred.fromCoroutine(beginning))
        return Deferred.fromCoroutine(proof.prove(EXAMPLE_VERIFIER, admitted))

    def test_what_is_no_message_is_malformed(self) -> None:
        binding, nonce, proof = EXAMPLE_CLIENT_FINAL.split(",", 2)
        for message in (
            "",
            "=",
            "hello",
            f"{binding},{nonce}",
            f"{nonce},{binding},{proof}",
            f"{binding},{nonce},{proof},x=after",
            f"{binding},{nonce},m=mandatory,{proof}",
            f"{binding},{nonce},{nonce},{proof}",
            f"{binding},{nonce},x=\0,{proof}",
            f"{binding},{nonce},{proof}\0",
            f"{binding},{nonce},{proof}\n",
            f"{binding},{nonce},p=",
            f"{binding},{nonce},p=!",
            f"{binding},{nonce},p=é",
            f"{binding},{nonce},p=dHzb",
            f"{binding},{nonce},{proof[:-4]}",
            f"{binding},{nonce},p={'A' * 8000}",
            f"c=!,{nonce},{proof}",
        ):
            self.failureResultOf(self.prove(message), sasl.Malformed)

    def test_another_nonce_is_refused(self) -> None:
        for wrong in ("r=rOprNGfwEbeRWgbNEkqO", f"r={EXAMPLE_NONCE}", f"r=rOprNGfwEbeRWgbNEkqO{EXAMPLE_NONCE}x"):
            binding, _, proof = EXAMPLE_CLIENT_FINAL.split(",", 2)
            self.failureResultOf(self.prove(f"{binding},{wrong},{proof}"), sasl.Refused)

    def test_another_header_than_at_the_beginning_is_refused(self) -> None:
        for header in ("y,,", "n,a=user,", "p=tls-exporter,,", "n,,x"):
            final = EXAMPLE_CLIENT_FINAL.replace("biws", b64encode(header.encode()).decode())
            self.failureResultOf(self.prove(final), sasl.Refused)

    def test_an_unknown_extension_is_ignored_and_proved(self) -> None:
        binding, nonce, proof = EXAMPLE_CLIENT_FINAL.split(",", 2)
        self.assertFalse(self.successResultOf(self.prove(f"{binding},{nonce},x=y,{proof}")))

    def test_who_says_more_at_the_end_is_not_in(self) -> None:
        self.failureResultOf(self.prove(EXAMPLE_CLIENT_FINAL, "more"), sasl.Malformed)


class Firsts(SynchronousTestCase):
    """What may be wrong with the client's first message."""

    def begin(
        self, first: bytes, channel: dict[str, bytes] | None = None, *, plus: bool = False
    ) -> Deferred[sasl.Proof]:
        client = sasl.Client(Script().ask, "", channel or {})
        return Deferred.fromCoroutine(sasl.scram(client, first, plus=plus))

    def test_what_is_no_message_is_malformed(self) -> None:
        for first in (
            b"",
            b"hello",
            b"n=user,r=abc",
            b"x,,n=user,r=abc",
            b"N,,n=user,r=abc",
            b"n,n=user,r=abc",
            b"n,x=y,n=user,r=abc",
            b"n,a=,n=user,r=abc",
            b"n,,,n=user,r=abc",
            b"n,,n=,r=abc",
            b"n,,r=abc",
            b"n,,n=user",
            b"n,,n=user,r=",
            b"n,,n=user,r=a\x7fc",
            b"n,,n=user,r=abc\n",
            b"n,,r=abc,n=user",
            b"n,,n=us\0er,r=abc",
            b"n,,n=us\aer,r=abc",
            b"n,,n=\xff,r=abc",
            b"n,,n=\xc2\xad,r=abc",  # a soft hyphen, of which SASLprep leaves nothing
            b"n,,m=mandatory,n=user,r=abc",
            b"n,,n=user,r=abc,m=mandatory",
            b"n,,n=user,r=abc,r=def",
            b"n,,n=us=er,r=abc",
            b"n,,n=us=3der,r=abc",
            b"n,,n=user=,r=abc",
            b"p=tls-exporter,,n=user,r=abc",  # for -PLUS only
            b"p=,,n=user,r=abc",
        ):
            self.failureResultOf(self.begin(first), sasl.Malformed)

    def test_names_may_have_commas_and_equal_signs(self) -> None:
        for escaped, name in ((b"a=2Cb=3Dc", b"a,b=c"), (b"=3D2C", b"=2C"), ("\uff41lice".encode(), b"alice")):
            proof = self.successResultOf(self.begin(b"n,,n=" + escaped + b",r=abc"))
            self.assertEqual(proof.username, name)

    def test_a_name_that_is_not_ascii_comes_as_utf_8(self) -> None:
        proof = self.successResultOf(self.begin("n,,n=J\u00fcrgen,r=abc".encode()))
        self.assertEqual(proof.username, "J\u00fcrgen".encode())

    def test_an_extension_that_need_not_be_known_is_ignored(self) -> None:
        self.successResultOf(self.begin(b"n,,n=user,r=abc,x=y,z=1"))

    def test_one_acts_for_oneself_only(self) -> None:
        self.successResultOf(self.begin(b"n,a=User,n=user,r=abc"))
        self.failureResultOf(self.begin(b"n,a=other,n=user,r=abc"), sasl.Refused)

    def test_who_could_bind_and_was_told_not_to_has_somebody_between(self) -> None:
        # RFC 5802 6
        self.failureResultOf(self.begin(b"y,,n=user,r=abc", CHANNEL), sasl.Refused)
        self.successResultOf(self.begin(b"y,,n=user,r=abc"))

    def test_plus_is_not_had_without_a_binding(self) -> None:
        for first in (b"n,,n=user,r=abc", b"y,,n=user,r=abc"):
            self.failureResultOf(self.begin(first, CHANNEL, plus=True), sasl.Malformed)

    def test_a_binding_that_is_not_known_is_refused(self) -> None:
        self.failureResultOf(self.begin(b"p=tls-unique,,n=user,r=abc", CHANNEL, plus=True), sasl.Refused)


class ChannelBinding(SynchronousTestCase):
    """SCRAM-SHA-256-PLUS with another author's client."""

    def log_in(self, kind: str, data: bytes) -> Deferred[bool]:
        # scramp knows not RFC 9266's type, so it is told another name and learns the right one later.
        client = ScramClient(["SCRAM-SHA-256-PLUS"], "alice", "secret", channel_binding=("tls-unique", data))
        client.cb.name.cb_name = kind

        def final(server_first: str) -> str:
            client.set_server_first(server_first)
            return str(client.get_client_final())

        def nothing(server_final: str) -> str:
            client.set_server_final(server_final)
            return ""

        first = client.get_client_first().encode()
        asked = sasl.Client(Script(final, nothing).ask, "", CHANNEL)
        proof = self.successResultOf(Deferred.fromCoroutine(sasl.scram(asked, first, plus=True)))
        return Deferred.fromCoroutine(proof.prove(verifier(b"secret"), admitted))

    def test_whoever_has_our_channel_is_in(self) -> None:
        for kind, data in CHANNEL.items():
            self.assertTrue(self.successResultOf(self.log_in(kind, data)))

    def test_a_proof_that_was_made_for_another_channel_is_refused(self) -> None:
        self.failureResultOf(self.log_in("tls-exporter", b"another's"), sasl.Refused)
        self.failureResultOf(self.log_in("tls-exporter", CHANNEL["tls-server-end-point"]), sasl.Refused)

    def test_plus_is_offered_only_where_it_works(self) -> None:
        self.assertIn(b"SCRAM-SHA-256-PLUS", sasl.offered(CHANNEL, scram=True))
        self.assertEqual(sasl.offered({}, scram=True), [b"PLAIN", b"LOGIN", b"SCRAM-SHA-256"])


class AliceForAlice(Gs2Header):  # type: ignore[misc]
    """The authorization identity, which scramp never sends."""

    def __str__(self) -> str:
        return "n,a=alice,"


class Wire:
    """One connection, and what its protocol says in an exchange."""

    def __init__(self, protocol: str) -> None:
        self._stage = Stage([protocol])
        self._smtp = protocol == "smtp"
        self.challenge = b"334 " if self._smtp else b"+ "
        self.welcome = b"235 2.7.0 " if self._smtp else b"+OK "
        self.refusal = b"535 5.7.8 " if self._smtp else b"-ERR [AUTH] "
        self.wrong = b"the name or the password is wrong\r\n"
        self.cancelled = b"501 5.7.0 " if self._smtp else b"-ERR "
        self.malformed = b"501 5.5.2 " if self._smtp else b"-ERR "
        self._stage.hear()
        if self._smtp:
            self.say(b"HELO me")

    def say(self, line: bytes) -> bytes:
        """The reply to a line."""
        self._stage.wire.dataReceived(line + b"\r\n")
        return self._stage.hear()

    def respond(self, message: str) -> bytes:
        return self.say(b64encode(message.encode()))

    def challenged(self, reply: bytes) -> str:
        assert reply.startswith(self.challenge), reply
        return b64decode(reply.removeprefix(self.challenge)).decode()

    def prove(
        self, name: str, password: str, *, initial: bool = True, header: Gs2Header | None = None
    ) -> tuple[ScramClient, bytes]:
        """A client that has sent its proof, and the reply."""
        client = ScramClient(["SCRAM-SHA-256"], name, password)
        client.gs2_header = header or client.gs2_header
        first = client.get_client_first()
        if initial:
            reply = self.say(b"AUTH SCRAM-SHA-256 " + b64encode(first.encode()))
        else:
            assert self.say(b"AUTH SCRAM-SHA-256") == self.challenge + b"\r\n"
            reply = self.respond(first)
        client.set_server_first(self.challenged(reply))
        return client, self.respond(client.get_client_final())

    def lose(self) -> None:
        self._stage.lose()


class OverTheWire(SynchronousTestCase):
    """A log-in by another author's client, over either protocol."""

    def wires(self) -> list[Wire]:
        return [Wire("smtp"), Wire("pop3")]

    def test_a_name_may_be_of_utf8(self) -> None:
        for wire in self.wires():
            client, reply = wire.prove("jo\u0308rg", "geheim")
            client.set_server_final(wire.challenged(reply))
            self.assertTrue(wire.say(b"").startswith(wire.welcome))

    def test_ones_own_name_is_so_in_other_letters(self) -> None:
        for wire in self.wires():
            for acting_for in ("JÖRG", "jo\u0308rg@localhost"):
                fields = b"\0".join([acting_for.encode(), "jörg".encode(), b"wrong"])
                self.assertEqual(wire.say(b"AUTH PLAIN " + b64encode(fields)), wire.refusal + wire.wrong)

    def test_a_client_that_knows_the_password_is_in(self) -> None:
        for wire in self.wires():
            client, reply = wire.prove("alice", "secret")
            client.set_server_final(wire.challenged(reply))
            self.assertTrue(wire.say(b"").startswith(wire.welcome))

    def test_it_may_wait_until_it_is_asked(self) -> None:
        for wire in self.wires():
            client, reply = wire.prove("bob@localhost", "two words ", initial=False)
            client.set_server_final(wire.challenged(reply))
            self.assertTrue(wire.say(b"").startswith(wire.welcome))

    def test_it_may_say_that_it_acts_for_itself_as_mutt_does(self) -> None:
        for wire in self.wires():
            client, reply = wire.prove("alice", "secret", header=AliceForAlice("n", None))
            client.set_server_final(wire.challenged(reply))
            self.assertTrue(wire.say(b"").startswith(wire.welcome))

    def test_the_name_of_a_maildrop_is_known_to_pop3_alone(self) -> None:
        for name in ("alice+envoi", "ALICE+Envoi@localhost"):
            smtp, pop3 = self.wires()
            client, reply = pop3.prove(name, "secret")
            client.set_server_final(pop3.challenged(reply))
            self.assertTrue(pop3.say(b"").startswith(pop3.welcome))
            _, reply = smtp.prove(name, "secret")
            self.assertTrue(reply.startswith(smtp.refusal))

    def test_it_sees_who_only_says_to_be_its_server(self) -> None:
        for wire in self.wires():
            client, reply = wire.prove("alice", "secret")
            with self.assertRaises(ScramException):
                client.set_server_final(wire.challenged(reply).replace("v=", "v=AAAA"))

    def test_wrong_passwords_and_unknown_names_get_the_same_replies(self) -> None:
        for wire in self.wires():
            _, wrong = wire.prove("alice", "typo")
            _, unknown = wire.prove("nobody", "secret")
            self.assertTrue(wrong.startswith(wire.refusal))
            self.assertEqual(wrong, unknown)

    def test_a_client_that_failed_may_go_on_with_another_mechanism(self) -> None:
        for wire in self.wires():
            wire.prove("alice", "typo")
            self.assertTrue(wire.say(b"AUTH PLAIN AGFsaWNlAHNlY3JldA==").startswith(wire.welcome))
        pop3 = Wire("pop3")
        pop3.prove("alice", "typo")
        pop3.say(b"USER alice")
        self.assertTrue(pop3.say(b"PASS secret").startswith(b"+OK "))

    def test_nobody_is_in_before_the_exchange_has_ended(self) -> None:
        for end, reply in ((b"*", "cancelled"), (b"=", "malformed"), (b"bW9yZQ==", "malformed"), (b"!", "malformed")):
            for wire in self.wires():
                wire.prove("alice", "secret")
                self.assertTrue(wire.say(end).startswith(getattr(wire, reply)))
                self.assertFalse(wire.say(b"STAT").startswith(b"+OK"))
                wire.prove("alice", "secret")
                self.assertTrue(wire.say(b"").startswith(wire.welcome))

    def test_a_client_that_goes_at_any_step_leaves_nothing_behind(self) -> None:
        for wire in self.wires():
            wire.say(b"AUTH SCRAM-SHA-256")
            wire.lose()
        for wire in self.wires():
            wire.say(b"AUTH SCRAM-SHA-256 " + b64encode(b"n,,n=alice,r=abc"))
            wire.lose()
        for wire in self.wires():
            wire.prove("alice", "secret")
            wire.lose()

    def test_a_proof_is_good_for_one_exchange(self) -> None:
        for wire in self.wires():
            first = b64encode(b"n,,n=alice,r=abc")
            client = ScramClient(["SCRAM-SHA-256"], "alice", "secret", c_nonce="abc")
            client.get_client_first()
            client.set_server_first(wire.challenged(wire.say(b"AUTH SCRAM-SHA-256 " + first)))
            proof = client.get_client_final()
            wire.say(b"*")
            wire.say(b"AUTH SCRAM-SHA-256 " + first)
            self.assertTrue(wire.respond(proof).startswith(wire.refusal))
