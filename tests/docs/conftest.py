"""A real local ingest, and what has arrived there."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import pytest
from local.processes import running

if TYPE_CHECKING:
    from pathlib import Path

KEY = "docs-key"


class Event(NamedTuple):
    """What an event says besides its times."""

    method: str
    route: str
    path: str
    status: int
    consumer: Optional[str]
    error: Optional[str]


class Ingest:
    """The ingest as one test sees it: only what arrived since the test began."""

    def __init__(self, url: str, db: Path) -> None:
        self.url = url
        #: What points an app of the documentation to this ingest.
        self.environment: Dict[str, str] = {"BEACON_INGEST_URL": url, "BEACON_INGEST_KEY": KEY}
        self._db = db
        self._before = self._read("SELECT COALESCE(MAX(id), 0) FROM events")[0][0]

    def events(self) -> List[Event]:
        """Return what has arrived, in order."""
        rows = self._read(
            "SELECT method, route, path, status, consumer, error FROM events WHERE id > ? ORDER BY id",
            self._before,
        )
        return [Event(*row) for row in rows]

    def _read(self, query: str, *parameters: object) -> List[Tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(str(self._db))) as connection:
            return connection.execute(query, parameters).fetchall()


@pytest.fixture(scope="session")
def _local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tuple[str, Path]]:
    db = tmp_path_factory.mktemp("ingest") / "events.db"
    with running("-m", "beaconhq", "local", "--port", "0", "--db", str(db), "--key", KEY) as process:
        url = process.wait_for(r"listens on (http://\S+)")[1]
        yield url, db
        assert process.stop(signal.SIGTERM) == 0


@pytest.fixture
def ingest(_local: Tuple[str, Path]) -> Ingest:
    return Ingest(*_local)
