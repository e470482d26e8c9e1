"""The servers that are measured, each with a configuration of its own in a folder of its own, on loopback."""

from bench.peers.aiosmtpd import Aiosmtpd
from bench.peers.base import Peer
from bench.peers.dovecot import Dovecot
from bench.peers.mailbe import Mailbe
from bench.peers.postfix import Postfix
from bench.peers.unpacked import Exim, OpenSmtpd

PEERS: tuple[type[Peer], ...] = (Mailbe, Postfix, OpenSmtpd, Exim, Dovecot, Aiosmtpd)
