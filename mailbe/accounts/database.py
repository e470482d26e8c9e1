"""The accounts, in one SQLite file that the server and the ``mailbe`` command share.

Every change is one transaction of its own on a connection of its own, from any thread. What the
server asks again and again (``at``, ``named``, ``answer``) is answered from memory while SQLite's
``PRAGMA data_version`` says that nobody, in no process, has changed the file since.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, Row, bindparam, create_engine, delete, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool

from mailbe.accounts.schema import ACCOUNTS, COUNTERS, LOGINS, SECRET, STEPS, steps_taken, take_steps
from mailbe.address import MAX_DOMAIN, MAX_LOCAL_PART, Address, BadAddress, folded
from mailbe.interfaces import TryLater
from mailbe.maildata import Unusable

WRITE_PATIENCE = 10.0  # seconds that a change waits for another one; it waits in a thread
CHANGE_PATIENCE_MS = 2000  # somebody waits for his log-in
READ_PATIENCE_MS = 50  # the reactor waits here, and in WAL mode a reader has next to nothing to wait for
LOOK_LASTS = 0.01  # seconds; the command that makes an account takes longer to end
NEVER = float("-inf")
MAX_CACHED = 10_000  # answers, to all questions together
MAX_NAME = 2 + 2 * MAX_LOCAL_PART + 1 + MAX_DOMAIN  # characters; nothing longer can name an account

_COLUMNS = (ACCOUNTS.c.id, ACCOUNTS.c.local, ACCOUNTS.c.domain, ACCOUNTS.c.record, ACCOUNTS.c.scram)
_EVERY = select(*_COLUMNS)
_BY_KEY = _EVERY.where(ACCOUNTS.c.key == bindparam("key"))
_BY_NAME = _EVERY.where(ACCOUNTS.c.name == bindparam("name")).limit(2)

_REMEDIES = {
    sqlite3.SQLITE_BUSY: "end the program that holds it locked",
    sqlite3.SQLITE_CANTOPEN: "change its owner or choose another folder with --maildata",
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_IOERR: "make room on its disk, or see what is wrong with it",
    sqlite3.SQLITE_READONLY: "change its owner or choose another folder with --maildata",
}
_NO_DATABASE = "put a backup in its place, or move it away to begin without accounts"


K = TypeVar("K")
T = TypeVar("T")


class DuplicateAccount(Exception):
    """There is an account of this address already, in whatever case it is written."""

    def __init__(self, address: Address) -> None:
        super().__init__(f"{address} exists already")
        self.address = address


class NoSuchAccount(Exception):
    """There is no account of this address."""

    def __init__(self, address: Address) -> None:
        super().__init__(f"there is no account {address}")


@dataclass(frozen=True, slots=True)
class Account:
    """One account as it stands in the file.

    ``record`` is what its password is held against, ``scram`` what a SCRAM proof is; ``None`` where there is no
    such text, as only who has the password can make it.
    """

    id: int
    address: Address
    record: str = field(repr=False)
    scram: str | None = field(repr=False, default=None)


class Accounts:
    """The accounts in the file ``path``, which is made at the first use when it is missing.

    Any thread may call any method but ``at``, ``named``, ``answer`` and ``close``: these belong to one thread.
    Each method raises ``Unusable`` where the file could not be opened to begin with, and ``TryLater``
    where it has gone, is locked or is broken later on; both name the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = str(path.absolute())  # a daemon may change its working directory
        self._usable = False
        # No pool: a connection that waits in one would go on writing to a file that was since replaced.
        self._engine = create_engine(
            "sqlite://", creator=lambda: _connect(self._file), poolclass=NullPool, hide_parameters=True
        )
        self._reader: _Reader | None = None
        self._identity = (0, 0)
        self._looked = NEVER
        self._secret = b""

    def open(self) -> None:
        """Make the file when it is missing, bring it up to date, and see that it can be used. Leaves nothing open.

        :raises Unusable: saying what to do.
        """
        if self._usable:
            return
        try:
            if not os.path.lexists(self._file):
                _create(self._file)
            if not os.access(self._file, os.R_OK | os.W_OK):
                remedy = _REMEDIES[sqlite3.SQLITE_CANTOPEN]
                raise Unusable(f"{self._path}: this user may not read and write it; {remedy}")
            with self._engine.begin() as connection:
                if steps_taken(connection) < len(STEPS):
                    take_steps(connection)
                elif steps_taken(connection) > len(STEPS):
                    raise Unusable(f"{self._path}: a newer mailbe made this file; update mailbe")
                connection.execute(_EVERY.limit(1)).all()
                self._secret = secret(connection)
        except OSError as error:
            remedy = _REMEDIES[sqlite3.SQLITE_CANTOPEN]
            raise Unusable(f"{self._path}: {error.strerror}; {remedy}") from error
        except DBAPIError as error:
            code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF  # the extended code's first octet
            remedy = _REMEDIES.get(code, _NO_DATABASE)
            raise Unusable(f"{self._path}: {error.orig}; {remedy}") from error
        self._usable = True

    def close(self) -> None:
        """Close the file. The next call of any method opens it again."""
        self._forget()
        self._usable = False

    def add(self, address: Address, record: str, scram: str | None = None) -> None:
        """Add an account; on return it is safely on the disk.

        :raises DuplicateAccount:
        """
        with self._transaction() as connection:
            add_account(connection, address, record, scram)

    def add_all(self, entries: Iterable[tuple[Address, str]]) -> None:
        """Add an account for each address and record, or none at all.

        :raises DuplicateAccount: naming the first address that has an account already.
        """
        with self._transaction() as connection:
            for address, record in entries:
                add_account(connection, address, record, None)

    def set_record(
        self, account_id: int, record: str, scram: str | None = None, *, expected: str | None = None
    ) -> bool:
        """Give an account a new record and SCRAM text; with ``expected``, only while that still is its record.

        Both always change together, so that no SCRAM text outlives the password that it was made of.
        Returns whether it has them now; if not, the account was removed or its record changed.
        """
        this = update(ACCOUNTS).where(ACCOUNTS.c.id == account_id)
        statement = this.values(record=record, scram=None)
        if expected is not None:
            statement = statement.where(ACCOUNTS.c.record == expected)
        with self._transaction() as connection:
            if connection.execute(statement).rowcount == 0:
                return False
            # By itself: a SCRAM text that stays when the record changes is taken for a forgotten one, see STEPS.
            connection.execute(this.values(scram=scram))
        return True

    def remove(self, address: Address) -> Account:
        """Remove the account of ``address``, in whatever case it is written; returns what it was.

        :raises NoSuchAccount:
        """
        statement = delete(ACCOUNTS).where(ACCOUNTS.c.key == address.key).returning(*_COLUMNS)
        with self._transaction() as connection:
            row = connection.execute(statement).one_or_none()
            if row is None:
                raise NoSuchAccount(address)
            # Who takes the name later is somebody else.
            connection.execute(delete(COUNTERS).where(COUNTERS.c.subject == address.key))
            connection.execute(delete(LOGINS).where(LOGINS.c.account == row.id))
        return _account(row)

    def all(self) -> list[Account]:
        """Every account, sorted by address; case does not count."""
        with self._transaction() as connection:
            rows = connection.execute(_EVERY.order_by(ACCOUNTS.c.key)).all()
        return [_account(row) for row in rows]

    def empty(self) -> bool:
        """Whether there is no account at all."""
        with self._transaction() as connection:
            return connection.execute(_EVERY.limit(1)).first() is None

    def all_have_scram(self) -> bool:
        """Whether every account can log in by SCRAM."""
        return self.answer(_all_have_scram, None)

    def has_scheme(self, scheme: str) -> bool:
        """Whether any account's record is of ``scheme``."""
        return self.answer(_has_scheme, scheme)

    def at(self, address: Address) -> Account | None:
        """The account of ``address``, in whatever case it is written."""
        return self.answer(_by_key, address.key)

    def named(self, name: str) -> Account | None:
        """Whom ``name`` means at log-in: an address, or what stands before the @ of one account only."""
        if len(name) > MAX_NAME:
            return None
        return self.answer(_by_name, name)

    def answer(
        self, question: Callable[[Connection, K], T], about: K, *, same_look: bool = False, lately: bool = False
    ) -> T:
        """What ``question`` reads about ``about`` in the file, from memory while nobody has changed the file.

        Only the file may be asked, and the answer must not change: it is given again.

        :param same_look: whether the look at the file that the question before has cost will do for this one too.
            Only for who has waited for nothing since: both answers are of one moment.
        :param lately: whether what another process has changed may be seen ``LOOK_LASTS`` seconds late: a letter to
            fifty need not cost fifty looks at the file.
        """
        if not self._usable:
            self.open()
        same_look = same_look or (lately and time.monotonic() - self._looked < LOOK_LASTS)
        try:
            reader = self._reader if same_look and self._reader is not None else self._fresh()
            answer: T = reader.ask(question, about)
            return answer
        except (OSError, sqlite3.Error, DBAPIError) as error:
            self._forget()
            raise TryLater(f"{self._path}: {_reason(error)}") from error

    def _fresh(self) -> _Reader:
        stat = os.stat(self._file)  # noqa: PTH116 (a Path would cost as much again)
        if self._reader is None or self._identity != (stat.st_dev, stat.st_ino):
            self._forget()
            self._reader = _Reader(self._engine)
            self._identity = (stat.st_dev, stat.st_ino)
            self._check_origin(self._reader)
        self._reader.refresh()
        self._looked = time.monotonic()
        return self._reader

    def _check_origin(self, reader: _Reader) -> None:
        # A backup may take the file's place at any time. But what ``mailbe user add`` makes where a disk is not
        # mounted has other accounts, and of everybody else it would seem that nobody of that name is here.
        if reader.ask(secret, None) != self._secret:
            self._forget()
            raise TryLater(f"{self._path}: this file was not made from the one before; to use it, start again")

    def _forget(self) -> None:
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.close()

    @contextmanager
    def change(self, *, lasting: bool = False) -> Iterator[Connection]:
        """A transaction that may read first and write then, as nobody else writes until it has ended.

        :param lasting: whether it is safely on the disk when it has ended. Else it does not wait for that: who is
            killed loses nothing, and a loss of power may undo the last of these.
        """
        with self._transaction() as connection:
            if not lasting:
                connection.exec_driver_sql("PRAGMA synchronous = NORMAL")
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {CHANGE_PATIENCE_MS}")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        self.open()
        try:
            with self._engine.begin() as connection:
                yield connection
            self._looked = NEVER
        except DBAPIError as error:
            raise TryLater(f"{self._path}: {_reason(error)}") from error


