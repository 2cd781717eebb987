from __future__ import annotations

from typing import Iterator

import pytest

from .ingest_server import RecordingIngest


@pytest.fixture
def ingest() -> Iterator[RecordingIngest]:
    with RecordingIngest() as server:
        yield server
