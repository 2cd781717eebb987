"""
A fleet of clients before one ingest, in virtual time.

Real: queue, drain, back-off and lifecycle of every client, unchanged. Modelled: the network and
the ingest (`fleet_ingest.py`), and the policy of the published 0.2.0 (`PublishedClient`).
"""

from __future__ import annotations

import asyncio
import gc
import math
import random
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Union

from beaconhq.errors import ExportError
from beaconhq.exporter import Exporter
from beaconhq.lifecycle import Lifecycle
from beaconhq.report import Reporter, ignore

from .fleet_ingest import BINS, DEFAULTS, LIMITS, RATE, Ingest, Scenario
from .virtual_time import run_virtual

if TYPE_CHECKING:
    from beaconhq import SendResult
    from beaconhq.event import Record
    from beaconhq.queue import EventQueue


class Report(NamedTuple):
    """What the ingest saw. Ratios are to the steady load; arrivals count whatever their answer."""

    #: Most POSTs and events in any second (sliding by 100 ms) after the outage.
    peak_posts: float
    peak_events: float
    #: Most POSTs in any 100 ms after the outage.
    peak_posts_100_ms: float
    #: Most POSTs in any second while it was down.
    peak_posts_down: float
    #: POSTs after the outage that were answered with 429 or 503, or too late.
    refused: int
    timed_out: int
    #: Seconds after the outage until the ingest had everything that 50, 99, 100 % of the clients
    #: had captured before its end; None where that did not come.
    drained_half: Optional[float]
    drained_most: Optional[float]
    drained: Optional[float]
    captured: int
    #: Events that never come.
    lost: int
    #: Events that were stored twice.
    duplicates: int
    #: Events that had not been stored when the simulation ended.
    waiting: int


class CurrentClient:
    """This version's client without an application: all of it but the HTTP transport."""

    def __init__(self, number: int, ingest: Ingest, draw: random.Random) -> None:
        self._number = number
        self._ingest = ingest
        clock = asyncio.get_running_loop().time

        def make_exporter(queue: EventQueue) -> Exporter:
            return Exporter(queue, self, LIMITS, Reporter(ignore), clock=clock, jitter=draw.random)

        self._lifecycle = Lifecycle(DEFAULTS.max_buffer_size, make_exporter, Reporter(ignore), None)
        self.capture: Callable[[Record], None] = self._lifecycle.queue.put

    async def start(self) -> None:
        self._lifecycle.exporter()  # made here, it needs no thread
        await self._lifecycle.enter()

    async def send(self, events: Any) -> SendResult:
        number = int(events[0]["path"][1:])
        return await self._ingest.post(self._number, number, len(events), events.idempotency_key)

    @property
    def dropped(self) -> int:
        return sum(self._lifecycle.queue.dropped.values())


class PublishedClient:
    """
    The policy of the published beaconhq 0.2.0, as its `client.py` has it.

    `_run_timer`: a flush every 5 s, counted from the end of the one before; no jitter, no back-off.
    `capture`: a flush for every capture that finds 100 events or more, also while POSTs fail.
    `flush`: one at a time, the whole buffer in one POST. An error or a 5xx puts it back, without
    a look at `Retry-After`; every other answer that is no 2xx drops it, 429 included.
    """

    def __init__(self, number: int, ingest: Ingest, draw: random.Random) -> None:
        self._number = number
        self._ingest = ingest
        self._buffer: List[Record] = []
        self._flushing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.dropped = 0

    async def start(self) -> None:
        self._spawn(self._run_timer())

    def capture(self, event: Record) -> None:
        self._buffer.append(event)
        self._drop_excess()
        if len(self._buffer) >= 100 and not self._flushing:
            self._spawn(self.flush())

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_timer(self) -> None:
        while True:
            await asyncio.sleep(5.0)
            await self.flush()

    async def flush(self) -> None:
        if self._flushing or not self._buffer:
            return
        self._flushing = True
        batch, self._buffer = self._buffer, []
        try:
            answer = await self._ingest.post(self._number, int(batch[0][2][1:]), len(batch), None)
        except ExportError:
            self._requeue(batch)
        else:
            if answer.status >= 500:
                self._requeue(batch)
            elif not answer.ok:
                self.dropped += len(batch)
        finally:
            self._flushing = False

    def _requeue(self, batch: List[Record]) -> None:
        self._buffer = batch + self._buffer
        self._drop_excess()

    def _drop_excess(self) -> None:
        excess = len(self._buffer) - 10_000
        if excess > 0:
            del self._buffer[:excess]
            self.dropped += excess


