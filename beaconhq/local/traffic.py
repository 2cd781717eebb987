"""
The traffic of `beaconhq demo`: which requests, at which pace, and how many were answered.

Owns the plan and the sending. It is an ordinary HTTP client of the sample app and knows nothing of telemetry.
"""

from __future__ import annotations

import itertools
import random
from typing import Callable, Iterable, Iterator, NamedTuple

import anyio
import httpx

from .demo_app import CONSUMER_HEADER

CONSUMERS = ("mobile-app", "web-shop", "nightly-import")
#: Requests in flight at most.
CONCURRENCY = 8
#: Seconds for one request, after which it counts as not answered.
TIMEOUT = 10.0

# Method, path with a place for an id, and how often it comes.
_CALLS = (
    ("GET", "/api/v1/orders", 20),
    ("GET", "/api/v1/orders/{}", 35),
    ("POST", "/api/v1/orders", 10),
    ("GET", "/shop/products/{}", 20),
    ("GET", "/exports/{}", 5),
    ("GET", "/reports/{}", 4),
    ("GET", "/wp-login.php?attempt={}", 6),
)
_IDS = 1000


class Visit(NamedTuple):
    """One request to send."""

    method: str
    path: str
    consumer: str


class Tally(NamedTuple):
    """What became of the traffic; an answer of any status is an answer."""

    answered: int
    unanswered: int

    def plus(self, other: Tally) -> Tally:
        """Add up two rounds of traffic."""
        return Tally(self.answered + other.answered, self.unanswered + other.unanswered)


def visits() -> Iterator[Visit]:
    """Return endless traffic, the same on every run: each kind of request once, then a weighted mixture."""
    chance = random.Random(2026)  # noqa: S311 - a sample, not a secret
    weights = [weight for _, _, weight in _CALLS]
    mixture = (chance.choices(_CALLS, weights)[0] for _ in itertools.count())
    for method, path, _ in itertools.chain(_CALLS, mixture):
        yield Visit(method, path.format(chance.randrange(_IDS)), chance.choice(CONSUMERS))


def make_client(base_url: str) -> httpx.AsyncClient:
    """Return a client for `send`; called outside the event loop, as its TLS set-up takes 0.3 s."""
    # No proxy of the environment: the traffic stays on this machine.
    return httpx.AsyncClient(base_url=base_url, trust_env=False, timeout=TIMEOUT)


async def send(
    client: httpx.AsyncClient, planned: Iterable[Visit], *, rate: float, on_sent: Callable[[], None]
) -> Tally:
    """
    Send the planned requests through an open client, at most `rate` per second, `CONCURRENCY` at once.

    `on_sent` is called after each. A request that gets no answer within `TIMEOUT` is counted, not raised.
    """
    sender = _Sender(planned, rate, on_sent)
    async with anyio.create_task_group() as group:
        for _ in range(CONCURRENCY):
            group.start_soon(sender.work, client)
    return Tally(sender.answered, sender.unanswered)


class _Sender:
    """A few workers that take from one plan; each request has its own earliest moment."""

    def __init__(self, planned: Iterable[Visit], rate: float, on_sent: Callable[[], None]) -> None:
        self._planned = enumerate(planned)
        self._rate = rate
        self._on_sent = on_sent
        self._began = anyio.current_time()
        self.answered = 0
        self.unanswered = 0

    async def work(self, client: httpx.AsyncClient) -> None:
        for place, visit in self._planned:
            await anyio.sleep_until(self._began + place / self._rate)
            try:
                await client.request(visit.method, visit.path, headers={CONSUMER_HEADER: visit.consumer})
            except httpx.HTTPError:
                self.unanswered += 1
            else:
                self.answered += 1
            self._on_sent()
