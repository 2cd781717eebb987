"""Batches to spool, and stores to put them into."""

from __future__ import annotations

from typing import Any, Callable, List, Optional

from support.events import event

from beaconhq.spool.clock import Reading
from beaconhq.spool.folder import Partition
from beaconhq.spool.store import Session, Store
from beaconhq.wire import Batch, clean

URL = "http://localhost:1/v1/ingest"
MIB = 1 << 20


def batch(first: int, count: int = 1, **fields: Any) -> Batch:
    """Make a sealed batch of the events `first`, `first + 1`, ..."""
    return Batch([clean(event(number, **fields)) for number in range(first, first + count)], position=first)


class Clocks:
    """The machine's clocks, in a test's hands."""

    def __init__(self) -> None:
        self.boot = "boot-1"
        self.uptime = 100.0
        self.wall = 1_780_000_000.0

    def __call__(self) -> Reading:
        return Reading(self.boot, self.uptime, self.wall)

    def pass_time(self, seconds: float) -> None:
        self.uptime += seconds
        self.wall += seconds

    def restart(self, *, down_for: float) -> None:
        self.boot += "+"
        self.uptime = 1.0
        self.wall += down_for


def make_store(
    folder: Any,
    *,
    key: str = "a-key",
    url: str = URL,
    max_bytes: int = 64 * MIB,
    max_age: float = 3600,
    read_clock: Optional[Callable[[], Reading]] = None,
) -> Store:
    return Store(Partition.of(folder, url, key), url, max_bytes, max_age, read_clock=read_clock or Clocks())


def take_all(session: Session, owner: str, most_events: int = 1000, most_bytes: int = MIB) -> List[Batch]:
    """Take and settle one batch after the other."""
    taken: List[Batch] = []
    while True:
        found = session.take(owner, most_events, most_bytes)
        if found is None:
            return taken
        taken.append(found)
        session.settle([found.idempotency_key], [])
        assert len(taken) < 1000
