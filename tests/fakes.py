"""Stores in memory, with the same interfaces as the real ones; ``test_stores`` holds both to one contract."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import cache
from typing import Any, TypeVar, cast

from OpenSSL import SSL
from scramp import ScramMechanism
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred, succeed
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from mailbe import sent
from mailbe.address import Address, folded, login_name
from mailbe.interfaces import (
    Announcement,
    BadInvitation,
    BadName,
    BadNewPassword,
    Destination,
    EnoughHeld,
    Envelope,
    IDesk,
    ILetter,
    IMaildrop,
    IPostOffice,
    IProof,
    ISubmitter,
    ITls,
    LetterGone,
    Login,
    LoginTooSoon,
    MaildropBusy,
    MailLoop,
    NameTaken,
    NoSuchMailbox,
    NotAllDeleted,
    OverQuota,
    Quota,
    Recipient,
    RegistrationClosed,
    RelayDenied,
    Terms,
)
from mailbe.surrogate import surrogate
from mailbe.trace import MAX_HOPS, HeaderFilter, return_path

T = TypeVar("T")


class Pace:
    """Answers at once, or, when ``slow``, not before ``go`` is called: a disk that takes its time."""

    def __init__(self, *, slow: bool = False) -> None:
        self.slow = slow
        self._waiting: list[Deferred[None]] = []

    def wait(self) -> Deferred[None]:
        if not self.slow:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def go(self) -> bool:
        """Let all that waits go on; whether there was any."""
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)
        return bool(waiting)


class Drop:
    """One user's mail."""

    def __init__(self) -> None:
        self.letters: dict[str, bytes] = {}
        self.busy = False


class World:
    """Accounts with passwords, and their mail: what every fake of one test shares."""

    def __init__(self, passwords: dict[str, bytes], pace: Pace | None = None) -> None:
        self.passwords = passwords
        self.pace = pace or Pace()
        self.reception: dict[str, Drop] = {address: Drop() for address in passwords}
        self.envoi: dict[str, Drop] = {address: Drop() for address in passwords}
        self.domains = {"localhost"}
        self.aliases: dict[str, set[str]] = {}
        """What each leads to, by ``Address.key``; ``@localhost`` is the catch-all."""
        self.quotas: dict[str, Quota] = {}
        self.failure: Exception | None = None
        """What goes wrong with every delivery and deletion; a bug, with opening a maildrop too."""
        self.numbers = 0
        self.held: list[tuple[float, bytes]] = []
        """The letters that are kept back, and until when."""
        self.most_held = 1000
        """So many may be."""
        self.terms: dict[str, Terms] = {}
        """Of whom they are not the ordinary ones."""
        self.fetched: dict[Drop, float] = {}
        self.seconds: Callable[[], float] = lambda: 0.0

    def announced(self) -> Announcement:
        every = [self.terms.get(address, Terms()) for address in self.passwords]
        days, delays = {terms.days for terms in every}, {terms.delay for terms in every}
        fewest = min((each for each in days if each is not None), default=None)
        return Announcement(Terms(fewest, max(delays)), days_differ=len(days) > 1, delays_differ=len(delays) > 1)


@implementer(ISubmitter)
class FakeSubmitter:
    def __init__(self, address: Address, world: World) -> None:
        self.address = address
        self._office = FakePostOffice(world)

    def may_send_as(self, reverse_path: Address | None) -> bool:
        return reverse_path is None or self._office.reached(reverse_path)[0] == {self.address.key}


@implementer(IPostOffice)
class FakePostOffice:
    def __init__(self, world: World) -> None:
        self._world = world

    def destination(self, recipient: Address, submitter: ISubmitter | None) -> Destination:
        if recipient.key.rpartition("@")[2] not in self._world.domains:
            raise RelayDenied
        reached, limited = self.reached(recipient)
        if not reached:
            raise NoSuchMailbox
        drops = [(key, self._world.reception.setdefault(key, Drop())) for key in sorted(reached)]
        return tuple((drop, self._world.quotas.get(key) if limited else None) for key, drop in drops)

    def reached(self, address: Address) -> tuple[set[str], bool]:
        """The accounts, and whether their quotas hold."""
        local, _, domain = address.key.rpartition("@")
        parts = local.split("+")
        names = [name for count in range(len(parts), 0, -1) if (name := "+".join(parts[:count]))]
        office = bool({"postmaster", "abuse"} & set(names))
        if "abuse" in names:
            names.append("postmaster")
        for name in [*names, ""]:
            key = f"{name}@{domain}"
            if key in self._world.passwords or key in self._world.aliases:
                reached = self._led(key, set())
                break
        else:
            reached = set()
        return reached or ({f"postmaster@{domain}"} if office else set()), not office

    def _led(self, key: str, been: set[str]) -> set[str]:
        if key in been:
            return set()
        been.add(key)
        if key in self._world.passwords:
            return {key}
        return {account for target in self._world.aliases[key] for account in self._led(target, been)}

    def room(self, destination: Any, octets: int) -> Awaitable[None] | None:
        return self._look(destination, octets) if any(quota for _, quota in destination) else None

    async def _look(self, destination: Any, octets: int) -> None:
        await self._world.pace.wait()
        check_room(destination, octets or 1)

    def may_hold(self, submitter: ISubmitter | None) -> Awaitable[None] | None:
        return self._count_held()

    async def _count_held(self) -> None:
        await self._world.pace.wait()
        if len(self._world.held) >= self._world.most_held:
            raise EnoughHeld

    def postmaster(self) -> Address:
        return Address("postmaster", "localhost")

    def believed(self, reverse_path: Address | None) -> ISubmitter | None:
        if reverse_path is None or reverse_path.key not in self._world.passwords:
            return None
        return FakeSubmitter(reverse_path, self._world)

    def letter(self, envelope: Envelope) -> ILetter:
        return FakeLetter(self._world, envelope)


