from __future__ import annotations

import contextlib
from typing import Iterator

import pytest

from beaconhq.local.store import EventStore


@pytest.fixture
def store() -> Iterator[EventStore]:
    with contextlib.closing(EventStore()) as opened:
        yield opened
