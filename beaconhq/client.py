"""
The client: options, and the methods that an application calls.

Owns the options and nothing that moves. Events and counts live in the queue
(`queue.py`), delivery in the exporter (`exporter.py`), and where that runs in the
lifecycle (`lifecycle.py`), none of which knows the client.
"""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Type, TypedDict, Union
from weakref import finalize

from .errors import InsecureUrl
from .lifecycle import Lifecycle
from .options import (
    DEFAULT_INGEST_URL,
    Secret,
    check_count,
    check_folder,
    check_hook,
    check_key,
    check_seconds,
    normalize_url,
    sends_in_clear,
)
from .report import FIRST_SILENCE, Reporter, ignore, log_warning
from .transport import MockTransport, Transport

if TYPE_CHECKING:
    from types import TracebackType

    from .event import BeaconEvent, Record
    from .exporter import Exporter
    from .flushes import FlushResult
    from .queue import EventQueue
    from .spool.store import Store

ENV_INGEST_KEY = "BEACON_INGEST_KEY"
ENV_INGEST_URL = "BEACON_INGEST_URL"
ENV_ENABLED = "BEACON_ENABLED"
ENV_SPOOL = "BEACON_SPOOL"

ConsumerResolver = Callable[[Any], Optional[str]]


class Stats(TypedDict):
    """What `BeaconClient.stats()` returns; counts are of events, ready for `json.dumps`."""

    #: Everything captured in this process: delivered + dropped + in_flight + pending + spooled - recovered.
    captured: int
    #: Answered with a 2xx.
    delivered: int
    #: Lost, by reason (see `beaconhq.errors`).
    dropped: Dict[str, int]
    #: Put back after a failed POST, counted each time.
    requeued: int
    #: Waiting.
    pending: int
    #: In the POST that is under way.
    in_flight: int
    #: Lying in the spool, put or taken over there by this process.
    spooled: int
    #: Captured by another process that left them in the spool, and taken over by this one.
    recovered: int
    #: Seconds since the oldest pending event completed; None with nothing pending.
    oldest_pending_age: Optional[float]
    #: Type and text of the last error, or None.
    last_error: Optional[str]
    #: "idle", "running", "backing_off", "stopping", "closed" or "disabled".
    state: str
    #: What runs the drain: "event_loop", "thread" or None.
    host: Optional[str]