class _Reader:
    """The connection that stays open, and what it has answered since the file last changed."""

    def __init__(self, engine: Engine) -> None:
        # Autocommit: between two questions no transaction is open, which would show a frozen picture
        # and keep SQLite from moving the write-ahead log into the file.
        self._connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        # Straight to the driver: a statement through SQLAlchemy costs ten times as much.
        driver: Any = self._connection.connection.driver_connection
        self._pragma: Callable[[str], sqlite3.Cursor] = driver.execute
        self._pragma(f"PRAGMA busy_timeout = {READ_PATIENCE_MS}")
        self._version: object = None
        self.ask = lru_cache(MAX_CACHED)(self._ask)

    def refresh(self) -> None:
        """Drop every answer when anybody else has changed the file since the last call."""
        version = self._pragma("PRAGMA data_version").fetchone()
        if version != self._version:
            self.ask.cache_clear()
            self._version = version

    def close(self) -> None:
        self._connection.close()

    def _ask(self, question: Callable[[Connection, Any], Any], about: object) -> Any:
        return question(self._connection, about)


def secret(connection: Connection, _: None = None) -> bytes:
    """What only this file knows, and keeps."""
    return cast(bytes, connection.execute(select(SECRET.c.value)).scalar_one())


def add_account(connection: Connection, address: Address, record: str, scram: str | None) -> None:
    """Add an account in a transaction.

    :raises DuplicateAccount:
    """
    values = {"local": address.local, "domain": address.domain, "key": address.key}
    values |= {"name": folded(address.local), "record": record}
    try:
        connection.execute(insert(ACCOUNTS), {**values, "scram": scram})
    except IntegrityError:
        raise DuplicateAccount(address) from None


