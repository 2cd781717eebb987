"""
Whatever is interrupted while a POST is under way (a flush, a lifespan, the drain, a hook, the program):
nothing that was pending is lost, and nothing is sent twice but under its key.

A loop that is closed under the drain is in `tests/process/test_lost_loops.py`.
"""

from __future__ import annotations

import asyncio
import signal
import textwrap
from typing import TYPE_CHECKING, Callable, Dict, List, Type

import pytest
from process.children import PRELUDE, STRICT, running, wait_until
from support.events import event
from support.hosts import HOSTS, deliver_all, hosted, until

from beaconhq import BeaconClient

from .ingest import KEY, Fault

if TYPE_CHECKING:
    from .ingest import FaultIngest

pytestmark = pytest.mark.process

MakeClient = Callable[..., BeaconClient]
FIVE = [event(number).path for number in range(5)]


@pytest.fixture
def client(ingest: FaultIngest, make_client: MakeClient) -> BeaconClient:
    """A client that sends when it is asked to."""
    return make_client(
        ingest_url=ingest.get_url(), ingest_key=KEY, flush_interval=3600, timeout=30, shutdown_timeout=30
    )


def capture_five(client: BeaconClient) -> None:
    for number in range(5):
        client.capture(event(number))


async def post_under_way(ingest: FaultIngest, posts: int = 1) -> None:
    await until(lambda: ingest.count_posts() == posts)


@pytest.mark.parametrize("host", HOSTS)
async def test_a_cancelled_flush_goes_on_without_its_caller(
    ingest: FaultIngest, client: BeaconClient, host: str
) -> None:
    async with hosted(client, host):
        capture_five(client)
        ingest.hold()
        flush = asyncio.ensure_future(client.flush())
        await post_under_way(ingest)
        flush.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flush
        assert client.stats()["in_flight"] == 5
        ingest.release()
        assert (await client.flush()).pending == 0
    assert ingest.stored() == FIVE
    assert ingest.count_posts() == 1


@pytest.mark.parametrize("host", HOSTS)
async def test_a_cancelled_task_in_async_with_delivers_before_it_ends(
    ingest: FaultIngest, client: BeaconClient, host: str
) -> None:
    """As a server does with a lifespan that it is tired of."""

    async def serve() -> None:
        async with hosted(client, host):
            capture_five(client)
            flush = asyncio.ensure_future(client.flush())
            await asyncio.sleep(3600)
            await flush

    ingest.hold()
    task = asyncio.ensure_future(serve())
    await post_under_way(ingest)
    task.cancel()
    await asyncio.sleep(0.05)
    ingest.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    if host == "thread":  # nothing in the block above stops it
        await client.aclose()
    assert ingest.stored() == FIVE
    assert ingest.count_posts() == 1
    assert client.stats()["delivered"] == 5


@pytest.mark.parametrize("host", HOSTS)
async def test_cancelled_while_it_waits_for_the_last_post(
    ingest: FaultIngest, client: BeaconClient, host: str
) -> None:
    async def serve() -> None:
        async with hosted(client, host):
            capture_five(client)

    ingest.hold()
    task = asyncio.ensure_future(serve())
    await post_under_way(ingest)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    ingest.release()
    await until(lambda: client.stats()["host"] is None)
    assert client.stats()["delivered"] == 5
    assert ingest.stored() == FIVE
    assert ingest.count_posts() == 1


def test_a_loop_that_cancels_everything_at_its_end_leaves_the_batch_to_the_next_host(
    ingest: FaultIngest, client: BeaconClient
) -> None:
    """`asyncio.run` does that, also to the drain: the batch goes again under its key."""

    async def main() -> None:
        await client.__aenter__()
        capture_five(client)
        flush = asyncio.ensure_future(client.flush())
        await post_under_way(ingest)
        flush.cancel()

    ingest.hold()
    asyncio.run(main())
    stats = client.stats()
    assert (stats["pending"], stats["in_flight"], stats["host"]) == (5, 0, None)
    ingest.release()
    assert client.flush_sync(30).delivered == 5
    assert ingest.stored() == FIVE
    assert ingest.duplicates() == 1
    first, second = ingest.seen().posts
    assert first.key == second.key


