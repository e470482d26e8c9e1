"""``user.js``, which makes a new profile of Thunderbird one with an account here: only the password is left to ask.

The names are Thunderbird's own, as its account assistant writes them into ``prefs.js``.
"""

from __future__ import annotations

import json

from mailbe.address import Address, find_domain
from mailbe.announce import NothingToTell
from mailbe.autoconfig import NONE, PASSWORD, PLAIN, SSL, STARTTLS, Server, servers
from mailbe.listening import Listening

SOCKET_TYPES = {PLAIN: 0, STARTTLS: 2, SSL: 3}  # nsMsgSocketType
AUTHENTICATION = {NONE: 1, PASSWORD: 3}  # nsMsgAuthMethod

# The folders of this machine alone, which Thunderbird would make anew at each start if they were not told.
LOCAL_FOLDERS = {
    "type": "none",
    "hostname": "Local Folders",
    "userName": "nobody",
    "name": "Local Folders",
}


def ways(told: Listening, address: Address) -> tuple[Server, Server]:
    """Where a mail program fetches and sends: on other machines too, if anything is open to them.

    :raises NothingToTell:
    """
    if find_domain(address.domain, told.domains) is None:
        raise NothingToTell(f"{address} is none of this server's addresses; its domains: {' '.join(told.domains)}")
    for at_home in (False, True):
        found: dict[str, Server] = {}
        for way in servers(told, at_home=at_home):
            found.setdefault(way.kind, way)
        if len(found) == len(("pop3", "smtp")):
            return found["pop3"], found["smtp"]
    raise NothingToTell("the server has no port to fetch mail from, or none to send it; start it with both")


def user_js(address: Address, fetch: Server, send: Server) -> str:
    """The file's text, ASCII."""
    preferences: dict[str, str | int | bool] = {
        "mail.account.account1.identities": "id1",
        "mail.account.account1.server": "server1",
        "mail.account.account2.server": "server2",
        "mail.account.lastKey": 2,
        "mail.accountmanager.accounts": "account1,account2",
        "mail.accountmanager.defaultaccount": "account1",
        "mail.accountmanager.localfoldersserver": "server2",
        "mail.identity.id1.smtpServer": "smtp1",
        "mail.identity.id1.useremail": str(address),
        "mail.identity.id1.valid": True,
        "mail.server.server1.authMethod": AUTHENTICATION[fetch.authentication],
        "mail.server.server1.check_new_mail": True,
        "mail.server.server1.download_on_biff": True,
        "mail.server.server1.hostname": fetch.host,
        "mail.server.server1.leave_on_server": True,
        "mail.server.server1.login_at_startup": True,
        "mail.server.server1.name": str(address),
        "mail.server.server1.port": fetch.port,
        "mail.server.server1.socketType": SOCKET_TYPES[fetch.socket],
        "mail.server.server1.type": fetch.kind,
        "mail.server.server1.userName": str(address),
        **{f"mail.server.server2.{name}": value for name, value in LOCAL_FOLDERS.items()},
        "mail.smtp.defaultserver": "smtp1",
        "mail.smtpserver.smtp1.authMethod": AUTHENTICATION[send.authentication],
        "mail.smtpserver.smtp1.hostname": send.host,
        "mail.smtpserver.smtp1.port": send.port,
        "mail.smtpserver.smtp1.try_ssl": SOCKET_TYPES[send.socket],
        "mail.smtpserver.smtp1.type": send.kind,
        "mail.smtpserver.smtp1.username": str(address),
        "mail.smtpservers": "smtp1",
    }
    return "".join(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in preferences.items())
