"""A connection that sends at once what the system takes at once.

Twisted's own asks the reactor first whether there is room, which costs each reply two more system calls and one more
turn of the reactor. There nearly always is room; where there is none, all goes as it does there.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet._newtls import startTLS
from twisted.internet.abstract import FileDescriptor
from twisted.internet.tcp import Server
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol


class PromptServer(Server):
    """A connection that a client has made."""

    def write(self, data: bytes) -> None:
        if self.TLS:
            cast(Any, self.protocol).write(data)  # which encrypts it, and comes back by way of _Below
        else:
            _Below.write(self, data)

    def startTLS(self, context: Any, normal: bool = True) -> None:
        startTLS(self, context, normal, _Below)
        # Its own collects what is written until the next turn of the reactor; our replies leave in one write anyhow.
        vars(self.protocol).pop("write", None)


class PromptTls(TLSMemoryBIOFactory):
    """TLS from the first octet on, under the conversations of another factory."""

    protocol = TLSMemoryBIOProtocol  # and not the one that collects what is written


class _Below(FileDescriptor):
    """What Twisted calls on a connection for what is not to be encrypted, or is already."""

    def write(self: Any, data: bytes) -> None:
        if self.dataBuffer or self._tempDataLen or not self.connected or self._writeDisconnected:
            FileDescriptor.write(self, data)
            return
        try:
            sent = self.socket.send(data)
        except OSError:
            sent = 0  # whatever it is, the reactor meets it again, and knows what to do
        if sent < len(data):
            FileDescriptor.write(self, data[sent:])