# -- the hook ---------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("raised", [ValueError, asyncio.CancelledError, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("fault", [Fault("reset"), Fault("reset", stored=True)], ids=["lost", "stored"])
def test_on_error_that_captures_and_raises_costs_nothing(
    ingest: FaultIngest, make_client: MakeClient, raised: Type[BaseException], fault: Fault, host: str
) -> None:
    """Ctrl-C passes through, and may end the drain: the next host has everything."""
    reported: List[BaseException] = []

    def explode(error: BaseException) -> None:
        reported.append(error)
        hooked.capture(event(4))
        raise raised

    hooked = make_client(
        ingest_url=ingest.get_url(), ingest_key=KEY, flush_interval=0.1, timeout=30, on_error=explode
    )

    async def main() -> None:
        async with hosted(hooked, host):
            for number in range(4):
                hooked.capture(event(number))
            await deliver_all(hooked)

    ingest.script([fault])
    loop = asyncio.new_event_loop()
    try:
        if host == "event_loop" and raised in (KeyboardInterrupt, SystemExit):
            task = loop.create_task(main())
            with pytest.raises(raised):
                loop.run_until_complete(task)
            loop.run_until_complete(task)
        else:
            loop.run_until_complete(main())
    finally:
        loop.close()
    assert ingest.stored() == FIVE
    assert ingest.duplicates() == (1 if fault.stored else 0)
    assert [type(error).__name__ for error in reported] == ["NetworkError"]
    stats = hooked.stats()
    assert (stats["captured"], stats["delivered"], stats["pending"], stats["dropped"]) == (5, 5, 0, {})


# -- the program ------------------------------------------------------------------------

#: Each captures five events, has their POST under way, and waits for Ctrl-C.
PROGRAMS: Dict[str, str] = {
    "async with": """
        import asyncio

        async def main():
            async with client:
                capture_five()
                await asyncio.gather(client.flush(), asyncio.sleep(3600))

        asyncio.run(main())
    """,
    "entered and never left": """
        import asyncio

        async def main():
            await client.__aenter__()
            capture_five()
            await asyncio.gather(client.flush(), asyncio.sleep(3600))

        asyncio.run(main())
    """,
    "asyncio and the bridge": """
        import asyncio

        async def main():
            capture_five()
            await asyncio.gather(client.flush(), asyncio.sleep(3600))

        asyncio.run(main())
    """,
    "a blocking flush": """
        capture_five()
        client.flush_sync()
    """,
    "a blocking shutdown": """
        capture_five()
        client.shutdown()
    """,
    "nothing but a sleep": """
        import threading, time

        capture_five()
        threading.Thread(target=client.flush_sync, daemon=True).start()
        time.sleep(3600)
    """,
}

BEGIN = """
client = make(shutdown_timeout=30, timeout=30)

def capture_five():
    for number in range(5):
        client.capture(event(f"/items/{number:05d}"))
"""


@pytest.mark.parametrize("name", PROGRAMS)
def test_ctrl_c_in_the_middle_of_a_send(ingest: FaultIngest, name: str) -> None:
    """The program ends as it would without us, and what was under way is stored once."""
    source = PRELUDE.replace("test-key", KEY) + BEGIN + textwrap.dedent(PROGRAMS[name])
    ingest.hold()
    with running([*STRICT, "-c", source, ingest.get_url()]) as process:
        wait_until(lambda: ingest.count_posts() == 1, "the POST")
        process.send_signal(signal.SIGINT)
        ingest.release()
        output, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT, output
    assert output.rstrip().endswith("KeyboardInterrupt")
    assert output.count("Traceback") <= 2, output
    assert ingest.stored() == FIVE
    seen = ingest.seen()
    assert seen.refused == []
    assert len({post.key for post in seen.posts}) == 1