def check_room(mailboxes: Iterable[tuple[Drop, Quota | None]], octets: int) -> None:
    for drop, quota in mailboxes:
        if quota and not quota.has_room(len(drop.letters), sum(map(len, drop.letters.values())), octets):
            raise OverQuota


@implementer(ILetter)
class FakeLetter:
    def __init__(self, world: World, envelope: Envelope) -> None:
        world.numbers += 1
        self.id = f"letter{world.numbers}"
        self._world = world
        self._content = [return_path(envelope.reverse_path)]
        self._header = HeaderFilter()
        self._envelope = envelope

    def write(self, chunk: bytes) -> None:
        self._content.append(self._header.feed(chunk))

    async def deliver(self) -> None:
        content = await self._complete()
        release = self._envelope.release
        drops = self._drops(self._envelope.recipients if release is None else [])
        check_room(drops.items(), len(content))
        if release is not None:
            if len(self._world.held) >= self._world.most_held:
                raise EnoughHeld
            self._world.held.append((release, content))
        self._put_into(drops, content)

    async def deliver_to_each(self) -> list[OverQuota | None]:
        content = await self._complete()
        outcome: list[OverQuota | None] = []
        for recipient in self._envelope.recipients:
            try:
                check_room(cast(Any, recipient.destination), len(content))
                outcome.append(None)
            except OverQuota as error:
                outcome.append(error)
        taken = [one for one, error in zip(self._envelope.recipients, outcome, strict=True) if error is None]
        if taken:
            self._put_into(self._drops(taken), content)
        return outcome

    async def _complete(self) -> bytes:
        await self._world.pace.wait()
        if self._header.hops > MAX_HOPS:
            raise MailLoop
        if self._world.failure is not None:
            raise self._world.failure
        return b"".join([*self._content, self._header.end()])

    def _drops(self, recipients: Sequence[Recipient]) -> dict[Drop, Quota | None]:
        drops: dict[Drop, Quota | None] = {}
        for recipient in recipients:
            for drop, quota in cast(Any, recipient.destination):
                drops[drop] = drops.get(drop, quota) and quota
        if self._envelope.submitter is not None:
            drops[self._world.envoi[self._envelope.submitter.address.key]] = None
        return drops

    def _put_into(self, drops: Iterable[Drop], content: bytes) -> None:
        for drop in drops:
            drop.letters[self.id] = content

    def discard(self) -> None:
        self._content.clear()


@implementer(IMaildrop)
class FakeMaildrop:
    def __init__(self, world: World, drop: Drop, terms: Terms) -> None:
        self.terms = terms
        self._world = world
        self._drop = drop
        self._names = list(drop.letters)
        self.sizes: Sequence[int] = [len(letter) for letter in drop.letters.values()]
        self.octets = sum(self.sizes)
        surrogates = [len(b"".join(surrogate([letter]))) for letter in drop.letters.values()]
        self.surrogates = {index: size for index, size in enumerate(surrogates) if size != self.sizes[index]}

    def close(self) -> None:
        self._drop.busy = False

    def uid(self, index: int) -> str:
        return self._names[index]

    def read(self, index: int) -> Iterable[bytes]:
        try:
            letter = self._drop.letters[self._names[index]]
        except KeyError:
            raise LetterGone from None
        # Small and odd chunks, so that whatever may stand across an edge does.
        return (letter[begin : begin + 7] for begin in range(0, len(letter), 7))

    async def delete(self, indices: Iterable[int]) -> None:
        await self._world.pace.wait()
        if self._world.failure is not None:
            raise NotAllDeleted from self._world.failure
        for index in indices:
            self._drop.letters.pop(self._names[index], None)


