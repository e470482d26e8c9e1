"""Whatever a client sends, in whatever pieces: each line gets a reply, and no exception gets anywhere."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailbe.pop3.session import Authorization, Transaction
from mailbe.smtp.session import COMMANDS
from tests.dialogue import Stage
from tests.test_dots import cut, cuts

WORDS = [
    *COMMANDS,
    *Authorization.commands,
    *Transaction.commands,
    *(b" ", b"  ", b"\0", b"\xff", b"\r", b"\n", b"\r\n", b".", b"=", b"*", b"1", b"0", b"-1", b"99999999999"),
    *(
        b"FROM:",
        b"TO:",
        b"<",
        b">",
        b"<>",
        b"a@b",
        b"bob@localhost",
        b"<alice@localhost>",
        b'"',
        b"\\",
        b"@c:",
        b"SIZE=",
    ),
    *(b"PLAIN", b"LOGIN", b"AGFsaWNlAHNlY3JldA==", b"alice", b"secret", b"me"),
]
streams = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from(WORDS), max_size=30).map(b"".join),
    st.lists(st.lists(st.sampled_from(WORDS), max_size=5).map(b" ".join), max_size=12).map(b"\r\n".join),
)
POSTS = {
    "smtp": b"HELO me\r\n",
    "submission": b"",
    "classic": b"HELO me\r\n",
    "pop3": b"",
    "pop3 mail": b"USER alice\r\nPASS secret\r\n",
}


class AnyOctets(SynchronousTestCase):
    @given(st.sampled_from(sorted(POSTS)), streams, cuts)
    @settings(max_examples=600)
    def test_the_replies_do_not_depend_on_the_cuts(self, words: str, stream: bytes, at: list[int]) -> None:
        stream = POSTS[words] + stream + b"\r\n"
        heard = []
        for pieces in ([stream], cut(stream, at)):
            stage = Stage(words.split())
            for piece in pieces:
                stage.wire.dataReceived(piece)
            heard.append(stage.hear())
            stage.lose()
        self.assertEqual(*heard)
        self.assertTrue(heard[0].endswith(b"\r\n"))
        self.assertEqual(self.flushLoggedErrors(), [])

    @given(st.sampled_from(sorted(POSTS)), st.binary(max_size=100).map(lambda line: line.replace(b"\r\n", b"")))
    @settings(max_examples=300)
    def test_every_line_gets_an_answer(self, words: str, line: bytes) -> None:
        stage = Stage(words.split())
        stage.wire.dataReceived(POSTS[words])
        stage.hear()
        stage.wire.dataReceived(line + b"\r\n")
        self.assertTrue(stage.hear(), line)
