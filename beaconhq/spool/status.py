"""
What lies in a spool folder, for people: per partition, without any key.

Owns the queries behind `beaconhq spool status`. It reads, and changes nothing.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Dict, List, NamedTuple

from . import clock
from .database import StoreDamaged, StoreUnavailable, connect, translated
from .folder import DAMAGED, Partition, partitions

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path


class PartitionStatus(NamedTuple):
    """One ingest URL and key."""

    #: The folder's name: a digest, as the key itself is nowhere.
    name: str
    #: The ingest's URL, "" where the file cannot be read.
    url: str
    #: Events and batches that wait, and the bytes of their bodies.
    events: int
    batches: int
    bytes: int
    #: Seconds since the oldest of them was written.
    oldest_age: float
    #: Waiting events that belong to processes that run, which deliver them.
    owned_by_running: int
    #: Refused events by the ingest's answer; kept until a bound removes them.
    refused: Dict[str, int]
    #: Whether a damaged file was set aside here.
    has_damaged: bool
    #: Why the file cannot be read, or "".
    trouble: str


def look(folder: Path) -> List[PartitionStatus]:
    """Return the state of every partition in a folder; raises `OSError` where it cannot be read."""
    return [_look(partition) for partition in partitions(folder)]


def _look(partition: Partition) -> PartitionStatus:
    damaged = (partition.path / DAMAGED).exists()
    nothing = PartitionStatus(partition.path.name, "", 0, 0, 0, 0.0, 0, {}, damaged, "")
    try:
        with translated(), contextlib.closing(connect(partition)) as connection:
            return _read(connection, partition, nothing)
    except (StoreUnavailable, StoreDamaged) as error:
        return nothing._replace(trouble=str(error))


def _read(connection: sqlite3.Connection, partition: Partition, nothing: PartitionStatus) -> PartitionStatus:
    about = connection.execute("SELECT url, now, boot, uptime, wall FROM about").fetchone()
    if about is None:
        return nothing
    url, then, *reading = about
    now = then + clock.passed(clock.Reading(*reading), clock.read())
    waiting = connection.execute(
        "SELECT owner, SUM(events), COUNT(*), SUM(bytes), MIN(written) FROM batch"
        " WHERE state = 'waiting' GROUP BY owner"
    ).fetchall()
    refused = connection.execute(
        "SELECT why, SUM(events) FROM batch WHERE state = 'refused' GROUP BY why ORDER BY why"
    ).fetchall()
    return nothing._replace(
        url=url,
        events=sum(row[1] for row in waiting),
        batches=sum(row[2] for row in waiting),
        bytes=sum(row[3] for row in waiting),
        oldest_age=max((now - row[4] for row in waiting), default=0.0),
        owned_by_running=sum(row[1] for row in waiting if partition.is_alive(row[0])),
        refused=dict(refused),
    )
