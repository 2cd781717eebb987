"""The bridge's bargain: one thread at most, one drain at most, one wake-up a batch."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, List

from support.events import event, numbers
from support.transports import OK, ScriptedTransport

from beaconhq import BeaconClient, SendResult

if TYPE_CHECKING:
    import pytest

    from beaconhq.host import Host

MakeClient = Callable[..., BeaconClient]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def bridges() -> List[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "beaconhq-bridge"]


def test_it_starts_with_the_first_capture_and_ends_with_the_stop(make_client: MakeClient) -> None:
    before = len(bridges())
    client = make_client(transport=ScriptedTransport())
    assert len(bridges()) == before
    for number in range(3):
        client.capture(event(number))
        assert client.flush_sync(5) == (1, 0, 0)
        assert len(bridges()) == before + 1
        client.shutdown()
        assert len(bridges()) == before


def test_many_threads_that_capture_first_start_one_thread(make_client: MakeClient) -> None:
    before = len(bridges())
    client = make_client(transport=ScriptedTransport())
    barrier = threading.Barrier(8)

    def capture(number: int) -> None:
        barrier.wait()
        client.capture(event(number))

    threads = [threading.Thread(target=capture, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.flush_sync(5).pending == 0
    assert len(bridges()) == before + 1
    assert client.stats()["delivered"] == 8


def test_captures_wake_it_once_a_batch(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """`call_soon_threadsafe` costs more than a whole capture."""
    transport = ScriptedTransport()
    client = make_client(transport=transport, batch_size=100, flush_interval=600)
    client.capture(event(0))
    assert client.flush_sync(5) == (1, 0, 0)
    host = client._lifecycle.host
    assert host is not None
    woken: List[int] = []
    wake = type(host).wake

    def count(self: Host) -> bool:
        woken.append(client.stats()["captured"])
        return wake(self)

    monkeypatch.setattr(type(host), "wake", count)
    posts = len(transport.attempts)
    for batch in range(5):
        wait_until(lambda: client._lifecycle.queue.armed)  # the drain waits for the next batch
        for number in range(100):
            client.capture(event(number))
        expected = posts + batch + 1
        wait_until(lambda: len(transport.attempts) >= expected)  # noqa: B023 - called here
    assert woken == [101, 201, 301, 401, 501]


def test_a_host_that_ends_while_a_capture_looks_at_it(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The capture then starts the next one; else the event would wait for a flush or the exit."""
    client = make_client(transport=ScriptedTransport(), batch_size=1, flush_interval=600)
    client.capture(event(0))
    assert client.flush_sync(5) == (1, 0, 0)
    queue, here = client._lifecycle.queue, threading.get_ident()
    wait_until(lambda: queue.armed)
    disarm = queue.disarm

    def end_first() -> None:
        if threading.get_ident() == here:
            monkeypatch.undo()
            client._lifecycle.host.hand_over()  # type: ignore[union-attr]
            wait_until(lambda: client._lifecycle.host is None and queue.armed)
        disarm()

    monkeypatch.setattr(queue, "disarm", end_first)
    client.capture(event(1))
    wait_until(lambda: client.stats()["delivered"] == 2)


def test_there_is_never_more_than_one_drain(make_client: MakeClient) -> None:
    """Event loops come and go, threads capture, flush and stop: no two POSTs at a time, every event once."""
    sending = threading.Semaphore(1)
    overlaps: List[str] = []
    delivered: List[Any] = []

    class Transport:
        async def send(self, events: List[Any]) -> SendResult:
            if not sending.acquire(blocking=False):
                overlaps.append("two at a time")
                return OK
            await asyncio.sleep(0.001)
            delivered.extend(events)
            sending.release()
            return OK

    client = make_client(transport=Transport(), batch_size=5, flush_interval=0.01, shutdown_timeout=10)
    over = threading.Event()
    captured = iter(range(10**9))  # `next` of an iterator over ints is atomic

    def keep(work: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            while not over.is_set():
                work()
                time.sleep(0.001)

        return threading.Thread(target=run)

    async def host() -> None:
        async with client:
            client.capture(event(next(captured)))
            await asyncio.sleep(0.003)

    threads = [
        keep(lambda: client.capture(event(next(captured)))),
        keep(lambda: client.flush_sync(5)),
        keep(client.shutdown),
        keep(lambda: asyncio.run(host())),
        keep(lambda: asyncio.run(host())),
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 15
    while len(delivered) < 300 and time.monotonic() < deadline:
        time.sleep(0.01)
    over.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert client.flush_sync(10).pending == 0
    assert overlaps == []
    assert sorted(numbers(delivered)) == list(range(next(captured)))
