"""An ingest that is down, slow or failing: what memory can hold is not lost, what is broken not hammered."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Callable, List

import pytest
from process.children import free_port, run_script
from support.events import event
from support.hosts import HOSTS, deliver_all, hosted, until
from support.load import make_app, serve_all

from .ingest import KEY, Fault

if TYPE_CHECKING:
    from beaconhq import BeaconClient
    from beaconhq.errors import BeaconError

    from .ingest import FaultIngest

pytestmark = pytest.mark.process

MakeClient = Callable[..., "BeaconClient"]


@pytest.mark.parametrize("host", HOSTS)
async def test_an_ingest_that_comes_up_late_gets_everything_in_order(
    make_ingest: Callable[[], FaultIngest], make_client: MakeClient, reported: List[BeaconError], host: str
) -> None:
    ingest = make_ingest()
    client = make_client(
        ingest_url=ingest.get_url(), ingest_key=KEY, flush_interval=0.1, batch_size=5, max_batch_size=7
    )
    async with hosted(client, host):
        for number in range(60):
            client.capture(event(number))
            await asyncio.sleep(0.01)
        assert client.stats()["state"] == "backing_off"
        assert client.stats()["delivered"] == 0
        ingest.come_up()
        await until(lambda: client.stats()["delivered"] == 60)
    assert ingest.stored() == [event(number).path for number in range(60)]
    assert [type(error).__name__ for error in reported] == ["NetworkError"]
    assert ingest.seen().refused == []


@pytest.mark.parametrize("host", HOSTS)
async def test_down_for_the_first_half_of_20000_requests_all_are_delivered_once(
    make_ingest: Callable[[], FaultIngest], make_client: MakeClient, host: str
) -> None:
    """At concurrency 50; the second half arrives while the backlog of the first is worked off."""
    ingest = make_ingest()
    client = make_client(
        ingest_url=ingest.get_url(), ingest_key=KEY, flush_interval=0.1, max_buffer_size=50_000
    )
    app = make_app(client)
    async with hosted(client, host):
        await serve_all(app, range(10_000))
        stats = client.stats()
        assert (stats["captured"], stats["delivered"], stats["dropped"]) == (10_000, 0, {})
        await until(lambda: client.stats()["requeued"] > 0)  # it was tried
        ingest.come_up()
        await serve_all(app, range(10_000, 20_000))
        await deliver_all(client)
        assert client.stats()["host"] == host
    assert client.stats()["delivered"] == 20_000
    assert client.stats()["dropped"] == {}
    assert sorted(ingest.stored()) == [f"/items/{number:05d}" for number in range(20_000)]
    assert ingest.seen().refused == []


@pytest.mark.parametrize("host", HOSTS)
async def test_at_100_ms_a_post_3000_events_a_second_are_carried(
    ingest: FaultIngest, make_client: MakeClient, host: str
) -> None:
    """
    14,000 events in 4 s, or as long as a busy machine takes, through a buffer for 6,000.

    So 2,000 events/s must be carried at least. At 100 events a POST it would be 1,000, and a loss; at
    1,000 a POST the ceiling is 10,000.
    """
    ingest.script([], then=Fault("delay"))
    client = make_client(
        ingest_url=ingest.get_url(),
        ingest_key=KEY,
        max_buffer_size=6000,
        flush_interval=1,
        shutdown_timeout=30,
    )
    async with hosted(client, host):
        for number in range(14_000):
            client.capture(event(number))
            if number % 35 == 34:
                await asyncio.sleep(0.01)
    assert client.stats()["dropped"] == {}
    assert ingest.stored() == [event(number).path for number in range(14_000)]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("pause", [0.1, 0.0], ids=["ten events a second", "as many as there is time for"])
async def test_no_retry_storm(ingest: FaultIngest, make_client: MakeClient, pause: float, host: str) -> None:
    """
    The number of POSTs is that of the back-off, whatever the capture rate.

    A thread that captures all the time leaves the bridge's so little of the GIL that loading the HTTP
    stack can take it some seconds; so it goes on until two attempts were seen.
    """
    ingest.script([], then=Fault(status=503))
    options = {"flush_interval": 0.2, "batch_size": 1, "max_buffer_size": 1000}
    client = make_client(ingest_url=ingest.get_url(), ingest_key=KEY, **options)
    clock = asyncio.get_running_loop().time
    async with hosted(client, host):
        start = clock()
        while clock() < start + 2.0 or (ingest.count_posts() < 2 and clock() < start + 60.0):
            for number in range(1 if pause else 100):
                client.capture(event(number))
            await asyncio.sleep(pause)
        took = clock() - start
    # At the earliest after 0, 0.05, 0.15, 0.35, 0.75 s and so on, and once more at the stop.
    assert 2 <= ingest.count_posts() <= 2 + math.log2(took / 0.05 + 1)


#: Captures ever more, and prints by how much the process grew after the buffer had been filled twice.
GROW = """
import asyncio, os, time

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

async def capture(count):
    for start in range(0, count, 2000):
        for number in range(start, start + 2000):
            client.capture(event(f"/{number:0200d}"))
        await asyncio.sleep(0.02)  # time for the drain and its POSTs

async def main():
    await capture(20_000)
    while client.stats()["requeued"] < 2000:  # the HTTP stack is loaded, and was used
        await asyncio.sleep(0.01)
    before = resident()
    await capture(180_000)
    stats = client.stats()
    print(resident() - before, stats["captured"], stats["pending"], stats["dropped"], stats["requeued"] > 0)

async def hosted():
    async with client:
        await main()

client = make(flush_interval=0.05, register_atexit=False, shutdown_timeout=1)
asyncio.run(hosted() if sys.argv[2] == "event_loop" else main())
"""


@pytest.mark.parametrize("host", HOSTS)
def test_200000_captures_with_a_dead_ingest_take_no_more_memory_than_the_buffer(host: str) -> None:
    """Without the bound the 180,000 events after the buffer was full take 80 MB; with it, about 1 MB."""
    # Without `-X dev`, whose allocator pads.
    ended = run_script(GROW, f"http://localhost:{free_port()}", host, flags=("-W", "error"))
    assert (ended.code, ended.err) == (0, "")
    grown, rest = ended.out.split(maxsplit=1)
    assert rest == "200000 10000 {'buffer_full': 190000} True\n"
    assert int(grown) < 16_000_000