Client = Union[CurrentClient, PublishedClient]
POLICIES: Dict[str, Callable[[int, Ingest, random.Random], Client]] = {
    "this version": CurrentClient,
    "0.2.0": PublishedClient,
}


def simulate(
    scenario: Scenario,
    policy: str,
    clients: int,
    *,
    seed: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Run a fleet of `clients` through `scenario`; `progress` hears of every virtual second."""
    return run_virtual(lambda: _simulate(scenario, policy, clients, random.Random(seed), progress))


async def _simulate(
    scenario: Scenario, policy: str, clients: int, draw: random.Random, progress: Callable[[int], None]
) -> Report:
    clock = asyncio.get_running_loop().time
    ingest = Ingest(scenario, clients, draw)
    fleet = [POLICIES[policy](number, ingest, draw) for number in range(clients)]
    gc.collect()
    gc.freeze()  # 10,000 clients that stay need not be looked at again
    try:
        for client in draw.sample(fleet, clients):
            await client.start()
            if scenario.start_spread:
                await asyncio.sleep(scenario.start_spread / clients)
        # Where all start together, they capture from then on, too.
        ingest.start = clock()
        ingest.posts.clear()
        ingest.down_from = ingest.start + scenario.before
        ingest.down_until = ingest.down_from + scenario.outage
        ingest.recovered_at_number = int((scenario.before + scenario.outage) * RATE)
        captured = await _capture(ingest, fleet, scenario, progress)
    finally:
        gc.unfreeze()
    return _report(ingest, scenario, captured, sum(client.dropped for client in fleet), clients)


async def _capture(
    ingest: Ingest, fleet: Sequence[Client], scenario: Scenario, progress: Callable[[int], None]
) -> int:
    """Let every client capture once a second until 10 s after the backlog is gone; return how many events."""
    clock = asyncio.get_running_loop().time
    tenths = [[client.capture for client in fleet[phase::10]] for phase in range(10)]
    recovered = scenario.before + scenario.outage
    end = recovered + scenario.after
    number = 0
    while number < end:
        record: Record = (clock(), ("GET", "/items/{id}", 200, None), f"/{number}", 12, None)
        for phase, captures in enumerate(tenths):
            for capture in captures:
                capture(record)
            await asyncio.sleep(ingest.start + number + (phase + 1) / 10 - clock())
        number += 1
        progress(number)
        if number > recovered and len(ingest.drained_at) == len(fleet):
            end = min(end, max(*ingest.drained_at, ingest.down_until) - ingest.start + 10)
    return number * len(fleet)


def _report(ingest: Ingest, scenario: Scenario, captured: int, dropped: int, clients: int) -> Report:
    recovered = scenario.before + scenario.outage
    end = captured / clients
    drained = sorted(max(0.0, at - ingest.down_until) for at in ingest.drained_at)

    def drained_by(share: float) -> Optional[float]:
        index = math.ceil(share * clients) - 1
        return drained[index] if index < len(drained) else None

    def peak_posts(begin: float, end: float, bins: int = BINS) -> float:
        return ingest.peak(ingest.posts, begin, end, bins) / ingest.steady_posts

    return Report(
        peak_posts=peak_posts(recovered, end),
        peak_events=ingest.peak(ingest.events, recovered, end) / ingest.steady_events,
        peak_posts_100_ms=peak_posts(recovered, end, 1),
        peak_posts_down=peak_posts(scenario.before, recovered) if scenario.outage else 0.0,
        refused=ingest.refused,
        timed_out=ingest.timed_out,
        drained_half=drained_by(0.5),
        drained_most=drained_by(0.99),
        drained=drained_by(1.0),
        captured=captured,
        lost=dropped,
        duplicates=ingest.duplicates,
        waiting=captured - ingest.stored - dropped,
    )