class BeaconClient:
    """
    Captures request events and ships them in batches to the Beacon ingest API.

    Constructing a client does no I/O, starts no thread and binds no event loop: it may
    happen at import, before a fork, in any thread.

    Options (sizes in events unless they end in `_bytes`, times in seconds):

    - `ingest_key`: sent as `Authorization: Bearer`; may be empty only with
      `enabled=False` or `dry_run=True`.
    - `ingest_url`: the endpoint, or a base URL to which `/v1/ingest` is appended.
    - `batch_size`: buffered events that trigger a flush before its time.
    - `flush_interval`: background flush cadence.
    - `max_buffer_size`: memory cap; past it the oldest events are dropped.
    - `timeout`: bounds one whole HTTP request.
    - `enabled`: False makes `capture()` a no-op; nothing starts.
    - `dry_run`: deliver into memory (`transport.sent_events`); nothing leaves the process.
    - `debug`: log errors at WARNING on logger `beaconhq`, unless `on_error` is given.
    - `on_error`: called with a `beaconhq.errors.BeaconError` where the drain runs. It may
      call `capture()`, must not block, and what it raises is swallowed.
    - `consumer_resolver`: default for all adapters: request (the ASGI scope, Flask's or
      Django's request) to consumer.
    - `transport`: replaces HTTP; see `Transport`.
    - `register_atexit`: deliver what is left at interpreter exit.
    - `max_batch_size`, `max_batch_bytes`: most events and most body bytes in one POST.
    - `shutdown_timeout`: budget for the whole of `aclose`, `shutdown` and exit; defaults
      to `timeout`.
    - `client_factory`: makes the HTTP client, for proxies, private CAs or mTLS; defaults
      to `httpx.AsyncClient`.
    - `capture_error_text`: False keeps exception messages out; `error` holds the type.
    - `spool`: a folder for what memory cannot hold, and what could not be delivered before
      the process ended (docs/how-to/spool.md). None: there is none.
    - `spool_max_bytes`: most bytes of events in it; past that the oldest are dropped.
    - `spool_max_age`: seconds after which events in it are dropped.

    Raises `ValueError`, naming the option, for a value that cannot be right.

    Source: docs/configuration.md; the defaults are those of the published 0.1 and 0.2.
    """

    def __init__(
        self,
        ingest_key: str,
        ingest_url: Optional[str] = None,
        *,
        batch_size: int = 100,
        flush_interval: float = 5.0,
        max_buffer_size: int = 10_000,
        timeout: float = 5.0,
        enabled: bool = True,
        dry_run: bool = False,
        debug: bool = False,
        on_error: Optional[Callable[[BaseException], None]] = None,
        consumer_resolver: Optional[ConsumerResolver] = None,
        transport: Optional[Transport] = None,
        register_atexit: bool = True,
        max_batch_size: int = 1000,
        max_batch_bytes: int = 1024 * 1024,
        shutdown_timeout: Optional[float] = None,
        client_factory: Optional[Callable[..., Any]] = None,
        capture_error_text: bool = True,
        spool: Union[str, os.PathLike[str], None] = None,
        spool_max_bytes: int = 64 * 1024 * 1024,
        spool_max_age: float = 24 * 3600.0,
    ) -> None:
        self._key = Secret(ingest_key)
        del ingest_key  # a traceback with local variables would show it
        self._key = check_key(self._key)
        if not self._key and enabled and not dry_run:
            raise ValueError(
                "ingest_key is required: pass your project's key, or enabled=False or dry_run=True"
            )
        self.ingest_url = normalize_url(ingest_url or DEFAULT_INGEST_URL)
        self.batch_size = check_count("batch_size", batch_size)
        self.flush_interval = check_seconds("flush_interval", flush_interval)
        self.max_buffer_size = check_count("max_buffer_size", max_buffer_size)
        self.timeout = check_seconds("timeout", timeout)
        self.enabled = enabled
        self.dry_run = dry_run
        self.on_error = check_hook("on_error", on_error) or (log_warning if debug else ignore)
        self.consumer_resolver = check_hook("consumer_resolver", consumer_resolver)
        self.max_batch_size = check_count("max_batch_size", max_batch_size)
        self.max_batch_bytes = check_count("max_batch_bytes", max_batch_bytes)
        self.shutdown_timeout = check_seconds(
            "shutdown_timeout", timeout if shutdown_timeout is None else shutdown_timeout
        )
        self.capture_error_text = capture_error_text
        self.spool = check_folder("spool", spool)
        self.spool_max_bytes = check_count("spool_max_bytes", spool_max_bytes)
        self.spool_max_age = check_seconds("spool_max_age", spool_max_age)
        if client_factory is not None and not callable(client_factory):
            raise ValueError(f"client_factory must be callable, not {type(client_factory).__name__}")
        if transport is not None and not callable(getattr(transport, "send", None)):
            raise ValueError(f"transport must have a method send(events), as Transport says: {transport!r}")

        reporter = Reporter(self.on_error, max(FIRST_SILENCE, self.flush_interval))
        make_exporter = _ExporterFactory(self, transport, client_factory, reporter)
        self._reporter = reporter
        self._lifecycle = Lifecycle(
            self.max_buffer_size,
            make_exporter,
            reporter,
            self.shutdown_timeout if register_atexit else None,
        )
        self._put = self._lifecycle.queue.put
        if enabled:
            self._lifecycle.install()
        # Not `__del__`: nothing of ours may run half torn down at exit. The exit hook does that.
        finalize(self, self._lifecycle.retire).atexit = False

    @classmethod
    def from_env(cls, **overrides: Any) -> BeaconClient:
        """
        Make a client from the environment; keyword arguments win over it.

        `BEACON_INGEST_KEY` (required), `BEACON_INGEST_URL`, `BEACON_SPOOL`, and `BEACON_ENABLED`
        (`0`, `false`, `no` in any case, or nothing at all disable). Raises `ValueError` as
        the constructor does.
        """
        enabled = os.environ.get(ENV_ENABLED, "1").strip().lower() not in ("0", "false", "no", "")
        options: Dict[str, Any] = {
            "ingest_key": Secret(overrides.pop("ingest_key", os.environ.get(ENV_INGEST_KEY, ""))),
            "ingest_url": os.environ.get(ENV_INGEST_URL),
            "enabled": enabled,
            "spool": os.environ.get(ENV_SPOOL) or None,
            **overrides,
        }
        if options["enabled"] and not options.get("dry_run") and not options["ingest_key"]:
            raise ValueError(
                f"ingest_key is required: set {ENV_INGEST_KEY}, or {ENV_ENABLED}=0 to go without"
            )
        return cls(**options)

    # -- capturing ----------------------------------------------------------------------

    def capture(self, event: Union[BeaconEvent, Record]) -> None:
        """
        Queue one event and return; never blocks, never raises.

        From any thread, with any event loop or none, and from signal handlers. The first
        capture starts the bridge's thread unless an event loop hosts the drain.
        """
        if self.enabled:
            self._put(event)

    # -- asyncio ------------------------------------------------------------------------

    async def flush(self, timeout: Optional[float] = None) -> FlushResult:
        """
        Try everything captured before the call, once; never raises.

        Stops at the first failure that a retry may mend. Tries even while backing off (at
        most once a second), but not while a `Retry-After` runs. Flushes that overlap share
        one attempt. `timeout` (seconds) bounds the waiting, not the attempt; so does a
        cancellation. Works from any event loop, whatever hosts the drain.
        """
        return await self._lifecycle.flush(timeout)

    async def aclose(self) -> None:
        """
        Flush within `shutdown_timeout` and stop the drain. Idempotent.

        Not terminal: a later capture, `async with` or lifespan starts it again.
        """
        await self._lifecycle.stop(self.shutdown_timeout)

    async def __aenter__(self) -> BeaconClient:  # noqa: PYI034 - Self is 3.11's
        """Host the drain in this event loop, or attach to the one that does."""
        if self.enabled:
            await self._lifecycle.enter()
        return self

    async def __aexit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        """Flush; the last one out of the hosting loop stops the drain."""
        await self._lifecycle.leave(self.shutdown_timeout)

    def lifespan(self, app: Any = None) -> _Lifespan:  # noqa: ARG002 - what frameworks pass
        """
        Return an async context manager that hosts the drain: `FastAPI(lifespan=beacon.lifespan)`.

        Inside a lifespan of your own: `async with beacon.lifespan(app): ...`.
        """
        return _Lifespan(self)

    # -- code without an event loop -----------------------------------------------------

    def flush_sync(self, timeout: Optional[float] = None) -> FlushResult:
        """
        Do what `flush` does, blocking, for code without an event loop.

        On the thread of the event loop that hosts the drain waiting would be a deadlock:
        there it only asks for the flush and returns.
        """
        return self._lifecycle.flush_sync(timeout)

    def shutdown(self) -> None:
        """
        Flush within `shutdown_timeout` and stop the drain, blocking. Idempotent.

        On the thread of the event loop that hosts the drain it asks for the stop and
        returns at once; the loop or the exit hook finishes.
        """
        self._lifecycle.stop_sync(self.shutdown_timeout)

    def __enter__(self) -> BeaconClient:  # noqa: PYI034 - as above
        """Do nothing: the first capture starts the bridge."""
        return self

    def __exit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        """Flush and stop, as `shutdown` does."""
        self.shutdown()

    # -- looking ------------------------------------------------------------------------

    def stats(self) -> Stats:
        """Return counts and state of this moment; cheap enough for a health endpoint."""
        queue = self._lifecycle.queue
        now = queue.snapshot()
        host = self._lifecycle.host
        return {
            "captured": now.captured,
            "delivered": now.delivered,
            "dropped": now.dropped,
            "requeued": now.requeued,
            "pending": now.pending,
            "in_flight": now.in_flight,
            "spooled": now.spooled,
            "recovered": now.recovered,
            "oldest_pending_age": _age(queue),
            "last_error": self._reporter.last_error,
            "state": self._state(),
            "host": None if host is None else host.kind,
        }

    @property
    def transport(self) -> Transport:
        """The transport in use; `MockTransport` records what a `dry_run` delivered."""
        return self._lifecycle.exporter().transport

    def _state(self) -> str:
        lifecycle = self._lifecycle
        if not self.enabled:
            return "disabled"
        if lifecycle.closed:
            return "closed"
        if lifecycle.host is None:
            return "idle"
        if lifecycle.host.is_stopping():
            return "stopping"
        return "backing_off" if lifecycle.is_backing_off() else "running"

    def __repr__(self) -> str:
        if not hasattr(self, "_lifecycle"):  # in the traceback of an option that was refused
            return "<BeaconClient [REFUSED]>"
        stats = self.stats()
        dropped = sum(stats["dropped"].values())
        return (
            f"<BeaconClient [{stats['state'].upper()}] {self.ingest_url} captured={stats['captured']} "
            f"delivered={stats['delivered']} dropped={dropped} pending={stats['pending']}>"
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            "a BeaconClient cannot be copied or pickled, as it owns a queue and its delivery; "
            "make one in each process, or share the object"
        )


