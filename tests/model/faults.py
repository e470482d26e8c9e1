"""A fault for each check of conformance: what the model does wrong, and which checks have to find it.

What ``ROWS`` has no fault for stands in ``UNTRIED``, with the reason.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.model.talk import Fault


def smtp(replies: dict[str, str]) -> Fault:
    return Fault(smtp=replies)


def pop3(replies: dict[str, str]) -> Fault:
    return Fault(pop3=replies)


def wrong(*words: str) -> Fault:
    return Fault(words=frozenset(words))


def instead(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda octets: re.sub(old, new, octets, flags=re.MULTILINE)


def offers(*more: str, without: str = "-") -> Fault:
    return Fault(offers=lambda known: [*(word for word in known if word.split()[0] != without), *more])


def can(*more: str, without: str = "-") -> Fault:
    return Fault(capabilities=lambda known: [*(word for word in known if word.split()[0] != without), *more])


def reports(old: bytes, new: bytes) -> Fault:
    return Fault(reports=instead(old, new))


@dataclass(frozen=True)
class Row:
    """A fault, and the checks that find it."""

    fault: Fault
    names: str
    ports: tuple[str, ...] = ("smtp", "submission", "submissions", "pop3", "pop3s")
    before: str = ""
    """A check that comes before them, and finds nothing."""
    remote: bool = False
    """Whether the server is taken for one on another machine."""
    silent: bool = False
    """Whether the fault is that nothing comes."""


PLAIN = ("smtp", "pop3")  # where nobody logs in to send
ALL_ORDER = "rcpt-without-mail out-of-order-changes-nothing rset-forgets-sender-and-recipients ehlo-ends-a-transaction"
ROWS = {
    "smtp_session": [
        Row(Fault(says=instead(rb"^220 model.test.*", b"220 _")), "greeting-names-the-host"),
        Row(smtp({"EHLO.*": "250 _"}), "ehlo-is-known", PLAIN),
        Row(offers("X_Y"), "ehlo-keywords-are-well-formed"),
        Row(smtp({"HELO.*": "250-model.test\r\n250 SIZE"}), "helo-gets-no-extensions"),
        Row(smtp({"EHLO client.invalid": "550 who?"}), "ehlo-with-a-name-that-resolves-to-nothing"),
        Row(smtp({r"EHLO \[IPv6:2001.*": "501 what?"}), "ehlo-with-address-literals"),
        Row(wrong("stays"), "quit-says-221-and-hangs-up", silent=True),
        Row(smtp({"QUIT": "250 bye"}), "quit-in-a-transaction quit-before-ehlo"),
        Row(wrong("hangs-up"), "unknown-commands-do-not-end-the-session"),
        Row(wrong("takes-halves"), "a-letter-that-is-cut-off-is-not-delivered"),
        Row(smtp({"NOOP": "451 not now"}), "a-transaction-that-is-cut-off-leaves-the-server-well"),
        Row(Fault(says=instead(rb"what\?\r\n", b"what?\n")), "replies-are-well-formed"),
        Row(Fault(says=instead(rb"^500 ", b"500 " + b"x" * 510)), "replies-are-well-formed"),
        Row(Fault(says=instead(rb"what\?", "wie bitte, für wen?".encode())), "replies-are-well-formed"),
        Row(smtp({"VRFY .*": "503 EHLO first"}), "some-commands-need-no-ehlo"),
    ],
    "smtp_order": [
        Row(smtp({"MAIL FROM:.*": "501 what?"}), "mail-before-ehlo", PLAIN),
        Row(wrong("any-order"), f"{ALL_ORDER} helo-ends-a-transaction a-delivered-letter-is-forgotten"),
        Row(smtp({"DATA": "250 ok"}), "data-without-mail data-without-rcpt"),
        Row(wrong("odd-code"), "mail-in-a-transaction"),
        Row(smtp({"RSET": "502 what?"}), "rset-is-answered-250"),
        Row(wrong("rset-logs-out"), "rset-keeps-the-session"),
        Row(wrong("noop-forgets"), "noop-changes-nothing"),
        Row(wrong("keeps-transaction"), "one-session-sends-several-letters"),
        Row(wrong("all-or-none"), "a-refused-recipient-does-not-end-the-transaction"),
    ],
    "smtp_commands": [
        Row(smtp({"XYZZY": "502 what?"}), "unknown-commands-are-answered-500"),
        Row(smtp({"VRFY postmaster": "502 what?"}), "what-is-offered-is-implemented"),
        Row(smtp({"(?-i:mail .*)": "500 what?"}), "commands-in-any-case"),
        Row(wrong("minds-spaces"), "trailing-spaces-are-tolerated"),
        Row(smtp({"RSET now": "250 ok"}), "arguments-where-none-belong"),
        Row(smtp({"NOOP something": "501 what?"}), "noop-ignores-its-argument"),
        Row(smtp({"EHLO": "250 model.test"}), "ehlo-without-a-name"),
        Row(smtp({"VRFY .*": "502 what?"}), "vrfy-is-known"),
        Row(smtp({"VRFY nobody.*": "250 yes"}), "vrfy-verifies-before-it-says-250"),
        Row(smtp({"EXPN.*": "502 what?"}), "expn-is-known"),
        Row(smtp({"EXPN.*": "250 <alice@model.test>"}), "commands-that-nobody-needs-to-have-are-listed"),
        Row(offers(without="HELP"), "commands-that-nobody-needs-to-have-are-listed"),
        Row(smtp({"HELP.*": "502 what?"}), "help-is-known help-with-an-argument"),
        Row(smtp({"HELP": "250 help"}), "help-has-its-code"),
        Row(smtp({"MAIL FRM.*": "250 ok"}), "broken-syntax-is-refused"),
        Row(smtp({"MAIL .*XCONFORM=1": "250 ok"}), "unknown-parameters-are-refused"),
        Row(smtp({"RCPT .*XCONFORM=1": "501 what?"}), "unknown-parameters-are-answered-555"),
        Row(offers(without="DSN"), "parameters-of-extensions-that-are-not-offered"),
        Row(
            Fault(smtp={"BDAT.*": "250 ok"}, offers=offers(without="CHUNKING").offers),
            "bdat-where-chunking-is-not-offered",
        ),
    ],
    "smtp_paths": [
        Row(smtp({"RCPT TO:<postmaster>": "550 nobody"}), "postmaster-without-a-domain"),
        Row(smtp({"RCPT TO:<postmaster@.*": "550 nobody"}), "postmaster-of-the-domain"),
        Row(smtp({"MAIL FROM:<>": "550 nobody"}), "null-reverse-path"),
        Row(smtp({"(?-i:RCPT TO:<alice@MODEL.TEST>)": "550 elsewhere"}), "domains-in-any-case"),
        Row(smtp({'RCPT TO:<".*': "550 nobody"}), "quoted-local-parts-are-the-same"),
        Row(smtp({"RCPT TO:<@relay.*": "550 nobody"}), "source-routes-are-ignored"),
        Row(Fault(), "a-space-behind-the-colon-is-tolerated"),
        Row(smtp({"RCPT TO:<>": "250 ok"}), "paths-that-are-none"),
        Row(smtp({"RCPT TO:alice.*": "250 ok"}), "paths-without-brackets-are-refused"),
        Row(smtp({"RCPT TO:<x{64}@model.*": "501 what?"}), "local-parts-of-64-octets"),
        Row(smtp({"RCPT TO:<x+@y.*": "500 what?"}), "paths-of-256-octets"),
        Row(
            smtp({"RCPT TO:<somebody@conform.invalid>": "250 ok"}),
            "mail-of-strangers-for-others-is-not-relayed",
            remote=True,
        ),
    ],
    "smtp_limits": [
        Row(smtp({"NOOP x+": "500 too long"}), "command-lines-of-512-octets"),
        Row(wrong("hangs-up"), "longer-lines-do-not-end-the-session"),
        Row(wrong("takes-few"), "a-hundred-recipients as-many-letters-as-limits-says"),
        Row(Fault(stores=instead(rb"x{998}", b"x\r\nx")), "text-lines-of-1000-octets"),
        Row(Fault(stores=lambda letter: letter[:60_000] + b"\r\n"), "letters-of-64-kibibytes"),
        Row(offers("SIZE 300000 octets", without="SIZE"), "size-is-a-number"),
        Row(smtp({"MAIL .*SIZE=1000": "555 what?"}), "size-is-taken"),
        Row(smtp({"MAIL .*SIZE=300001": "250 ok"}), "size-above-the-limit"),
        Row(smtp({"MAIL .*SIZE=many": "250 ok"}), "size-that-is-no-number"),
        Row(wrong("takes-any-size"), "size-counts-in-data"),
        Row(offers("LIMITS RCPTMAX=many", without="LIMITS"), "limits-are-well-formed"),
        Row(offers("LIMITS RCPTMAX=50", without="LIMITS"), "as-many-recipients-as-limits-says"),
    ],
    "smtp_content": [
        Row(wrong("dots-stay"), "dots-are-transparent a-dot-is-the-first-octet"),
        Row(Fault(stores=instead(rb"[ \t]+\r\n", b"\r\n")), "spaces-and-empty-lines-stay"),
        Row(Fault(stores=lambda letter: letter + b"-- \r\nsent by model\r\n"), "a-letter-without-a-body"),
        Row(Fault(stores=instead(rb"a\r\n b\r\n", b"a b\r\n")), "fields-stay"),
        Row(Fault(stores=instead(rb"\x0b", b"")), "control-characters-stay"),
        Row(Fault(stores=instead(rb"[\x80-\xff]", b"?")), "eight-bit-passes"),
        Row(smtp({"MAIL .*BODY=7BIT": "555 what?"}), "seven-bit-is-taken"),
        Row(smtp({"MAIL .*BODY=9BIT": "250 ok"}), "other-bodies-are-refused"),
        Row(
            wrong("any-line-end"),
            " ".join(
                f"{form}-does-not-end-a-letter"
                for form in ("lf-dot-lf", "lf-dot-crlf", "crlf-dot-lf", "cr-dot-cr", "crlf-dot-cr", "cr-dot-crlf")
            ),
            PLAIN,
        ),
    ],
    "smtp_trace": [
        Row(
            Fault(stores=instead(rb"\AReturn-Path:.*\r\n", b"")),
            "return-path-is-the-reverse-path return-path-may-be-null",
        ),
        Row(Fault(stores=instead(rb"^Received: from \[.*\r\n\t.*\r\n\t.*\r\n", b"")), "received-is-put-on-top"),
        Row(Fault(stores=instead(rb"from \[.*\r\n", b"from somebody\r\n")), "received-tells-name-and-address"),
        Row(Fault(stores=instead(rb" with ESMTP", b" with SMTP")), "received-tells-the-protocol"),
        Row(Fault(stores=instead(rb"^Received: from a.invalid.*\r\n", b"")), "older-received-fields-stay"),
    ],
    "smtp_extensions": [
        Row(
            Fault(says=instead(rb"^(\d{3}[ -])\d\.0\.0 ", rb"\1")),
            "replies-have-status-codes a-letter-taken-has-a-status-code",
        ),
        Row(Fault(says=instead(rb"^250 2.0.0 ", b"250 5.0.0 ")), "replies-have-status-codes"),
        Row(smtp({"MAIL .*MT-PRIORITY=9": "501 what?"}), "priorities-are-taken"),
        Row(smtp({"MAIL .*MT-PRIORITY=10": "250 ok"}), "priorities-that-are-none"),
        Row(offers("REQUIRETLS"), "requiretls-is-offered-in-tls-alone"),
        Row(smtp({"MAIL .*REQUIRETLS": "555 what?"}), "requiretls-is-taken"),
        Row(offers(without="CHUNKING"), "binarymime-comes-with-chunking"),
        Row(offers(without="8BITMIME"), "smtputf8-comes-with-8bitmime"),
    ],
    "smtp_pipelining": [
        Row(smtp({"RSET": "503 what?"}), "a-group-is-answered-in-order"),
        Row(wrong("keeps-transaction"), "what-follows-a-letter-is-answered"),
        Row(smtp({"DATA": "250 ok"}), "refused-recipients-in-a-group"),
        Row(smtp({"NOOP": "500 what?"}), "a-command-in-many-segments"),
    ],
    "smtp_tls": [
        Row(smtp({"STARTTLS": "454 not now"}), "starttls-begins-tls", PLAIN),
        Row(smtp({"STARTTLS now": "220 ok"}), "starttls-with-an-argument"),
        Row(wrong("tls-keeps"), "starttls-forgets-the-transaction"),
        Row(offers("STARTTLS"), "starttls-is-not-offered-in-tls no-starttls-within-implicit-tls"),
        Row(wrong("tls-again"), "starttls-in-tls-is-refused"),
        Row(wrong("obeys-plaintext"), "what-stands-behind-starttls-is-not-obeyed"),
        Row(wrong("tls-first"), "mail-is-taken-without-tls"),
        Row(offers(without="AUTH"), "a-log-in-within-implicit-tls"),
    ],
    "smtp_auth": [
        Row(offers("AUTH PLAIN x+y", without="AUTH"), "mechanisms-are-names"),
        Row(smtp({"AUTH PLAIN .+": "535 no"}), "auth-plain-works", PLAIN),
        Row(smtp({"AUTH LOGIN": "535 no"}), "auth-login-works"),
        Row(smtp({"AUTH CRAM-MD5": "535 no"}), "auth-cram-md5-works"),
        Row(smtp({"AUTH PLAIN": "501 no"}), "auth-without-an-initial-response"),
        Row(smtp({"(?-i:auth plain .*)": "504 what?"}), "auth-in-any-case"),
        Row(smtp({"AUTH XCONFORM": "235 welcome"}), "unknown-mechanisms-are-refused"),
        Row(smtp({"AUTH XCONFORM": "535 no"}), "unknown-mechanisms-are-answered-504"),
        Row(smtp({"AUTH": "250 ok"}), "auth-without-a-mechanism"),
        Row(wrong("any-response"), "auth-can-be-cancelled responses-that-are-not-base64"),
        Row(wrong("logs-in-again"), "auth-after-auth auth-in-a-transaction"),
        Row(wrong("lets-anybody-in"), "a-wrong-password"),
        Row(smtp({"MAIL .*AUTH=.*": "555 what?"}), "mail-takes-auth"),
        Row(
            Fault(smtp={"RCPT TO:<somebody@.*": "250 ok"}, words=frozenset({"open"})),
            "submission-asks-for-a-log-in",
            remote=True,
        ),
    ],
    "smtp_utf8": [
        Row(smtp({"MAIL .*SMTPUTF8": "555 what?"}), "smtputf8-is-taken"),
        Row(smtp({"MAIL .*SMTPUTF8=yes": "250 ok"}), "smtputf8-has-no-value"),
        Row(smtp({"RCPT TO:<gr.*": "501 what?"}), "mailboxes-in-utf8-are-read"),
        Row(smtp({"RCPT TO:<gr.*": "250 ok"}), "mailboxes-in-utf8-without-smtputf8"),
        Row(Fault(stores=instead("^Grüße.".encode(), b"Gr??e.")), "headers-in-utf8-pass"),
        Row(Fault(stores=instead(rb" with UTF8SMTP", b" with ESMTP")), "received-tells-of-utf8"),
        Row(smtp({"VRFY .* SMTPUTF8": "501 what?"}), "vrfy-takes-smtputf8"),
    ],
    "smtp_chunking": [
        Row(
            smtp({"BDAT [0-9].*": "502 what?"}),
            "a-letter-in-one-chunk a-letter-in-chunks-cut-anywhere an-empty-last-chunk binary-bodies-are-taken",
        ),
        Row(Fault(stores=instead(rb"^\.\r\n", b"..\r\n")), "a-letter-in-one-chunk a-letter-in-chunks-cut-anywhere"),
        Row(wrong("mixes"), "data-after-bdat"),
        Row(wrong("reads-no-chunk"), "bdat-after-the-last-chunk octets-are-read-even-where-they-are-refused"),
        Row(wrong("keeps-chunks"), "rset-forgets-chunks"),
        Row(smtp({"BDAT LAST": "250 ok"}), "bdat-that-is-none"),
        Row(smtp({"DATA": "354 go ahead"}), "data-with-a-binary-body"),
    ],
    "smtp_reports": [
        Row(smtp({"RCPT .*NOTIFY=NEVER": "555 what?"}), "notify-is-taken"),
        Row(smtp({"RCPT .*NOTIFY=ALWAYS": "250 ok"}), "notify-that-is-none"),
        Row(smtp({"RCPT .*NOTIFY=NEVER,SUCCESS": "555 what?"}), "notify-that-is-none"),
        Row(smtp({"RCPT .*ORCPT=.*": "555 what?"}), "orcpt-is-taken"),
        Row(smtp({"RCPT .*ORCPT=rfc822;.GG.*": "250 ok"}), "orcpt-that-is-none"),
        Row(smtp({"MAIL .*RET=FULL": "555 what?"}), "ret-and-envid-are-taken"),
        Row(smtp({"MAIL .*RET=SOME": "250 ok"}), "ret-that-is-none"),
        Row(smtp({"MAIL .*RET=SOME": "555 what?"}), "ret-that-is-none"),
        Row(smtp({"MAIL .*ENVID=.*GG": "250 ok"}), "envid-that-is-none"),
        Row(wrong("takes-twice"), "parameters-that-come-twice"),
        Row(smtp({"MAIL .*ENVID=[^ ]{90,}": "501 too long"}), "parameters-as-long-as-they-may-be"),
        Row(smtp({"RCPT .*ORCPT=[^ ]{450,}": "501 too long"}), "parameters-as-long-as-they-may-be"),
        Row(wrong("reports-always"), "never-is-obeyed nobody-hears-of-success-unasked"),
        Row(reports(rb"^Action: delivered", b"Action: failed"), "success-is-reported"),
        Row(reports(rb"report-type=delivery-status", b"report-type=other"), "reports-are-multipart-reports"),
        Row(reports(rb"message/delivery-status", b"text/plain"), "reports-are-multipart-reports"),
        Row(reports(rb"^Return-Path: <>", b"Return-Path: <postmaster@model.test>"), "reports-come-from-nobody"),
        Row(reports(rb"^Original-Envelope-Id: .*", b"X-Lost: x"), "reports-name-the-envelope"),
        Row(reports(rb"^(Original-Envelope-Id: .*)\+", rb"\1+2B"), "reports-name-the-envelope"),
        Row(reports(rb"^Reporting-MTA: dns;", b"Reporting-MTA:"), "reports-have-the-fields-that-they-must-have"),
        Row(reports(rb"^Final-Recipient: ", b"X-Recipient: "), "reports-have-the-fields-that-they-must-have"),
        Row(reports(rb"^Action: .*\r\n", b""), "reports-have-the-fields-that-they-must-have"),
        Row(reports(rb"^Status: 2", b"Status: 5"), "reports-have-the-fields-that-they-must-have"),
        Row(reports(rb"^Original-Recipient: .*\r\n", b""), "reports-name-the-original-recipient"),
        Row(
            reports(rb"^Final-Recipient: ", b"Original-Recipient: rfc822; somebody@else.test\r\nFinal-Recipient: "),
            "reports-name-no-other-original-recipient",
        ),
        Row(reports(rb"^--x--", b"What nobody needs to have back.\r\n--x--"), "reports-of-success-have-headers-alone"),
        Row(reports(rb"^Mailbe-Conform: .*\r\n", b""), "reports-of-success-have-headers-alone"),
    ],
    "smtp_deliverby": [
        Row(offers("DELIVERBY soon", without="DELIVERBY"), "deliverby-tells-its-least-time"),
        Row(smtp({"MAIL .*BY=3600;RT": "501 what?"}), "deliverby-is-taken"),
        Row(smtp({"MAIL .*BY=-5;N": "501 what?"}), "deliverby-may-be-over-already"),
        Row(smtp({"MAIL .*BY=3600;TR": "250 ok"}), "deliverby-that-is-none"),
        Row(smtp({"MAIL .*BY=-5;R": "250 ok"}), "deliverby-that-leaves-no-time"),
        Row(smtp({"MAIL .*BY=59;R": "250 ok"}), "deliverby-below-the-least-time"),
    ],
    "smtp_future": [
        Row(offers("FUTURERELEASE soon", without="FUTURERELEASE"), "futurerelease-tells-its-limits"),
        Row(smtp({"MAIL .*HOLDFOR=60": "555 what?"}), "holdfor-and-holduntil-are-taken"),
        Row(smtp({"MAIL .*HOLDFOR=60 HOLDUNTIL=.*": "250 ok"}), "holds-that-are-none"),
        Row(smtp({"MAIL .*HOLDFOR=soon": "250 ok"}), "holds-that-are-none"),
        Row(smtp({"MAIL .*HOLDFOR=86401": "250 ok"}), "holds-beyond-the-limits"),
        Row(smtp({"MAIL .*HOLDUNTIL=2036-01-02.*": "250 ok"}), "holds-beyond-the-limits"),
        Row(wrong("holds-nothing"), "a-letter-is-held-for-a-time a-letter-is-held-until-a-date"),
    ],
    "pop3_authorization": [
        Row(pop3({"XYZZY": "+OK"}), "unknown-commands-are-refused"),
        Row(pop3({"NOOP": "+OK"}), "messages-are-for-who-has-logged-in"),
        Row(wrong("stays"), "quit-before-log-in", silent=True),
        Row(pop3({"(?-i:stat)": "-ERR"}), "keywords-in-any-case"),
        Row(pop3({"PASS something": "+OK"}), "pass-without-user"),
        Row(wrong("lets-anybody-in"), "a-wrong-password"),
        Row(Fault(says=instead(rb"\[AUTH\] ", b"")), "a-wrong-password-has-its-code", before="a-wrong-password"),
        Row(pop3({"USER somebody": "+OK"}), "log-in-comes-once"),
        Row(Fault(says=instead(rb"^-ERR no", b"-err no")), "status-lines-are-well-formed"),
        Row(wrong("hangs-up"), "commands-of-255-octets"),
        Row(Fault(), "apop-is-offered"),
    ],
    "pop3_listing": [
        Row(pop3({"STAT": "+OK one 5"}), "stat-tells-two-numbers"),
        Row(pop3({"STAT": "+OK 3 5"}), "list-numbers-all-messages"),
        Row(pop3({r"LIST \d+": "+OK 1 1"}), "list-of-one-message"),
        Row(pop3({"RETR 0": "+OK"}), "numbers-that-no-message-has"),
        Row(pop3({"RETR one": "+OK"}), "arguments-that-are-none"),
        Row(pop3({"UIDL": "-ERR"}), "uidl-is-known"),
        Row(pop3({"UIDL": f"+OK\r\n1 {'x' * 71}\r\n."}), "unique-ids-are-well-formed"),
        Row(pop3({r"UIDL \d+": "+OK 1 other"}), "unique-id-of-one-message"),
        Row(wrong("new-ids"), "unique-ids-stay"),
        Row(pop3({"NOOP": "-ERR"}), "noop-says-ok"),
    ],
    "pop3_messages": [
        Row(wrong("counts-one-more"), "sizes-are-those-of-what-is-sent"),
        Row(Fault(sends=instead(rb"^\.\.x", b".x")), "dots-are-stuffed dots-are-stuffed-by-top"),
        Row(Fault(sends=lambda octets: octets + b"%d\r\n" % time.monotonic_ns()), "messages-can-be-read-again"),
        Row(pop3({"TOP .*": "-ERR"}), "top-is-known"),
        Row(wrong("top-of-one-more"), "top-sends-as-many-lines"),
        Row(wrong("top-of-few"), "top-of-more-lines-than-there-are"),
    ],
    "pop3_update": [
        Row(wrong("deletes-in-name"), "a-deleted-message-is-gone"),
        Row(wrong("counts-deleted"), "deleted-messages-do-not-count"),
        Row(pop3({r"LIST \d+": "+OK 9 9"}), "numbers-stay-in-a-session"),
        Row(pop3({"RSET": "+OK"}), "rset-brings-back-what-was-deleted"),
        Row(wrong("deletes-without-quit"), "without-quit-nothing-is-deleted"),
        Row(wrong("deletes-nothing"), "quit-deletes-what-is-marked"),
        Row(wrong("deletes-what-is-read"), "quit-without-deletions-deletes-nothing"),
        Row(wrong("shares"), "nobody-deletes-under-an-open-session"),
        Row(wrong("holds-on"), "the-maildrop-is-free-after-quit"),
    ],
    "pop3_capabilities": [
        Row(pop3({"CAPA": "-ERR"}), "capa-is-known"),
        Row(can("X  Y"), "capabilities-are-well-formed"),
        Row(pop3({"UIDL": "-ERR"}), "uidl-is-as-good-as-its-word"),
        Row(pop3({"TOP .*": "-ERR"}), "top-is-as-good-as-its-word"),
        Row(wrong("offers-less-inside"), "capabilities-stay-after-log-in"),
        Row(
            Fault(pop3={"XYZZY": "-ERR [X] what?"}, capabilities=can(without="RESP-CODES").capabilities),
            "response-codes-are-announced",
        ),
        Row(pop3({"XYZZY": "-ERR [X what?"}), "response-codes-are-announced"),
        Row(pop3({"NOOP": "-ERR"}), "a-group-is-answered-in-order"),
        Row(pop3({"QUIT": "-ERR"}), "a-log-in-in-one-segment"),
        Row(can("EXPIRE sometimes", without="EXPIRE"), "expire-is-well-formed"),
        Row(can("LOGIN-DELAY long", without="LOGIN-DELAY"), "login-delay-is-well-formed"),
        Row(can("IMPLEMENTATION", without="IMPLEMENTATION"), "implementation-says-something"),
        Row(pop3({"UTF8": "-ERR"}), "utf8-is-taken-before-log-in"),
        Row(pop3({"UTF8": "+OK"}), "utf8-is-refused-after-log-in"),
        Row(wrong("sends-utf8"), "letters-in-utf8-for-who-has-not-asked"),
        Row(Fault(sends=instead("grüße".encode(), b"gr??e")), "letters-in-utf8-for-who-has-asked"),
        Row(pop3({"LANG": "+OK\r\n."}), "languages-are-told"),
        Row(pop3({"LANG x-conform": "+OK"}), "languages-can-be-chosen"),
    ],
    "pop3_tls": [
        Row(wrong("tls-again"), "stls-comes-once stls-is-not-for-who-has-logged-in"),
        Row(wrong("tls-keeps"), "stls-forgets-the-user"),
        Row(wrong("obeys-plaintext"), "what-stands-behind-stls-is-not-obeyed"),
        Row(can("STLS"), "no-stls-within-implicit-tls"),
        Row(wrong("nobody-in-tls"), "a-log-in-within-implicit-tls", ("smtp", "pop3", "pop3s")),
    ],
    "pop3_sasl": [
        Row(pop3({"AUTH PLAIN .*": "-ERR"}), "sasl-plain-works"),
        Row(pop3({"AUTH LOGIN": "-ERR"}), "sasl-login-works"),
        Row(pop3({"AUTH CRAM-MD5": "-ERR"}), "sasl-cram-md5-works"),
        Row(pop3({"AUTH PLAIN": "-ERR"}), "auth-without-an-initial-response"),
        Row(pop3({"AUTH XCONFORM": "+OK"}), "unknown-mechanisms-are-refused"),
        Row(wrong("any-response"), "auth-can-be-cancelled responses-that-are-not-base64"),
    ],
}
# Whoever breaks these is not reached at all, and hears so in one line.
UNREACHED = {
    ("smtp_tls", "the-greeting-comes-in-tls"),
    ("pop3_authorization", "the-greeting-says-ok"),
    ("pop3_authorization", "user-and-pass-log-in"),
    ("pop3_capabilities", "user-is-as-good-as-its-word"),
    ("pop3_tls", "stls-begins-tls"),
    ("pop3_tls", "the-greeting-comes-in-tls"),
}
# The model knows no SCRAM; what judges a log-in is the same for all mechanisms.
UNTRIED = UNREACHED | {
    (family, f"{verb}-scram-sha-{digest}-works")
    for family, verb in (("smtp_auth", "auth"), ("pop3_sasl", "sasl"))
    for digest in ("1", "1-plus", "256", "256-plus")
}
