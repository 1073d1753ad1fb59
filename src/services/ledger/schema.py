"""The tables of the ledger, version by version, and how a file comes to the present one.

`rent`: dollars of instances by the hour, those of busy seconds among them. `mask`: which seconds of an hour have been
counted, until they are old: whoever writes the same again changes nothing. `served`: what was done by the hour,
instance, model and key. `machine` and `rental`: what is known of machines. `writer`: the last batch of each writer.
"""

import sqlite3
from typing import Final

#: Tells a file of ours from others ("vpld").
APPLICATION_ID: Final = 0x76706C64

#: What makes each version out of the one before it; the first one out of nothing.
STEPS: Final = (
    """
    CREATE TABLE rent (
        hour INTEGER NOT NULL, instance INTEGER NOT NULL, machine INTEGER,
        dollars REAL NOT NULL, busy_dollars REAL NOT NULL,
        seconds INTEGER NOT NULL, busy_seconds INTEGER NOT NULL,
        PRIMARY KEY (hour, instance)
    ) WITHOUT ROWID;
    CREATE TABLE mask (
        hour INTEGER NOT NULL, instance INTEGER NOT NULL, seen BLOB NOT NULL, busy BLOB NOT NULL,
        PRIMARY KEY (hour, instance)
    );
    CREATE TABLE served (
        hour INTEGER NOT NULL, instance INTEGER NOT NULL, model TEXT NOT NULL, key TEXT NOT NULL,
        requests INTEGER NOT NULL, errors INTEGER NOT NULL,
        tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL, estimated_tokens INTEGER NOT NULL,
        received_bytes INTEGER NOT NULL, sent_bytes INTEGER NOT NULL, bandwidth_dollars REAL NOT NULL,
        PRIMARY KEY (hour, instance, model, key)
    ) WITHOUT ROWID;
    CREATE TABLE machine (
        id INTEGER PRIMARY KEY, gpu TEXT NOT NULL, first_seen REAL NOT NULL, last_seen REAL NOT NULL,
        up_seconds INTEGER NOT NULL, requests INTEGER NOT NULL, errors INTEGER NOT NULL, drops INTEGER NOT NULL,
        tokens INTEGER NOT NULL, seconds REAL NOT NULL, ttft TEXT NOT NULL
    );
    CREATE TABLE rental (
        machine INTEGER NOT NULL, identity TEXT NOT NULL, first_seen REAL NOT NULL, last_seen REAL NOT NULL,
        PRIMARY KEY (machine, identity)
    ) WITHOUT ROWID;
    CREATE TABLE writer (id TEXT PRIMARY KEY, batch INTEGER NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
    """,
)


class UnusableLedger(Exception):
    """The file is no ledger that we can write, as a phrase for a person that does not name it."""


def bring_up(connection: sqlite3.Connection) -> None:
    """Make the present version of what there is, all or nothing. Raises UnusableLedger, sqlite3.Error."""
    if version_of(connection) == len(STEPS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = version_of(connection)  # another process may have been faster
        for step in STEPS[version:]:
            for statement in step.split(";"):
                if statement.strip():
                    connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def version_of(connection: sqlite3.Connection) -> int:
    """The version of the tables that are there, 0 for none. Raises UnusableLedger for another program's, or those of a
    later version of this one."""
    # One statement sees one moment: another process may be making the tables.
    version, application, tables = connection.execute(
        "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_master) "
        "FROM pragma_user_version, pragma_application_id"
    ).fetchone()
    if application != APPLICATION_ID and (tables or version or application):
        raise UnusableLedger("it is another program's database")
    if version > len(STEPS):
        raise UnusableLedger(f"a newer vastproxy has written it (version {version} of its tables)")
    return int(version)
