"""
The ingest of a simulated fleet, in virtual time: what it can do, how it fails, what it saw.

A model, not a server: `Ingest` states it. The clients are in `fleet.py`.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, List, NamedTuple, Optional

from beaconhq import BeaconClient, SendResult
from beaconhq.errors import ExportTimeout, NetworkError
from beaconhq.exporter import Limits

if TYPE_CHECKING:
    import random

#: Where the defaults of all options are read.
DEFAULTS = BeaconClient("fleet-key", register_atexit=False)
LIMITS = Limits(
    DEFAULTS.batch_size, DEFAULTS.flush_interval, DEFAULTS.max_batch_size, DEFAULTS.max_batch_bytes
)
TIMEOUT = DEFAULTS.timeout
#: Events per second and client.
RATE = 1.0
#: Seconds of a round trip, without the ingest's own time.
ROUND_TRIP = 0.02
#: What a POST costs the ingest beside its events, in events: half of what a steady POST of 5 costs.
POST_WORK = 5.0
#: What it costs to refuse one: the head is read and answered, the body not looked at.
REFUSAL_WORK = 1.0
#: Seconds of work that may wait at the ingest before it refuses more.
MAX_WAIT = 1.0
#: Bins per second in which arrivals are counted.
BINS = 10


class Overload(Enum):
    """What the ingest does with a POST for which it has no capacity."""

    #: 503 at once.
    REFUSE = "503"
    #: 429 at once.
    REFUSE_429 = "429"
    #: 503 with `Retry-After: 10` for everybody.
    SAME_RETRY_AFTER = "503, Retry-After: 10"
    #: 503 with a `Retry-After` drawn from 1 to 60 s.
    RANDOM_RETRY_AFTER = "503, Retry-After: 1 to 60 at random"
    #: 503 with the second at which there will be room: refused POSTs book the spare capacity in turn.
    BOOKED_RETRY_AFTER = "503, Retry-After: when there is room"
    #: Nothing: POSTs wait their turn, also longer than their senders do.
    QUEUE = "answers late"


class Scenario(NamedTuple):
    """What happens to a fleet; times in virtual seconds."""

    #: Over how long the processes start, evenly; 0 is all in the same instant.
    start_spread: float
    #: Seconds with the ingest up, before `outage`.
    before: float
    #: Seconds for which connections are refused.
    outage: float
    #: Most seconds after it.
    after: float
    overload: Overload = Overload.REFUSE
    #: What the ingest can do, in steady loads.
    capacity: float = 1.5


class Ingest:
    """
    One server behind one queue.

    A POST costs `POST_WORK` plus one per event; capacity is a number of steady loads. Work
    beyond `MAX_WAIT` seconds is refused as `overload` says. A POST whose answer comes after
    the sender's time-out is stored all the same; what comes again under the same
    `Idempotency-Key` is recognised (and costs the same).
    """

    def __init__(self, scenario: Scenario, clients: int, draw: random.Random) -> None:
        self.steady_posts = clients / LIMITS.flush_interval
        self.steady_events = clients * RATE
        steady_work = self.steady_posts * POST_WORK + self.steady_events
        self._capacity = scenario.capacity * steady_work
        self._spare = self._capacity - steady_work
        self._overload = scenario.overload
        self._draw = draw
        self._clock = asyncio.get_running_loop().time
        self._busy_until = self._booked_until = -math.inf
        self._answered_late: set[str] = set()
        self.start = self._clock()
        self.down_from = self.down_until = math.inf
        #: Arrivals per bin.
        self.posts: Counter[int] = Counter()
        self.events: Counter[int] = Counter()
        self.refused = self.timed_out = self.lost = self.duplicates = self.stored = 0
        #: Per client: the number of the first event that has not come yet.
        self._expected = [0] * clients
        #: The first event after the outage, and when each client's last event of it was stored.
        self.recovered_at_number = 0
        self.drained_at: List[float] = []

    async def post(self, client: int, number: int, count: int, key: Optional[str]) -> SendResult:
        """Answer a POST of the events `number` to `number + count`."""
        now = self._clock()
        time_bin = int((now - self.start) * BINS)
        self.posts[time_bin] += 1
        self.events[time_bin] += count
        if self.down_from <= now < self.down_until:
            await asyncio.sleep(ROUND_TRIP)
            raise NetworkError("connection refused")
        work = POST_WORK + count
        if self._overload is not Overload.QUEUE and self._busy_until > now + MAX_WAIT:
            self._busy_until += REFUSAL_WORK / self._capacity
            self.refused += 1
            await asyncio.sleep(ROUND_TRIP)
            return self._refusal(now, work)
        self._busy_until = max(now, self._busy_until) + work / self._capacity
        took = self._busy_until - now + ROUND_TRIP
        if key not in self._answered_late:
            self._store(client, number, count)
        if took > TIMEOUT:
            self.timed_out += 1
            if key is not None:
                self._answered_late.add(key)
            await asyncio.sleep(TIMEOUT)
            raise ExportTimeout("no answer in time")
        await asyncio.sleep(took)
        return SendResult(ok=True, status=202)

    def _refusal(self, now: float, work: float) -> SendResult:
        retry_after: Optional[float] = None
        if self._overload is Overload.SAME_RETRY_AFTER:
            retry_after = 10
        elif self._overload is Overload.RANDOM_RETRY_AFTER:
            retry_after = self._draw.randint(1, 60)
        elif self._overload is Overload.BOOKED_RETRY_AFTER:
            self._booked_until = max(now, self._booked_until) + work / self._spare
            retry_after = math.ceil(self._booked_until - now)
        return SendResult(False, 429 if self._overload is Overload.REFUSE_429 else 503, retry_after)

    def _store(self, client: int, number: int, count: int) -> None:
        # Every client sends in order, so what is left out will not come, and what is below has come.
        expected, end = self._expected[client], number + count
        self.lost += max(0, number - expected)
        new = max(0, end - max(expected, number))
        self.stored += new
        self.duplicates += count - new
        self._expected[client] = max(expected, end)
        if expected < self.recovered_at_number <= end:
            self.drained_at.append(self._busy_until)

    def peak(self, arrivals: Counter[int], begin: float, end: float, bins: int = BINS) -> float:
        """Return the most arrivals per second in any `bins` bins between two times after the start."""
        first, last = math.ceil(begin * BINS), math.ceil(end * BINS)
        starts = range(first, max(first + 1, last - bins + 1))
        return max(sum(arrivals[start + k] for k in range(bins)) for start in starts) * BINS / bins
