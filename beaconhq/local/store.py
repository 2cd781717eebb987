"""
The ingest's SQLite database: what was accepted, which batches were seen, what was refused.

Owns the schema, both connections, every write and what is kept for how long; `summary` and `view` own the
queries. Blocking, and safe to call from any thread: an event loop calls it through a worker thread.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, NamedTuple, Optional, Sequence, TypeVar

from . import rollup
from .summary import Summary, summarise

if TYPE_CHECKING:
    from .validation import ValidEvent

_T = TypeVar("_T")

#: Marks the file as ours ("BEAC"), so that `--db` never writes into another program's database.
APPLICATION_ID = 0x42454143
SCHEMA_VERSION = 2

#: How long a write waits for another process that writes to the same file, in seconds.
BUSY_TIMEOUT = 5.0

# Deleting costs a pass over the rollup: it is done for so many events at once, as a share of what is kept.
_SLACK = 20
# The most events that one POST waits for.
_MOST_AT_ONCE = 50_000
# Seconds between two looks at the age of what is kept.
_AGE_INTERVAL = 60.0

_SCHEMA = (
    """
    CREATE TABLE events (
        id INTEGER PRIMARY KEY,
        ts TEXT NOT NULL,
        ts_ms INTEGER NOT NULL,
        method TEXT NOT NULL,
        route TEXT NOT NULL,
        path TEXT NOT NULL,
        status INTEGER NOT NULL,
        duration_ms INTEGER NOT NULL,
        consumer TEXT,
        error TEXT
    )
    """,
    # Covers the counts, the error rate, the last time seen and, in order, the durations of each route.
    "CREATE INDEX events_by_route ON events (method, route, duration_ms, status, ts_ms)",
    "CREATE INDEX events_by_consumer ON events (method, route, consumer)",
    # The latest failures of a route.
    "CREATE INDEX events_failed ON events (method, route, ts_ms) WHERE status >= 400",
    """
    CREATE TABLE batches (
        id INTEGER PRIMARY KEY,
        idempotency_key TEXT UNIQUE,
        stored INTEGER NOT NULL,
        received_ms INTEGER NOT NULL,
        last_event INTEGER NOT NULL
    )
    """,
    "CREATE INDEX batches_by_time ON batches (received_ms, last_event)",
    "CREATE INDEX batches_by_event ON batches (last_event)",
    *rollup.SCHEMA,
    "CREATE TABLE totals (duplicates INTEGER NOT NULL, rejected INTEGER NOT NULL, last_rejection TEXT)",
    "INSERT INTO totals VALUES (0, 0, NULL)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

_INSERT_EVENT = (
    "INSERT INTO events (ts, ts_ms, method, route, path, status, duration_ms, consumer, error)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class StoreError(Exception):
    """The database cannot be opened, read or written; `str()` of it is one line for the user."""


class Retention(NamedTuple):
    """How much is kept; None keeps all. Age counts from the arrival, whatever an event's own `ts` says."""

    events: Optional[int] = None
    hours: Optional[float] = None


class Stored(NamedTuple):
    """What became of one batch: the number of events stored for it, and whether an earlier POST did that."""

    stored: int
    duplicate: bool


_KEEP_ALL = Retention()


