"""
Cases of what happens after a request: capturing, cleaning and encoding, draining, holding.

All are ours; the floors beside them do the same work with as little as can be.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
import tracemalloc
from collections import deque
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Callable, Deque, Dict, List, Optional

from beaconhq import BeaconClient, BeaconEvent, MockTransport

from .request_path import Calls
from .workload import AsgiCaller, Call, RawASGI, Reading, Stopwatch

#: Events per POST of the drain cases.
POST_SIZES = (100, 1000)
#: Events per second of the sustained cases.
RATES = (2000, 5000)
#: Seconds between two bursts of captures at a sustained rate.
TICK = 0.01


# -- capture() --------------------------------------------------------------------------


def capture(task: Dict[str, Any]) -> Calls:
    """Of an event that is ready, with the ingest down: the drain backs off and stays out of it."""
    calls = Calls()
    event = BeaconEvent("2026-06-03T12:00:00.000+00:00", "GET", "/r0/{item_id}", "/r0/17", 200, 3)
    calls.variants["lock+append"] = lambda count: _append_under_lock(event, count)
    calls.variants["not full"] = lambda count: _capture(event, count, capacity=10_000_000, waiting=0)
    for capacity in (10_000, 100_000):
        calls.variants[f"full at {capacity}"] = _capturing_full(event, capacity)
    return calls


def _append_under_lock(event: object, count: int) -> Reading:
    lock, events = threading.Lock(), deque()  # type: ignore[var-annotated]
    watch = Stopwatch()
    for _ in range(count):
        with lock:
            events.append(event)
    return watch.stop(count)


def _capturing_full(event: BeaconEvent, capacity: int) -> Call:
    return lambda count: _capture(event, count, capacity=capacity, waiting=capacity + 1000)


def _capture(event: BeaconEvent, count: int, *, capacity: int, waiting: int) -> Reading:
    down = MockTransport(capacity=1)
    down.raise_error = ConnectionError()
    client = BeaconClient(
        "k", transport=down, max_buffer_size=capacity, flush_interval=3600.0, register_atexit=False
    )
    client.capture(event)
    client.flush_sync()  # fails: backs off from here on
    for _ in range(waiting):
        client.capture(event)
    watch = Stopwatch()
    for _ in range(count):
        client.capture(event)
    reading = watch.stop(count)
    down.raise_error = None
    client.shutdown()
    return reading


# -- cleaning and encoding --------------------------------------------------------------


def make_records(count: int, seed: int = 7) -> List[Any]:
    """
    Make what an adapter queues for `count` requests of a service with 60 routes.

    Paths differ; half of the requests name one of 50 consumers; 3 % fail.
    """
    draw = random.Random(seed)
    records: List[Any] = []
    kinds: Dict[Any, Any] = {}
    now = 1_780_000_000.0
    for number in range(count):
        now += draw.expovariate(2000)
        route = draw.randrange(60)
        failed = draw.random() < 0.03
        method = draw.choice(("GET", "GET", "GET", "POST", "DELETE"))
        error = "ValueError: no such item" if failed else None
        kind = (method, f"/v1/r{route}/{{item_id}}", 500 if failed else 200, error)
        consumer = f"customer-{draw.randrange(50)}" if draw.random() < 0.5 else None
        path, duration = f"/v1/r{route}/{number}", int(draw.expovariate(0.05))
        records.append((now, kinds.setdefault(kind, kind), path, duration, consumer))
    return records


def encode(_: Dict[str, Any]) -> Calls:
    """Clean and encode, as the drain does for a POST of 1,000 events."""
    from beaconhq.wire import Batch, clean

    calls = Calls()
    records = make_records(1000)

    def work(count: int) -> Reading:
        watch = Stopwatch()
        for _ in range(0, count, len(records)):
            assert Batch([clean(record) for record in records]).body
        return watch.stop(count)

    calls.variants["clean+encode"] = work
    return calls


# -- draining ---------------------------------------------------------------------------


def drain(task: Dict[str, Any]) -> Calls:
    """Beside an `AsyncClient` of httpx, and of httpx2, that posts the same bytes, ready."""
    loop, calls = asyncio.new_event_loop(), Calls()
    libraries = [name for name in ("httpx", "httpx2") if find_spec(name) is not None]
    for size in POST_SIZES:
        for name in libraries:
            poster = loop.run_until_complete(_open_poster(import_module(name), task["ingest"]))
            calls.variants[f"{name} floor at {size}"] = _posting(loop, poster, size)
        client = BeaconClient(
            "k",
            task["ingest"],
            flush_interval=3600.0,
            batch_size=1_000_000,
            max_buffer_size=1_000_000,
            max_batch_size=size,
        )
        loop.run_until_complete(client.__aenter__())
        calls.variants[f"drain at {size}"] = _draining(loop, client, size)
    return calls


async def _open_poster(library: Any, ingest: str) -> Callable[[bytes], Any]:
    client = library.AsyncClient()
    headers = {"Authorization": "Bearer k", "Content-Type": "application/json"}

    async def post(body: bytes) -> None:
        response = await client.post(f"{ingest}/v1/ingest", content=body, headers=headers)
        assert response.status_code == 202

    await post(b"{}")
    return post


def _posting(loop: asyncio.AbstractEventLoop, post: Callable[[bytes], Any], size: int) -> Call:
    body = _body(size)

    async def work(count: int) -> Reading:
        watch = Stopwatch()
        for _ in range(0, count, size):
            await post(body)
        return watch.stop(count)

    return lambda count: loop.run_until_complete(work(count))


def _body(size: int) -> bytes:
    from beaconhq.wire import Batch, clean

    return Batch([clean(record) for record in make_records(size)]).body


def _draining(loop: asyncio.AbstractEventLoop, client: BeaconClient, size: int) -> Call:
    records = make_records(size)
    loop.run_until_complete(_opened(client, records[0]))

    async def work(count: int) -> Reading:
        watch = Stopwatch()
        for _ in range(0, count, size):
            for record in records:
                client.capture(record)
        result = await client.flush()
        assert result.delivered == count, result
        return watch.stop(count)

    return lambda count: loop.run_until_complete(work(count))


async def _opened(client: BeaconClient, record: Any) -> None:
    """Let the client load and connect."""
    client.capture(record)
    assert (await client.flush()).delivered == 1


def sustained(task: Dict[str, Any]) -> Calls:
    """
    At a steady rate, the drain in the application's loop: CPU time of the whole process.

    Beside an `httpx.AsyncClient` that posts ready bytes as often as the drain does: a POST in a
    process that did something else meanwhile costs more than one after the other.
    """
    from beaconhq.exporter import EAGER_SPACING

    loop, calls = asyncio.new_event_loop(), Calls()
    post = loop.run_until_complete(_open_poster(import_module("httpx"), task["ingest"]))
    client = BeaconClient("k", task["ingest"])
    loop.run_until_complete(client.__aenter__())
    sink: Deque[object] = deque(maxlen=1000)
    records = make_records(2000)

    def at(rate: int, take: Callable[[Any], None], beside: Optional[Callable[[], Any]] = None) -> Call:
        """Have events taken at that rate, and something else done as often as the drain posts."""

        async def work(count: int) -> Reading:
            await client.flush()
            watch = Stopwatch()
            producing = asyncio.ensure_future(_produce(records, take, rate, count))
            while beside is not None and not producing.done():
                await asyncio.sleep(EAGER_SPACING)
                await beside()
            await producing
            await client.flush()
            return watch.stop(count)

        return lambda count: loop.run_until_complete(work(count))

    for rate in RATES:
        body = _body(int(rate * EAGER_SPACING))
        calls.variants[f"producer at {rate}/s"] = at(rate, sink.append)
        calls.variants[f"httpx floor at {rate}/s"] = at(rate, sink.append, partial(post, body))
        calls.variants[f"sdk at {rate}/s"] = at(rate, client.capture)
    return calls


async def _produce(records: List[Any], take: Callable[[Any], None], rate: int, count: int) -> None:
    begun, taken = time.perf_counter(), 0
    while taken < count:
        due = min(count, int((time.perf_counter() - begun) * rate))
        while taken < due:
            take(records[taken % len(records)])
            taken += 1
        await asyncio.sleep(TICK)


# -- the longest step -------------------------------------------------------------------


def steps(task: Dict[str, Any]) -> Calls:
    """The longest that the drain holds the application's loop, in one step of it."""
    calls = Calls()
    kind = ("GET", "/{path}", 500, f"ValueError: {'ö' * 8000}")
    huge = [(record[0], kind, "/é" * 2000, 10, "ü" * 200) for record in make_records(10_000)]
    ordinary = make_records(10_000)
    calls.variants["1,000 ordinary events"] = lambda _: _longest_step(task["ingest"], ordinary[:1000])
    calls.variants["10,000 ordinary events"] = lambda _: _longest_step(task["ingest"], ordinary)
    calls.variants["10,000 events of 13 kB"] = lambda _: _longest_step(task["ingest"], huge)
    return calls