@implementer(IRealm)
class FakeRealm:
    def __init__(self, world: World) -> None:
        self._world = world

    def requestAvatar(self, avatarId: bytes | tuple[()], mind: object, *interfaces: Any) -> Any:
        address, of_sent = sent.parse_avatar_id(bytes(avatarId))
        if ISubmitter in interfaces:
            return ISubmitter, FakeSubmitter(address, self._world), lambda: None
        drops = self._world.envoi if of_sent else self._world.reception
        terms = self._world.terms.get(address.key, Terms())
        return Deferred.fromCoroutine(self._maildrop(drops[address.key], terms))

    async def _maildrop(self, drop: Drop, terms: Terms) -> tuple[Any, FakeMaildrop, Callable[[], None]]:
        now = self._world.seconds()
        if now - self._world.fetched.get(drop, -terms.delay) < terms.delay:
            raise LoginTooSoon
        if drop.busy:
            raise MaildropBusy
        drop.busy = True
        try:
            await self._world.pace.wait()
            if isinstance(self._world.failure, ZeroDivisionError):
                raise self._world.failure
        except BaseException:
            drop.busy = False
            raise
        self._world.fetched[drop] = now
        maildrop = FakeMaildrop(self._world, drop, terms)
        return IMaildrop, maildrop, maildrop.close


@cache
def verifier(password: bytes) -> str:
    """What ``accounts.scram`` would keep of ``password``, by another hand and in less time."""
    salt, stored_key, server_key, iterations = ScramMechanism().make_auth_info(password.decode(), 4096, b"NaCl" * 4)
    salt_text, stored, server = (b64encode(part).decode() for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${iterations}:{salt_text}${stored}:{server}"


@implementer(ICredentialsChecker)
class FakeChecker:
    credentialInterfaces = (IUsernamePassword, IProof)

    def __init__(self, world: World) -> None:
        self._world = world
        self.failure: Exception | None = None
        self.peers: list[str] = []

    def requestAvatarId(self, credentials: Login | IProof) -> Deferred[bytes | tuple[()]]:
        return Deferred.fromCoroutine(self._check(credentials))

    async def _check(self, credentials: Login | IProof) -> bytes | tuple[()]:
        self.peers.append(credentials.peer)
        await self._world.pace.wait()
        if self.failure is not None:
            raise self.failure
        address, password = self._account(credentials.username)
        owner = sent.owner(credentials.username) if credentials.maildrop and password is None else None
        if owner is not None:
            address, password = self._account(owner)
        if IProof.providedBy(credentials):
            fits = await credentials.prove(verifier(password or b"nobody's"), lambda: None)
        else:
            fits = credentials.password == password
        await self._world.pace.wait()
        if password is None or not fits:
            raise UnauthorizedLogin
        return sent.avatar_id(Address.parse(address), sent=owner is not None)

    def _account(self, name: bytes) -> tuple[str, bytes | None]:
        wanted = folded(login_name(name))
        for address, password in self._world.passwords.items():
            if wanted in (address, address.partition("@")[0]):
                return address, password
        return "", None


@implementer(IDesk)
class FakeDesk:
    """Registers whom the real one would, by the plainest of its rules."""

    shortest_password, longest_password = 8, 128

    def __init__(self, world: World, registration: str = "open", domains: Sequence[str] = ("localhost",)) -> None:
        self._world = world
        self.registration = registration
        self.domains = domains
        self.invitations: set[str] = set()
        """The codes; each is good for one account."""
        self.failure: Exception | None = None
        """What both methods raise."""
        self.peers: list[str] = []

    async def register(self, name: str, password: str, invitation: str, peer: str) -> Address:
        await self._begin(peer)
        if self.registration == "closed":
            raise RegistrationClosed
        local, _, domain = name.strip().lower().partition("@")
        address = Address(local, domain or self.domains[0])
        if not local.isalnum():
            raise BadName("form")
        if address.domain not in map(str.lower, self.domains):
            raise BadName("domain")
        if len(password) < self.shortest_password:
            raise BadNewPassword("short")
        if self.registration == "invitation" and invitation not in self.invitations:
            raise BadInvitation
        if address.key in self._world.passwords:
            raise NameTaken
        self.invitations.discard(invitation)
        self._world.passwords[address.key] = password.encode()
        return address

    async def change_password(self, name: str, old: str, new: str, peer: str) -> Address:
        await self._begin(peer)
        address = Address.parse(name if "@" in name else f"{name}@{self.domains[0]}")
        if self._world.passwords.get(address.key) != old.encode():
            raise UnauthorizedLogin
        if len(new) < self.shortest_password:
            raise BadNewPassword("short")
        self._world.passwords[address.key] = new.encode()
        return address

    async def _begin(self, peer: str) -> None:
        self.peers.append(peer)
        await self._world.pace.wait()
        if self.failure is not None:
            raise self.failure


@implementer(ITls)
class FakeTls:
    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        raise AssertionError("no octets are encrypted here")

    def channel_binding(self, transport: object) -> dict[str, bytes]:
        return {"tls-exporter": b"channel"}
