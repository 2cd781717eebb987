"""
The SQLite file of a partition: its schema, how it is opened, and what its errors mean.

Owns the pragmas and the translation of foreign errors; the statements are `store.py`'s.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Iterator

if TYPE_CHECKING:
    from .folder import Partition

#: Marks the file as ours ("BEAS").
APPLICATION_ID = 0x42454153
SCHEMA_VERSION = 1
#: Seconds that a session waits for another process's transaction.
BUSY_TIMEOUT = 2.0

_SCHEMA = f"""
PRAGMA auto_vacuum = FULL;
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS batch (
    id INTEGER PRIMARY KEY,
    state TEXT NOT NULL,      -- waiting, refused or lost
    why TEXT,                 -- of refused (the ingest's words) and lost (the reason)
    owner TEXT NOT NULL,      -- who delivers it, or counts its loss
    writer TEXT NOT NULL,     -- who captured it
    position INTEGER NOT NULL,-- of its first event in the writer's order
    tried INTEGER NOT NULL,   -- whether a POST of it may have arrived: its key is final
    key TEXT NOT NULL,
    events INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    body BLOB,
    written REAL NOT NULL     -- on the store's own clock
);
CREATE INDEX IF NOT EXISTS batch_by_owner ON batch (owner, state, id);
CREATE INDEX IF NOT EXISTS batch_by_order ON batch (owner, state, writer, position);
CREATE INDEX IF NOT EXISTS batch_by_bytes ON batch (id, bytes);
CREATE TABLE IF NOT EXISTS about (
    url TEXT NOT NULL, now REAL NOT NULL, boot TEXT NOT NULL, uptime REAL NOT NULL, wall REAL NOT NULL
);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class StoreUnavailable(Exception):  # noqa: N818 - named after the condition
    """Nothing can be read or written now: a full disk, no permission, a lock that is held too long."""


class StoreDamaged(Exception):  # noqa: N818 - as above
    """The file is not the database that it was."""


def connect(partition: Partition) -> sqlite3.Connection:
    """Open a partition's database, which must be there."""
    uri = f"{partition.database.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)


def prepare(connection: sqlite3.Connection) -> None:
    """
    Make the schema where there is none, and set what belongs to a connection.

    Raises `StoreDamaged` for another program's file, `StoreUnavailable` for a newer version's.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if version > SCHEMA_VERSION and application == APPLICATION_ID:
        raise StoreUnavailable("a newer version of beaconhq wrote it")
    if version == 0 and application == 0:
        connection.executescript(_SCHEMA)
    elif application != APPLICATION_ID:
        raise StoreDamaged("another program's database")
    connection.execute("PRAGMA journal_mode = WAL")
    # A batch that was written survives a power cut too; a sync is paid off the loop.
    connection.execute("PRAGMA synchronous = FULL")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write everything inside this block, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn SQLite's and the system's errors into ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(str(error)) from None
    except sqlite3.DatabaseError as error:
        raise StoreDamaged(str(error)) from None
    except OSError as error:
        raise StoreUnavailable(str(error)) from None