def _longest_step(ingest: str, records: List[Any]) -> Reading:
    longest = {"wall": 0.0, "thread": 0.0}
    run = asyncio.events.Handle._run

    def timed(handle: Any) -> None:
        wall, thread = time.perf_counter_ns(), time.thread_time_ns()
        run(handle)
        longest["wall"] = max(longest["wall"], time.perf_counter_ns() - wall)
        longest["thread"] = max(longest["thread"], time.thread_time_ns() - thread)

    async def main() -> None:
        async with BeaconClient(
            "k", ingest, flush_interval=3600.0, batch_size=1_000_000, timeout=60.0, register_atexit=False
        ) as client:
            client.capture(records[0])
            await client.flush()
            for record in records:
                client.capture(record)
            await asyncio.sleep(0)
            asyncio.events.Handle._run = timed  # type: ignore[method-assign, assignment]
            try:
                result = await client.flush()
            finally:
                asyncio.events.Handle._run = run  # type: ignore[method-assign]
            assert result.delivered == len(records), (result, client.stats())

    asyncio.run(main())
    return longest


# -- memory -----------------------------------------------------------------------------


def memory(task: Dict[str, Any]) -> Calls:
    """Of each event that waits, through the middleware, with strings that exist anyway."""
    calls = Calls()
    calls.variants["buffered event"] = lambda count: _memory(task["ingest"], count, None)
    calls.variants["buffered event with consumer"] = lambda count: _memory(task["ingest"], count, _consumer)
    return calls


