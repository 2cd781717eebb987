from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterator, List

import pytest

from .ingest import FaultIngest, fault_process

if TYPE_CHECKING:
    from .ingest import FaultProcess


@pytest.fixture(scope="session")
def _process() -> Iterator[FaultProcess]:
    with fault_process() as process:
        yield process


@pytest.fixture
def make_ingest(_process: FaultProcess) -> Iterator[Callable[..., FaultIngest]]:
    """Make ingests that are down until `come_up` is called."""
    made: List[FaultIngest] = []

    def make(upstream: str = "") -> FaultIngest:
        made.append(_process.FaultIngest(upstream or None))
        return made[-1]

    yield make
    for ingest in made:
        ingest.close()


@pytest.fixture
def ingest(make_ingest: Callable[..., FaultIngest]) -> FaultIngest:
    """An ingest that is up."""
    ingest = make_ingest()
    ingest.come_up()
    return ingest