class _Lifespan:
    """Hosts the drain for as long as it is entered; yields no state."""

    def __init__(self, client: BeaconClient) -> None:
        self._client = client

    async def __aenter__(self) -> None:
        await self._client.__aenter__()

    async def __aexit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self._client.__aexit__(exc_type, exc, traceback)


class _ExporterFactory:
    """Makes the exporter on first use. Holds the options it needs, not the client."""

    def __init__(
        self,
        client: BeaconClient,
        transport: Optional[Transport],
        client_factory: Optional[Callable[..., Any]],
        reporter: Reporter,
    ) -> None:
        self._transport = transport
        if transport is None and client.dry_run:
            self._transport = MockTransport(capacity=client.max_buffer_size)
        self._http = (client.ingest_url, client._key, client.timeout)  # noqa: SLF001 - same module
        if self._transport is None and sends_in_clear(client.ingest_url):
            message = f"{client.ingest_url} is not https: key and events cross the network readable"
            reporter.defer(InsecureUrl(message))
        self._client_factory = client_factory
        self._reporter = reporter
        self._flush_interval = client.flush_interval
        self._sizes = (client.max_batch_size, client.max_batch_bytes)
        self._eager = min(client.batch_size, client.max_batch_size, client.max_buffer_size)
        self._spool = (
            client.spool if has_spool(client) else None,
            client.spool_max_bytes,
            client.spool_max_age,
        )

    def __call__(self, queue: EventQueue) -> Exporter:
        from .exporter import Exporter, Limits  # loads asyncio, anyio and json: not at import

        limits = Limits(self._eager, self._flush_interval, *self._sizes)
        transport = self._make_http_transport() if self._transport is None else self._transport
        return Exporter(queue, transport, limits, self._reporter, store=self._make_store())

    def _make_store(self) -> Optional[Store]:
        folder, max_bytes, max_age = self._spool
        if folder is None:
            return None
        from .spool.store import open_store  # loads sqlite3

        url, key, _ = self._http
        return open_store(folder, url, key.reveal(), max_bytes, max_age)

    def _make_http_transport(self) -> Transport:
        from .http import KEEPALIVE, HttpTransport

        keepalive = max(KEEPALIVE, 2 * self._flush_interval)
        return HttpTransport(*self._http, client_factory=self._client_factory, keepalive=keepalive)


def has_spool(client: BeaconClient) -> bool:
    """Whether a client uses its spool: a dry run must not take what another process wants delivered."""
    return client.spool is not None and not client.dry_run


def _age(queue: EventQueue) -> Optional[float]:
    """Return the seconds since the oldest pending event completed; None where nobody can know."""
    oldest = queue.oldest()
    if oldest is None:
        return None
    try:
        age = time.time() - _completed(oldest)
    except BaseException:  # noqa: BLE001 - code of whatever was captured; the drain will drop it
        return None
    return max(0.0, age) if math.isfinite(age) else None


def _completed(event: Any) -> float:
    """Return when an event completed (seconds since the epoch): of a record, a payload or an object."""
    if isinstance(event, tuple):
        return float(event[0])
    from datetime import datetime

    ts = event["ts"] if isinstance(event, dict) else event.ts
    return datetime.fromisoformat(str(ts).replace("Z", "+00:00")).timestamp()
