"""
The batches of one partition, in SQLite.

Owns the schema and every statement. A batch is written and removed in one transaction,
synced to the disk; it is waiting, refused by the ingest, or lost to a bound (then a row
without a body remains until its owner has counted it).

A connection lives for one `session` and a fork waits for it (`hooks.spooling`): SQLite's
locks belong to a process, and a child that inherited an open database would take the
parent's for its own. Source: sqlite.org, "How To Corrupt", section 2.6.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple
from uuid import uuid4

from .. import hooks
from ..wire import Batch
from . import clock
from .database import StoreDamaged, connect, prepare, transaction, translated
from .folder import Partition

if TYPE_CHECKING:
    import sqlite3

#: Why a row is lost; the reasons of `errors.SpoolFull`, `SpoolExpired` and `SpoolDamaged`.
FULL, EXPIRED, DAMAGED = "spool_full", "spool_expired", "spool_damaged"

_INSERT = (
    "INSERT INTO batch (state, owner, writer, position, tried, key, events, bytes, body, written)"
    " VALUES ('waiting', ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_COLUMNS = "id, writer, position, tried, key, events, bytes, body"
#: Compact JSON is the same from both encoders, so bodies are joined without being read.
_HEAD, _TAIL = b'{"events":[', b"]}"


class Lost(NamedTuple):
    """Events that a bound cost, as their owner learns of it."""

    reason: str
    events: int


class Store:
    """
    The store of one partition. `max_bytes` bounds the bodies, `max_age` (seconds) how long one waits.

    Every method of a `session` raises `StoreUnavailable` or `StoreDamaged`, and has then
    changed nothing.
    """

    def __init__(
        self,
        partition: Partition,
        url: str,
        max_bytes: int,
        max_age: float,
        *,
        read_clock: Callable[[], clock.Reading] = clock.read,
    ) -> None:
        self.partition = partition
        self._url = url
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._read_clock = read_clock

    @contextlib.contextmanager
    def session(self, in_flight: Optional[Batch] = None) -> Iterator[Session]:
        """Open the database, made if need be, for a few transactions; no bound takes the batch in flight."""
        with hooks.spooling, translated():
            self.partition.make()
            with contextlib.closing(connect(self.partition)) as connection:
                prepare(connection)
                with transaction(connection):
                    now = _tick(connection, self._url, self._read_clock())
                spared = "" if in_flight is None else in_flight.idempotency_key
                yield Session(connection, self._max_bytes, now - self._max_age, now, spared)

    def set_aside_if_damaged(self) -> bool:
        """Rename the file unless another process has done so already; returns whether it was damaged."""
        with translated(), self.partition.mending():
            try:
                with hooks.spooling, translated(), contextlib.closing(connect(self.partition)) as connection:
                    prepare(connection)
                    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            except StoreDamaged:
                verdict = "damaged"
            if verdict == "ok":
                return False
            self.partition.set_aside()
            return True


class Session:
    """Transactions on an open store."""

    def __init__(
        self, connection: sqlite3.Connection, max_bytes: int, oldest: float, now: float, spared: str
    ) -> None:
        self._connection = connection
        self._max_bytes = max_bytes
        #: On the store's clock: what was written before is too old.
        self._oldest_written = oldest
        self._now = now
        #: The key of the batch in flight.
        self._spared = spared

    # -- writing ------------------------------------------------------------------------

    def append(self, owner: str, batch: Batch) -> List[Lost]:
        """Write a batch at the end; past `max_bytes` the oldest are lost. Returns what `owner` lost."""
        with transaction(self._connection):
            self._insert(owner, owner, batch)
            self._make_room()
            return self._count_lost(owner)

    def settle(self, delivered: Sequence[str], refused: Sequence[Tuple[str, str]]) -> None:
        """Remove the batches under these keys, and keep those out of the way that the ingest refused."""
        if not delivered and not refused:
            return
        with transaction(self._connection):
            self._connection.executemany("DELETE FROM batch WHERE key = ?", [(key,) for key in delivered])
            self._connection.executemany(
                "UPDATE batch SET state = 'refused', why = ? WHERE key = ?",
                [(why, key) for key, why in refused],
            )

    def restore_refused(self, owner: str) -> None:
        """Let what the ingest refused wait again."""
        with transaction(self._connection):
            self._connection.execute(
                "UPDATE batch SET state = 'waiting', why = NULL, owner = ? WHERE state = 'refused'", (owner,)
            )

    # -- reading ------------------------------------------------------------------------

    def take(self, owner: str, most_events: int, most_bytes: int) -> Optional[Batch]:
        """
        Return the oldest waiting batch of an owner, which stays until it is settled.

        What never went out is joined with what follows it, up to the limits of a POST; what
        is too large for one goes in halves. Either gets its final key here, before it goes out.
        """
        with transaction(self._connection):
            while True:
                row = self._oldest(owner)
                if row is None:
                    return None
                batch = self._joined(owner, row, most_events, most_bytes)
                if batch is None:
                    self._lose(row.id, DAMAGED)
                elif len(batch) > 1 and len(batch.body) > most_bytes:
                    self._halve(owner, row, batch)
                else:
                    self._connection.execute("UPDATE batch SET tried = 1 WHERE id = ?", (row.id,))
                    return batch

    def held_by(self, owner: str) -> int:
        """Return how many events are an owner's to deliver, the batch in flight included."""
        return self._sum("state = 'waiting' AND owner = ?", owner)

    def count_lost(self, owner: str) -> List[Lost]:
        """Return, once, what the bounds have cost an owner; first let what is too old go."""
        with transaction(self._connection):
            for (row_id,) in self._connection.execute(
                "SELECT id FROM batch WHERE state != 'lost' AND written < ? AND key != ?",
                (self._oldest_written, self._spared),
            ).fetchall():
                self._lose(row_id, EXPIRED)
            return self._count_lost(owner)

    def owners(self) -> List[str]:
        """Return everybody who has a batch here."""
        return [owner for (owner,) in self._connection.execute("SELECT DISTINCT owner FROM batch")]

    def adopt(self, owner: str, dead: str) -> int:
        """Make the batches of a dead owner another's; returns how many events wait in them."""
        with transaction(self._connection):
            events = self._sum("state = 'waiting' AND owner = ?", dead)
            lost = self._sum("state = 'lost' AND owner = ?", dead)
            self._connection.execute("UPDATE batch SET owner = ? WHERE owner = ?", (owner, dead))
            return events + lost

    # -- within a transaction -----------------------------------------------------------

    def _sum(self, condition: str, *values: object) -> int:
        query = f"SELECT COALESCE(SUM(events), 0) FROM batch WHERE {condition}"  # noqa: S608 - ours
        total: int = self._connection.execute(query, values).fetchone()[0]
        return total

    def _insert(self, owner: str, writer: str, batch: Batch) -> None:
        values = (owner, writer, batch.position, batch.tried, batch.idempotency_key)
        sizes = (len(batch), len(batch.body), batch.body, self._now)
        self._connection.execute(_INSERT, (*values, *sizes))

    def _make_room(self) -> None:
        (used,) = self._connection.execute("SELECT COALESCE(SUM(bytes), 0) FROM batch").fetchone()
        if used <= self._max_bytes:
            return
        oldest = self._connection.execute(
            "SELECT id, bytes FROM batch WHERE state != 'lost' AND key != ? ORDER BY id", (self._spared,)
        )
        for row_id, size in oldest.fetchall():
            self._lose(row_id, FULL)
            used -= size
            if used <= self._max_bytes:
                return

    def _lose(self, row_id: int, reason: str) -> None:
        # What was refused has been counted already.
        self._connection.execute("DELETE FROM batch WHERE id = ? AND state = 'refused'", (row_id,))
        self._connection.execute(
            "UPDATE batch SET state = 'lost', why = ?, body = NULL, bytes = 0 WHERE id = ?", (reason, row_id)
        )

    def _count_lost(self, owner: str) -> List[Lost]:
        # Another process's bound may have taken the batch in flight: it is lost if it comes back.
        spared = (owner, self._spared)
        found = self._connection.execute(
            "SELECT why, SUM(events) FROM batch WHERE owner = ? AND state = 'lost' AND key != ? GROUP BY why",
            spared,
        )
        lost = [Lost(*row) for row in found.fetchall()]
        if lost:
            self._connection.execute(
                "DELETE FROM batch WHERE owner = ? AND state = 'lost' AND key != ?", spared
            )
        return lost

    def _oldest(self, owner: str) -> Optional[_Row]:
        """Return the first row of the writer who was here first, in that writer's own order."""
        first = self._connection.execute(
            "SELECT writer FROM batch WHERE owner = ? AND state = 'waiting' ORDER BY id LIMIT 1", (owner,)
        ).fetchone()
        if first is None:
            return None
        rows = self._following(owner, first[0])
        return next(rows, None)

    def _following(self, owner: str, writer: str, after: int = -1) -> Iterator[_Row]:
        query = (
            f"SELECT {_COLUMNS} FROM batch WHERE owner = ? AND state = 'waiting' AND writer = ?"  # noqa: S608
            " AND position > ? ORDER BY position"
        )
        return map(_Row._make, self._connection.execute(query, (owner, writer, after)))

    def _joined(self, owner: str, row: _Row, most_events: int, most_bytes: int) -> Optional[Batch]:
        """Return the batch in a row, with those after it that fit; None where it cannot be read."""
        rows = [row]
        events, size = row.events, row.size
        if not row.tried:
            for following in self._following(owner, row.writer, row.position):
                events, size = events + following.events, size + following.size
                if following.tried or events > most_events or size > most_bytes:
                    break
                rows.append(following)
        if len(rows) == 1:
            return _read(row, row.key, row.body)
        body = _HEAD + b",".join(each.body[len(_HEAD) : -len(_TAIL)] for each in rows) + _TAIL
        batch = _read(row, uuid4().hex, body)
        if batch is None or len(batch) != sum(each.events for each in rows):
            return _read(row, row.key, row.body)  # one of the others cannot be read: its turn comes
        self._rewrite(row.id, batch)
        self._connection.executemany("DELETE FROM batch WHERE id = ?", [(each.id,) for each in rows[1:]])
        return batch

    def _halve(self, owner: str, row: _Row, batch: Batch) -> None:
        first, rest = batch.halves()
        self._rewrite(row.id, first)
        self._insert(owner, row.writer, rest)

    def _rewrite(self, row_id: int, batch: Batch) -> None:
        self._connection.execute(
            "UPDATE batch SET tried = ?, key = ?, events = ?, bytes = ?, body = ? WHERE id = ?",
            (batch.tried, batch.idempotency_key, len(batch), len(batch.body), batch.body, row_id),
        )


class _Row(NamedTuple):
    id: int
    writer: str
    position: int
    tried: int
    key: str
    events: int
    size: int
    body: bytes


def _read(row: _Row, key: str, body: bytes) -> Optional[Batch]:
    try:
        payloads = json.loads(body)["events"]
        return Batch.from_spool(payloads, key, body, row.position)
    except (ValueError, KeyError, TypeError):
        return None


def open_store(folder: str, url: str, key: str, max_bytes: int, max_age: float) -> Store:
    """Return the store of an ingest URL and a key in a spool folder; no file is made yet."""
    return Store(Partition.of(Path(folder), url, key), url, max_bytes, max_age)


def _tick(connection: sqlite3.Connection, url: str, reading: clock.Reading) -> float:
    """Move the store's clock on and return it, in seconds."""
    row = connection.execute("SELECT now, boot, uptime, wall FROM about").fetchone()
    if row is None:
        connection.execute("INSERT INTO about VALUES (?, 0, ?, ?, ?)", (url, *reading))
        return 0.0
    now: float = row[0] + clock.passed(clock.Reading(*row[1:]), reading)
    connection.execute("UPDATE about SET now = ?, boot = ?, uptime = ?, wall = ?", (now, *reading))
    return now
