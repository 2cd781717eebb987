"""
The same rules over both hosts: an application's event loop, and the bridge's thread.

Real time, real loops; what needs a clock is in `test_exporter.py`, in virtual time.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from typing import Any, AsyncIterator, Callable, List

import anyio
import pytest
from support.events import event, numbers
from support.hosts import HOSTS, hosted, until
from support.transports import DOWN, OK, GatedTransport, ScriptedTransport, answer

from beaconhq import BeaconClient, SendResult
from beaconhq.errors import BatchRejected, BeaconError

MakeClient = Callable[..., BeaconClient]


def our_threads() -> List[str]:
    """Return the names of our threads; one that is just ending gets the time to."""
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("beaconhq")]
    for thread in ours:
        thread.join(0.2)
    return [thread.name for thread in ours if thread.is_alive()]


# -- the same rules over both -----------------------------------------------------------


@pytest.mark.parametrize("host", HOSTS)
async def test_flush_delivers_everything_captured_before(host: str, make_client: MakeClient) -> None:
    transport = ScriptedTransport()
    client = make_client(transport=transport)
    async with hosted(client, host):
        for number in range(250):
            client.capture(event(number))
        assert await client.flush() == (250, 0, 0)
        assert client.stats()["host"] == host
    assert numbers(transport.delivered) == list(range(250))


@pytest.mark.parametrize("host", HOSTS)
async def test_the_eager_size_wakes_the_drain(host: str, make_client: MakeClient) -> None:
    transport = ScriptedTransport()
    client = make_client(transport=transport, batch_size=5, flush_interval=3600)
    async with hosted(client, host):
        for number in range(5):
            client.capture(event(number))
        await until(lambda: len(transport.delivered) == 5)


@pytest.mark.parametrize("host", HOSTS)
async def test_the_cadence_flushes_what_is_below_the_eager_size(host: str, make_client: MakeClient) -> None:
    transport = ScriptedTransport()
    client = make_client(transport=transport, flush_interval=0.05)
    async with hosted(client, host):
        client.capture(event())
        await until(lambda: len(transport.delivered) == 1)


@pytest.mark.parametrize("host", HOSTS)
async def test_a_failed_batch_is_requeued_in_order_under_its_key(host: str, make_client: MakeClient) -> None:
    transport = ScriptedTransport(DOWN)
    client = make_client(transport=transport, flush_interval=0.05)
    async with hosted(client, host):
        client.capture(event(0))
        await until(lambda: len(transport.attempts) == 1)
        client.capture(event(1))
        await until(lambda: len(transport.delivered) == 2)
    first, second = transport.attempts[:2]
    assert first.key == second.key
    assert numbers(transport.delivered) == [0, 1]
    assert client.stats()["requeued"] == 1


@pytest.mark.parametrize("host", HOSTS)
async def test_a_rejected_batch_is_dropped_and_reported(
    host: str, make_client: MakeClient, reported: List[BeaconError]
) -> None:
    transport = ScriptedTransport(answer(400))
    client = make_client(transport=transport)
    async with hosted(client, host):
        client.capture(event())
        assert await client.flush() == (0, 1, 0)
    (error,) = reported
    assert isinstance(error, BatchRejected)
    assert client.stats()["dropped"] == {"rejected": 1}
    assert client.stats()["last_error"] == f"BatchRejected: {error}"


@pytest.mark.parametrize("host", HOSTS)
async def test_past_the_cap_the_oldest_are_dropped(host: str, make_client: MakeClient) -> None:
    transport = GatedTransport()
    client = make_client(transport=transport, max_buffer_size=10, batch_size=5)
    async with hosted(client, host):
        for number in range(5):
            client.capture(event(number))
        await until(transport.begun.is_set)
        for number in range(5, 30):
            client.capture(event(number))
        transport.gate.set()
        await client.flush()
    assert numbers(transport.delivered) == [*range(5), *range(20, 30)]
    assert client.stats()["dropped"] == {"buffer_full": 15}


@pytest.mark.parametrize("host", HOSTS)
async def test_stop_lets_the_batch_in_flight_finish_and_sends_the_rest(
    host: str, make_client: MakeClient
) -> None:
    transport = GatedTransport()
    client = make_client(transport=transport, batch_size=2, max_batch_size=2)
    async with hosted(client, host):
        for number in range(4):
            client.capture(event(number))
        await until(transport.begun.is_set)
        asyncio.get_running_loop().call_later(0.05, transport.gate.set)
    assert numbers(transport.delivered) == [0, 1, 2, 3]
    assert client.stats()["state"] == "idle"


@pytest.mark.parametrize("host", HOSTS)
async def test_a_hanging_transport_holds_a_stop_no_longer_than_the_budget(
    host: str, make_client: MakeClient
) -> None:
    transport = GatedTransport()
    client = make_client(transport=transport, shutdown_timeout=0.1)
    with anyio.fail_after(5):
        async with hosted(client, host):
            client.capture(event())
    stats = client.stats()
    assert (stats["pending"], stats["in_flight"], stats["delivered"]) == (1, 0, 0)
    transport.gate.set()
    client.shutdown()
    assert client.stats()["delivered"] == 1


@pytest.mark.parametrize("host", HOSTS)
async def test_a_cancelled_flush_cancels_only_the_waiting(host: str, make_client: MakeClient) -> None:
    transport = GatedTransport()
    client = make_client(transport=transport)
    async with hosted(client, host):
        client.capture(event())
        first = asyncio.ensure_future(client.flush())
        second = asyncio.ensure_future(client.flush())
        await until(transport.begun.is_set)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        transport.gate.set()
        assert (await second).delivered == 1
    assert len(transport.attempts) == 1


@pytest.mark.parametrize("host", HOSTS)
async def test_a_flush_that_runs_out_of_time_returns_what_is_pending(
    host: str, make_client: MakeClient
) -> None:
    transport = GatedTransport()
    client = make_client(transport=transport)
    async with hosted(client, host):
        client.capture(event())
        assert await client.flush(timeout=0.05) == (0, 0, 1)
        transport.gate.set()
        await client.flush()
    assert len(transport.attempts) == 1


@pytest.mark.parametrize("host", HOSTS)
async def test_stopping_is_not_terminal(host: str, make_client: MakeClient) -> None:
    transport = ScriptedTransport()
    client = make_client(transport=transport)
    for round_ in range(3):
        async with hosted(client, host):
            client.capture(event(round_))
        assert client.stats()["delivered"] == round_ + 1
        await client.aclose()
        client.shutdown()
    assert our_threads() == []


@pytest.mark.parametrize("host", HOSTS)
async def test_the_drain_carries_no_context_of_a_request(host: str, make_client: MakeClient) -> None:
    variable = contextvars.ContextVar("variable", default="none")
    seen: List[str] = []

    class Looking:
        async def send(self, events: Any) -> SendResult:
            seen.append(variable.get())
            return OK

    variable.set("request")
    client = make_client(transport=Looking())
    async with hosted(client, host):
        client.capture(event())
        await client.flush()
    assert seen == ["none"]


@pytest.mark.parametrize("host", HOSTS)
async def test_threads_and_loops_may_capture_at_the_same_time(host: str, make_client: MakeClient) -> None:
    transport = ScriptedTransport()
    client = make_client(transport=transport, batch_size=50, max_buffer_size=100_000)

    def capture_many(start: int) -> None:
        for number in range(start, start + 1000):
            client.capture(event(number))

    async with hosted(client, host):
        threads = [threading.Thread(target=capture_many, args=(1000 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        capture_many(4000)
        for thread in threads:
            await asyncio.get_running_loop().run_in_executor(None, thread.join)
    assert sorted(numbers(transport.delivered)) == list(range(5000))


@pytest.mark.parametrize("host", HOSTS)
async def test_on_error_may_call_back_into_the_client(host: str) -> None:
    transport = ScriptedTransport(answer(400))
    calls: List[str] = []

    def on_error(_: BaseException) -> None:
        calls.append(repr(client))
        client.capture(event(7))
        client.flush_sync()  # on the drain's own thread it only asks

    client = BeaconClient("k", transport=transport, on_error=on_error, register_atexit=False)
    async with hosted(client, host):
        client.capture(event())
        await client.flush()
    assert numbers(transport.delivered) == [7]
    assert len(calls) == 1


# -- which host -------------------------------------------------------------------------


async def test_no_thread_of_ours_runs_while_an_event_loop_hosts_the_drain(make_client: MakeClient) -> None:
    client = make_client(transport=ScriptedTransport())
    async with client:
        client.capture(event())
        await client.flush()
        assert our_threads() == []


async def test_constructing_and_asking_starts_nothing(make_client: MakeClient) -> None:
    client = make_client(transport=ScriptedTransport())
    assert client.stats()["host"] is None
    assert await client.flush() == (0, 0, 0)
    await client.aclose()
    client.shutdown()
    assert client.stats()["state"] == "idle"
    assert our_threads() == []


async def test_an_event_loop_takes_over_from_the_bridge_after_its_post(make_client: MakeClient) -> None:
    transport = GatedTransport()
    client = make_client(transport=transport, batch_size=1)
    client.capture(event(0))
    await until(transport.begun.is_set)
    async with client:
        client.capture(event(1))
        assert client.stats()["host"] == "event_loop"
        await asyncio.sleep(0.05)
        assert len(transport.attempts) == 0, "never two POSTs at once"
        transport.gate.set()
        assert (await client.flush()).pending == 0
        await until(lambda: our_threads() == [])
    assert numbers(transport.delivered) == [0, 1]


async def test_a_second_loop_attaches_and_flushes_when_it_leaves(make_client: MakeClient) -> None:
    transport = ScriptedTransport()
    client = make_client(transport=transport)

    async def second() -> None:
        async with client:
            client.capture(event(1))
        assert numbers(transport.delivered) == [0, 1]

    async with client:
        client.capture(event(0))
        await asyncio.get_running_loop().run_in_executor(None, asyncio.run, second())
        assert client.stats()["host"] == "event_loop"
        assert client.stats()["state"] == "running"


async def test_nested_entering_stops_with_the_last_one_out(make_client: MakeClient) -> None:
    client = make_client(transport=ScriptedTransport())
    async with client:
        async with client:
            pass
        assert client.stats()["state"] == "running"
    assert client.stats()["state"] == "idle"


async def test_aclose_inside_a_hosting_block_is_harmless(make_client: MakeClient) -> None:
    transport = ScriptedTransport()
    client = make_client(transport=transport)
    async with client:
        client.capture(event(0))
        await client.aclose()
        client.capture(event(1))
    assert numbers(transport.delivered) == [0, 1]
    assert our_threads() == []


async def test_entered_in_one_task_and_left_in_another(make_client: MakeClient) -> None:
    transport = ScriptedTransport()
    client = make_client(transport=transport)
    await asyncio.ensure_future(client.__aenter__())
    client.capture(event())
    await asyncio.ensure_future(client.__aexit__(None, None, None))
    assert len(transport.delivered) == 1


@pytest.fixture
async def entered(make_client: MakeClient) -> AsyncIterator[BeaconClient]:
    async with make_client(transport=ScriptedTransport()) as client:
        yield client


async def test_an_async_fixture_may_hold_a_client(entered: BeaconClient) -> None:
    entered.capture(event())
    assert (await entered.flush()).delivered == 1


async def test_leaving_at_once_after_entering_is_fine(make_client: MakeClient) -> None:
    for _ in range(20):
        async with make_client(transport=ScriptedTransport()):
            pass


async def test_the_body_s_exception_passes_and_the_events_are_delivered(make_client: MakeClient) -> None:
    transport = ScriptedTransport()
    client = make_client(transport=transport)
    with pytest.raises(KeyError):  # noqa: PT012 - the block is the claim
        async with client:
            client.capture(event())
            raise KeyError
    assert len(transport.delivered) == 1


async def test_shutdown_on_the_hosting_loop_s_thread_returns_at_once(make_client: MakeClient) -> None:
    transport = GatedTransport()
    client = make_client(transport=transport)
    async with client:
        client.capture(event())
        client.shutdown()  # waiting would be a deadlock: the gate is closed
        assert client.flush_sync().pending == 1
        transport.gate.set()
    assert len(transport.delivered) == 1


def test_one_client_in_two_asyncio_runs(make_client: MakeClient) -> None:
    transport = ScriptedTransport()
    client = make_client(transport=transport)

    async def main(number: int) -> None:
        async with client:
            client.capture(event(number))

    asyncio.run(main(0))
    asyncio.run(main(1))
    assert numbers(transport.delivered) == [0, 1]


def test_a_loop_that_ends_without_leaving_keeps_its_events(make_client: MakeClient) -> None:
    transport = GatedTransport()
    client = make_client(transport=transport, batch_size=2)

    async def main() -> None:
        await client.__aenter__()
        client.capture(event(0))
        client.capture(event(1))
        await until(transport.begun.is_set)

    asyncio.run(main())
    stats = client.stats()
    assert (stats["pending"], stats["in_flight"], stats["host"]) == (2, 0, None)
    transport.gate.set()
    client.shutdown()
    assert numbers(transport.delivered) == [0, 1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("post_in_flight", [False, True])
def test_after_a_loop_was_closed_under_the_drain_the_next_capture_starts_the_bridge(
    make_client: MakeClient, post_in_flight: bool
) -> None:
    transport = GatedTransport()
    client = make_client(transport=transport, batch_size=2, flush_interval=0.05)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(client.__aenter__())
    loop.run_until_complete(asyncio.sleep(0.05))
    client.capture(event(0))
    if post_in_flight:
        client.capture(event(1))
        loop.run_until_complete(until(transport.begun.is_set))
    loop.close()
    transport.gate.set()
    client.capture(event(2))
    assert client.stats()["host"] == "thread"
    assert client.flush_sync(5).pending == 0
    assert numbers(transport.delivered) == ([0, 1, 2] if post_in_flight else [0, 2])


def test_with_delivers_without_a_loop(make_client: MakeClient) -> None:
    transport = ScriptedTransport()
    with make_client(transport=transport) as client:
        client.capture(event())
    assert len(transport.delivered) == 1
    assert our_threads() == []


def test_flush_sync_waits_for_the_delivery(make_client: MakeClient) -> None:
    client = make_client(transport=ScriptedTransport())
    client.capture(event())
    assert client.flush_sync(5) == (1, 0, 0)


def test_a_client_works_under_trio(make_client: MakeClient) -> None:
    transport = ScriptedTransport()
    client = make_client(transport=transport)

    async def main() -> None:
        async with client:
            client.capture(event(0))
            assert (await client.flush(5)).delivered == 1
            client.capture(event(1))

    anyio.run(main, backend="trio")
    assert numbers(transport.delivered) == [0, 1]
    assert our_threads() == []


def test_where_no_thread_can_be_started_events_wait_and_blocking_calls_deliver(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, reported: List[BeaconError]
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("beaconhq.bridge.start_thread", refuse)
    transport = ScriptedTransport()
    client = make_client(transport=transport)
    for number in range(500):
        client.capture(event(number))
    assert client.stats()["pending"] == 500
    assert "no thread" in str(client.stats()["last_error"])
    assert reported == [], "never called on the request path"
    assert client.flush_sync() == (500, 0, 0)
    client.capture(event(500))
    client.shutdown()
    assert numbers(transport.delivered) == list(range(501))
    assert type(reported[0]).__name__ == "HostUnavailable"


# -- memory -----------------------------------------------------------------------------


@pytest.mark.parametrize("use", ["never", "with", "shutdown", "async with", "aclose"])
def test_a_closed_client_is_garbage_collected(use: str) -> None:
    def live() -> weakref.ref[BeaconClient]:
        client = BeaconClient("k", transport=ScriptedTransport())

        async def main() -> None:
            if use == "async with":
                async with client:
                    client.capture(event())
            else:
                client.capture(event())
                await client.aclose()

        if use == "with":
            with client:
                client.capture(event())
        elif use == "shutdown":
            client.capture(event())
            client.shutdown()
        elif use != "never":
            asyncio.run(main())
        return weakref.ref(client)

    references = [live() for _ in range(30)]
    gc.collect()
    assert [reference() for reference in references] == [None] * 30
    assert our_threads() == []


def test_a_forgotten_client_still_delivers() -> None:
    transport = GatedTransport(DOWN)
    client = BeaconClient("k", transport=transport, flush_interval=0.05)
    lifecycle = weakref.ref(client._lifecycle)
    client.capture(event())
    assert transport.begun.wait(5)
    del client
    gc.collect()
    transport.gate.set()
    for _ in range(1000):
        if not our_threads():
            break
        threading.Event().wait(0.01)
    assert len(transport.delivered) == 1
    gc.collect()
    assert lifecycle() is None