class EventStore:
    """
    The database in `path`, or in a temporary directory that `close()` removes.

    Writes go through one connection, summaries through another: in WAL mode a long summary does not hold up
    the ingest. Raises `StoreError` where the file cannot be used.
    """

    def __init__(self, path: Optional[Path] = None, retention: Retention = _KEEP_ALL) -> None:
        """Open the database, and create it where there is none."""
        self._retention = retention
        self._age_due = 0.0
        self._directory: Optional[tempfile.TemporaryDirectory[str]] = None
        if path is None:
            self._directory = tempfile.TemporaryDirectory(prefix="beaconhq-")
            path = Path(self._directory.name) / "events.db"
        self.path = path.absolute()
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        #: Grows with every stored, repeated or refused batch: unchanged means nothing new to show.
        self.revision = 0
        with contextlib.ExitStack() as opened:
            if self._directory is not None:
                opened.callback(self._directory.cleanup)
            with _translated(f"cannot use {self.path} as the database"):
                self._writer = opened.enter_context(contextlib.closing(_connect(self.path)))
                _prepare(self._writer, self.path)
                self._reader = opened.enter_context(contextlib.closing(_connect(self.path)))
                self._reader.execute("PRAGMA query_only = ON")
            self._opened = opened.pop_all()

    def __repr__(self) -> str:
        """Show where the events are."""
        return f"<{type(self).__name__} {str(self.path)!r}>"

    def add(self, events: Sequence[ValidEvent], idempotency_key: Optional[str] = None) -> Stored:
        """
        Store a batch, whole or not at all; under a key that was stored before, store nothing.

        Raises `StoreError` (disk full, file locked for `BUSY_TIMEOUT`): the sender may try again.
        """
        with self._transaction() as connection:
            if idempotency_key is not None:
                seen = connection.execute(
                    "SELECT stored FROM batches WHERE idempotency_key = ?", (idempotency_key,)
                ).fetchone()
                if seen is not None:
                    connection.execute("UPDATE totals SET duplicates = duplicates + 1")
                    return Stored(seen[0], duplicate=True)
            before = _last_event(connection)
            connection.executemany(_INSERT_EVENT, events)
            last = before + len(events)
            rollup.add(connection, before + 1, last)
            connection.execute(
                "INSERT INTO batches (idempotency_key, stored, received_ms, last_event) VALUES (?, ?, ?, ?)",
                (idempotency_key, len(events), int(time.time() * 1000), last),
            )
            self._forget(connection, last)
            return Stored(len(events), duplicate=False)

    def reject(self, reason: str) -> None:
        """Count a refused batch. Raises `StoreError`."""
        with self._transaction() as connection:
            connection.execute("UPDATE totals SET rejected = rejected + 1, last_rejection = ?", (reason,))

    def summary(self, *, max_routes: Optional[int] = None, max_consumers: int = 5) -> Summary:
        """Read the state of the moment, the busiest routes first. Raises `StoreError`."""
        return self.read(lambda reader: summarise(reader, max_routes=max_routes, max_consumers=max_consumers))

    def read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        """Call `query` with the reading connection, of one consistent moment. Raises `StoreError`."""
        with self._read_lock, _translated(f"cannot read {self.path}"):
            self._reader.execute("BEGIN")
            try:
                return query(self._reader)
            finally:
                self._reader.execute("ROLLBACK")

    def close(self) -> None:
        """Close the database and remove a temporary one. Waits for a call that is under way; idempotent."""
        with self._write_lock, self._read_lock:
            self._opened.close()

    def _forget(self, connection: sqlite3.Connection, last: int) -> None:
        """Delete the events, oldest arrivals first, that are too many or too old; `last` is the newest id."""
        (first,) = connection.execute("SELECT COALESCE(MIN(id), 0) FROM events").fetchone()
        through = 0
        keep = self._retention.events
        if keep is not None and last - first + 1 > keep + keep // _SLACK:
            through = last - keep
        if self._retention.hours is not None and time.monotonic() >= self._age_due:
            self._age_due = time.monotonic() + _AGE_INTERVAL
            too_old = int((time.time() - 3600 * self._retention.hours) * 1000)
            (aged,) = connection.execute(
                "SELECT COALESCE(MAX(last_event), 0) FROM batches WHERE received_ms < ?", (too_old,)
            ).fetchone()
            through = max(through, aged)
        if through >= first > 0:
            through = min(through, first + _MOST_AT_ONCE - 1)
            rollup.remove(connection, first, through)
            connection.execute("DELETE FROM events WHERE id <= ?", (through,))
            connection.execute("DELETE FROM batches WHERE last_event <= ?", (through,))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._write_lock, _translated(f"cannot write to {self.path}"):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            finally:
                # SQLite has rolled back by itself after some errors, a full disk for one.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
            self.revision += 1


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{what}: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    # No implicit transactions; the locks above keep each connection to one thread at a time.
    connection = sqlite3.connect(
        str(path), timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
    )
    rollup.add_functions(connection)
    return connection


def _last_event(connection: sqlite3.Connection) -> int:
    (last,) = connection.execute("SELECT COALESCE(MAX(id), 0) FROM events").fetchone()
    return int(last)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if tables == 0 and application_id == 0:
            for statement in _SCHEMA:
                connection.execute(statement)
        elif application_id != APPLICATION_ID:
            raise StoreError(f"cannot use {path} as the database: it belongs to another program")
        elif version != SCHEMA_VERSION:
            raise StoreError(f"cannot use {path} as the database: it was written by another beaconhq version")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    # Only now: the journal mode is a lasting change of the file.
    connection.execute("PRAGMA journal_mode = WAL")
    # In WAL mode this is safe against a crash of the program; a power cut may cost the last batches.
    connection.execute("PRAGMA synchronous = NORMAL")
