"""``mailbe client`` on the full screen, with Textual.

:mod:`~mailbe.client.screen.app` is the program; each screen has a module of its name, over
:mod:`~mailbe.client.screen.chrome`, which holds what they share. All that waits for a server runs in threads
(:mod:`~mailbe.client.screen.away`), so keys always work.
"""

from __future__ import annotations

from threading import Thread

from mailbe.client.mail import Mail
from mailbe.client.register import Desk
from mailbe.client.screen.app import MailClient
from mailbe.client.servers import Servers
from mailbe.client.trust import Trust

CLOSE_SECONDS = 2


def run(servers: Servers, trust: Trust, name: str | None) -> int:
    """Read and write mail until somebody leaves; returns the exit status.

    :param name: who wants to log in, where that is known.
    """
    client = program(servers, trust, name)
    try:
        status = client.run()
    finally:
        close(client)
    if client.broken:
        raise client.broken
    return 1 if status is None else status


def close(client: MailClient) -> None:
    """Hang up, without waiting long for a server."""
    closing = Thread(target=client.mail.close, daemon=True)
    closing.start()
    closing.join(CLOSE_SECONDS)


def program(servers: Servers, trust: Trust, name: str | None) -> MailClient:
    """The program that :func:`run` runs."""
    return MailClient(
        lambda listen: Mail(servers, trust, listen), Desk(servers, trust), trust.accept, _place(servers), name
    )


def _place(servers: Servers) -> str:
    ports = {"POP3": servers.pop3, "SMTP": servers.smtp}
    said = (f"{name} {', '.join(str(door.port) for door in doors)}" for name, doors in ports.items())
    return " · ".join((servers.name, *said))