_CONSUMERS = [f"customer-{number}" for number in range(50)]


def _consumer(scope: Any) -> str:
    number: int = scope["number"]
    return _CONSUMERS[number % 50]


def _memory(ingest: str, count: int, resolver: Any) -> Reading:
    from beaconhq import BeaconASGIMiddleware

    down = MockTransport(capacity=1)
    down.raise_error = ConnectionError()
    client = BeaconClient(
        "k",
        transport=down,
        flush_interval=3600.0,
        max_buffer_size=count + 1000,
        register_atexit=False,
        consumer_resolver=resolver,
    )
    caller = AsgiCaller(1)
    raw = RawASGI(1, leaves_route=True)
    app = BeaconASGIMiddleware(raw, client=client)
    call = caller.call(app)
    call(10)
    client.flush_sync()  # fails: backs off from here on
    paths = [f"/r0/{number}" for number in range(count)]
    raw.answer_also(paths)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        pass

    async def work() -> float:
        for path in paths[:100]:
            await app({**caller.scope(), "path": path, "number": 0}, receive, send)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for number, path in enumerate(paths):
            await app({**caller.scope(), "path": path, "number": number}, receive, send)
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return (after - before) / count

    held = caller.loop.run_until_complete(work())
    down.raise_error = None
    client.shutdown()
    return {"bytes": held}


CASES: Dict[str, Callable[[Dict[str, Any]], Calls]] = {
    "capture": capture,
    "encode": encode,
    "drain": drain,
    "sustained": sustained,
    "steps": steps,
    "memory": memory,
}
