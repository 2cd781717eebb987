"""
The command `beaconhq demo`: the sample app, its traffic and the local ingest, over real sockets.

Owns the order of things and the balance at the end: what was sent and captured against what the ingest has.
Everything listens on loopback, on free ports, in one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Iterator

import anyio
import httpx

from beaconhq import BeaconClient

from .app import create_app
from .demo_app import create_demo_app
from .ingest import read, show_until
from .printable import printable
from .progress import showing
from .server import ServerError, listen, resolve, serving, stop_signals, url_of
from .store import EventStore, StoreError
from .terminal import make_console, make_display, say
from .traffic import Tally, Visit, make_client, send, visits

if TYPE_CHECKING:
    import socket
    from contextlib import AbstractAsyncContextManager

    from rich.console import Console
    from starlette.types import ASGIApp

    from .terminal import Display

#: Requests per second: 600 take six seconds. More requests come faster, to fit in `LONGEST` seconds.
RATE = 100.0
LONGEST = 60.0
#: Requests per second that `--keep` goes on with.
GENTLE_RATE = 10.0
#: The SDK's flush cadence here, in seconds: the table fills while one looks on.
FLUSH_INTERVAL = 1.0

# The traffic gets this long and, per request, as much as a machine that is ten times too slow would need.
_TIME_LIMIT = 30.0  # seconds
_TIME_PER_REQUEST = 0.1

_ERROR_LIMIT = 300  # characters


@dataclass(frozen=True)
class Balance:
    """The counts of one demo, and what follows from them."""

    sent: int  #: requests of the traffic that were answered, whatever the status
    unanswered: int
    captured: int  #: events the SDK took, also those of requests that somebody else sent (`--keep`)
    stored: int  #: events in the ingest's database

    @property
    def lost(self) -> int:
        """Events that should be in the database and are not."""
        return max(self.sent, self.captured, self.stored) - self.stored

    @property
    def repeated(self) -> int:
        """Events that the database has more often than they were captured."""
        return max(self.stored - self.captured, 0)

    @property
    def complete(self) -> bool:
        """Whether every request was answered, captured once and stored once."""
        return self.unanswered == 0 and self.sent <= self.captured == self.stored


def run(
    *, requests: int, keep: bool = False, make_ingest: Callable[[EventStore], ASGIApp] = create_app
) -> int:
    """
    Run the demo and return the exit code: 0 only when everything that was captured was stored, else 1.

    `make_ingest` builds the ingest over the store: the seam for an ingest that loses events.
    """
    console = make_console()
    local = resolve("127.0.0.1", 0)
    try:
        with contextlib.closing(EventStore()) as store, listen(local) as ingest, listen(local) as app:
            demo = Demo(console, store, ingest, app)
            balance = asyncio.run(demo.run(make_ingest(store), requests=requests, keep=keep))
    except (ServerError, StoreError) as error:
        sys.stderr.write(f"beaconhq demo: {error}\n")
        return 1
    return 0 if balance.complete else 1


class Demo:
    """One run of the demo over open sockets and an open store, which stay the caller's to close."""

    def __init__(
        self, console: Console, store: EventStore, ingest: socket.socket, app: socket.socket
    ) -> None:
        """Make the SDK's client and the traffic's; nothing runs yet."""
        self._console = console
        self._store = store
        self._ingest = ingest
        self._app = app
        self._visitors = make_client(url_of(app))
        self._beacon = BeaconClient(
            "demo",
            url_of(ingest),
            flush_interval=FLUSH_INTERVAL,
            # No proxy of the environment: the telemetry stays on this machine.
            client_factory=functools.partial(httpx.AsyncClient, trust_env=False),
        )

    async def run(self, ingest_app: ASGIApp, *, requests: int, keep: bool) -> Balance:
        """
        Send the traffic, stop the app so that the SDK drains, and show what the ingest has.

        Raises `ServerError` where that does not end in time. Ctrl-C ends the traffic, not the balance.
        """
        limit = _TIME_LIMIT + _TIME_PER_REQUEST * requests
        with stop_signals() as stop, contextlib.closing(make_display(self._console)) as display:
            try:
                with anyio.fail_after(limit) as scope:
                    # The app stops first: its lifespan drains into an ingest that still listens.
                    async with serving(ingest_app, self._ingest), self._serving_app():
                        self._introduce()
                        tally = await self._send(requests, stop)
                        if keep:
                            scope.deadline = math.inf
                            tally = tally.plus(await self._keep(display, stop))
                            scope.deadline = anyio.current_time() + limit
            except TimeoutError:
                raise ServerError(f"not finished within {limit:g} s") from None
            finally:
                await self._visitors.aclose()
            summary = read(self._store)
            display.finish(summary)
        return self._balance(tally, summary.totals.stored)

    def _serving_app(self) -> AbstractAsyncContextManager[None]:
        # "critical": the exception of the endpoint that raises is part of the demo, its traceback is not.
        return serving(create_demo_app(self._beacon), self._app, lifespan="on", log_level="critical")

    def _introduce(self) -> None:
        say(self._console, "beaconhq demo: a sample FastAPI app reports its requests to a local ingest")
        say(self._console, f"  app:      {url_of(self._app)}")
        say(self._console, f"  page:     {url_of(self._ingest)}/")
        say(self._console, f"  summary:  {url_of(self._ingest)}/v1/summary")

    async def _send(self, requests: int, stop: asyncio.Event) -> Tally:
        planned = itertools.islice(visits(), requests)
        rate = max(RATE, requests / LONGEST)
        with showing(self._console, "requests sent", requests) as advance:
            return await send(self._visitors, _until(stop, planned), rate=rate, on_sent=advance)

    async def _keep(self, display: Display, stop: asyncio.Event) -> Tally:
        say(self._console, f"A little traffic goes on: watch it at {url_of(self._ingest)}/")
        say(self._console, "Ctrl-C stops it.")
        gentle = send(self._visitors, _until(stop, visits()), rate=GENTLE_RATE, on_sent=lambda: None)
        tally, _ = await asyncio.gather(gentle, show_until(stop, self._store, display))
        return tally

    def _balance(self, tally: Tally, stored: int) -> Balance:
        stats = self._beacon.stats()
        balance = Balance(tally.answered, tally.unanswered, stats["captured"], stored)
        if balance.unanswered:
            say(self._console, f"not answered by the app: {balance.unanswered:,} requests")
        if stats["last_error"] is not None:
            # It may quote what the ingest answered.
            error = printable(stats["last_error"], limit=_ERROR_LIMIT, encoding=self._console.encoding)
            say(self._console, f"the SDK reported: {error}")
        say(self._console, f"sent {balance.sent:,}, stored {balance.stored:,}, lost {balance.lost:,}")
        if balance.repeated:
            say(self._console, f"stored more than once: {balance.repeated:,}")
        return balance


def _until(stop: asyncio.Event, planned: Iterator[Visit]) -> Iterator[Visit]:
    return itertools.takewhile(lambda _: not stop.is_set(), planned)