def is_named(connection: Connection, local: str) -> bool:
    """Whether any account, in whatever domain, has this before its @."""
    return connection.execute(_BY_NAME, {"name": folded(local)}).first() is not None


def _all_have_scram(connection: Connection, _: None) -> bool:
    return connection.execute(_EVERY.where(ACCOUNTS.c.scram.is_(None)).limit(1)).first() is None


def _has_scheme(connection: Connection, scheme: str) -> bool:
    # A range, which the index on records answers; ~ comes right behind }.
    within = ACCOUNTS.c.record.between(f"{{{scheme}}}", f"{{{scheme}~")
    return connection.execute(_EVERY.where(within).limit(1)).first() is not None


def _by_key(connection: Connection, key: str) -> Account | None:
    row = connection.execute(_BY_KEY, {"key": key}).one_or_none()
    return None if row is None else _account(row)


def _by_name(connection: Connection, name: str) -> Account | None:
    if "@" in name:
        try:
            return _by_key(connection, Address.parse(name).key)
        except BadAddress:
            return None
    rows = connection.execute(_BY_NAME, {"name": folded(name)}).all()
    return _account(rows[0]) if len(rows) == 1 else None


def _connect(file: str) -> sqlite3.Connection:
    # mode=rw makes no file: where it was deleted, an empty one in its place would look like no accounts.
    connection = sqlite3.connect(f"{Path(file).as_uri()}?mode=rw", uri=True, timeout=WRITE_PATIENCE)
    connection.execute("PRAGMA synchronous = FULL")  # on the disk before COMMIT returns, in WAL mode too
    return connection


def _create(file: str) -> None:
    # Made under another name and then linked, so that it appears whole and once, however many processes
    # do this at a time. SQLite itself syncs the folder with each connection's first commit.
    descriptor, draft = tempfile.mkstemp(prefix=Path(file).name + ".", dir=Path(file).parent)  # mode 0600
    os.close(descriptor)
    try:
        engine = create_engine("sqlite://", creator=lambda: _connect(draft), poolclass=NullPool)
        with engine.begin() as connection:
            take_steps(connection, new=True)
        with engine.connect() as connection:
            # Not before: where the disk is full, the log would keep what was not moved into the file.
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        for part in ("", "-journal", "-wal", "-shm"):
            Path(draft + part).unlink(missing_ok=True)


def _account(row: Row[Any, Any, Any, Any, Any]) -> Account:
    return Account(row.id, Address(row.local, row.domain), row.record, row.scram)


def _reason(error: OSError | sqlite3.Error | DBAPIError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error.orig if isinstance(error, DBAPIError) else error)
