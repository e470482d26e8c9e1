"""The tables of the account database, and how a file that an older version made gets those that it lacks.

The steps are taken in their order when a file is opened, and ``PRAGMA user_version`` counts them.
"""

from __future__ import annotations

import secrets
from typing import cast

from sqlalchemy import Connection, column, insert, select, table

# A new file takes all the steps, an old one those that it lacks; so one that was released never changes.
STEPS: tuple[tuple[str, ...], ...] = (
    (
        # AUTOINCREMENT: the id of a removed account never comes back, so set_record() cannot meet the wrong one.
        # key is Address.key, what no two accounts share; name is the local part, case-folded.
        """CREATE TABLE accounts (id INTEGER PRIMARY KEY AUTOINCREMENT, local TEXT NOT NULL, domain TEXT NOT NULL,
            key TEXT NOT NULL UNIQUE, name TEXT NOT NULL, record TEXT NOT NULL)""",
        "CREATE INDEX ix_accounts_name ON accounts (name)",
    ),
    (
        "ALTER TABLE accounts ADD COLUMN scram TEXT",
        "CREATE INDEX ix_accounts_without_scram ON accounts (id) WHERE scram IS NULL",
        "CREATE INDEX ix_accounts_record ON accounts (record)",
        # The version before knows nothing of the column: where it sets a password, the old one's SCRAM text must go.
        """CREATE TRIGGER no_old_scram AFTER UPDATE OF record ON accounts
            WHEN NEW.record IS NOT OLD.record AND NEW.scram IS OLD.scram
            BEGIN UPDATE accounts SET scram = NULL WHERE id = NEW.id; END""",
        # The three tables of the guard, which says what they mean.
        """CREATE TABLE counters (subject TEXT NOT NULL, origin TEXT NOT NULL, failures TEXT NOT NULL,
            locks INTEGER NOT NULL, locked_at REAL NOT NULL, locked_for REAL NOT NULL, touched REAL NOT NULL,
            PRIMARY KEY (subject, origin))""",
        "CREATE INDEX ix_counters_touched ON counters (touched)",
        """CREATE TABLE logins (account INTEGER NOT NULL, origin TEXT NOT NULL, at REAL NOT NULL, peer TEXT NOT NULL,
            PRIMARY KEY (account, origin))""",
        "CREATE TABLE secret (value BLOB NOT NULL)",
    ),
    (
        # invitations.py says what it means.
        """CREATE TABLE invitations (label TEXT NOT NULL PRIMARY KEY, digest BLOB NOT NULL UNIQUE,
            uses INTEGER NOT NULL, remaining INTEGER NOT NULL, ends REAL NOT NULL)""",
    ),
    (
        # terms.py says what they mean.
        "CREATE TABLE terms (account INTEGER NOT NULL PRIMARY KEY, days INTEGER, delay INTEGER)",
        """CREATE TABLE fetched (account INTEGER NOT NULL, sent INTEGER NOT NULL, at REAL NOT NULL,
            PRIMARY KEY (account, sent))""",
        """CREATE TRIGGER no_terms_of_nobody AFTER DELETE ON accounts BEGIN
            DELETE FROM terms WHERE account = OLD.id; DELETE FROM fetched WHERE account = OLD.id; END""",
    ),
    (
        # directory.py and quotas.py say what they mean. Targets have ids, and not addresses: who takes the name of what
        # was removed does not get its letters. 0 is no id.
        "CREATE TABLE domains (key TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL)",
        """CREATE TABLE aliases (id INTEGER PRIMARY KEY AUTOINCREMENT, local TEXT NOT NULL, domain TEXT NOT NULL,
            key TEXT NOT NULL UNIQUE)""",
        """CREATE TABLE targets (alias INTEGER NOT NULL, account INTEGER NOT NULL, other INTEGER NOT NULL,
            PRIMARY KEY (alias, account, other))""",
        "CREATE INDEX ix_targets_account ON targets (account)",
        "CREATE INDEX ix_targets_other ON targets (other)",
        "CREATE TABLE quotas (account INTEGER NOT NULL PRIMARY KEY, octets INTEGER, letters INTEGER)",
        """CREATE TRIGGER no_targets_that_are_gone AFTER DELETE ON accounts BEGIN
            DELETE FROM targets WHERE account = OLD.id; DELETE FROM quotas WHERE account = OLD.id; END""",
        """CREATE TRIGGER no_targets_of_no_alias AFTER DELETE ON aliases BEGIN
            DELETE FROM targets WHERE alias = OLD.id OR other = OLD.id; END""",
        # Of one address there is one or the other, in whatever process either is added.
        """CREATE TRIGGER no_account_like_an_alias BEFORE INSERT ON accounts
            WHEN EXISTS (SELECT 1 FROM aliases WHERE key = NEW.key)
            BEGIN SELECT RAISE(ABORT, 'it is an alias'); END""",
    ),
)
ACCOUNTS = table("accounts", *map(column, ("id", "local", "domain", "key", "name", "record", "scram")))
COUNTERS = table(
    "counters", *map(column, ("subject", "origin", "failures", "locks", "locked_at", "locked_for", "touched"))
)
LOGINS = table("logins", *map(column, ("account", "origin", "at", "peer")))
INVITATIONS = table("invitations", *map(column, ("label", "digest", "uses", "remaining", "ends")))
SECRET = table("secret", column("value"))
TERMS = table("terms", *map(column, ("account", "days", "delay")))
FETCHED = table("fetched", *map(column, ("account", "sent", "at")))
DOMAINS = table("domains", *map(column, ("key", "name")))
ALIASES = table("aliases", *map(column, ("id", "local", "domain", "key")))
TARGETS = table("targets", *map(column, ("alias", "account", "other")))
QUOTAS = table("quotas", *map(column, ("account", "octets", "letters")))


def steps_taken(connection: Connection) -> int:
    """How many of the steps the file has; none is also what the version said that took the first one only."""
    return cast(int, connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def take_steps(connection: Connection, *, new: bool = False) -> None:
    """Take the steps that the file lacks; ``new``: all of them."""
    # All or none, and once however many processes begin at a time: who waits here finds it done.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    # The version that knew the first step only did not count it.
    for step in STEPS[0 if new else max(1, steps_taken(connection)) :]:
        for statement in step:
            connection.exec_driver_sql(statement)
    if connection.execute(select(SECRET)).first() is None:
        connection.execute(insert(SECRET), {"value": secrets.token_bytes(32)})
    connection.exec_driver_sql(f"PRAGMA user_version = {len(STEPS)}")
