"""Thirty clients, made, used and closed in every way, leave nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .children import run_script

if TYPE_CHECKING:
    from .ingest_server import RecordingIngest

pytestmark = pytest.mark.process

#: Makes thirty clients by `use`, twice, and prints what the second thirty left.
#: The first pay for what stays once: modules, and asyncio's own.
COUNT = """
import asyncio, gc, os, threading, time, weakref
import beaconhq

def left():
    gc.collect()
    return threading.active_count(), len(os.listdir("/proc/self/fd")), len(tasks())

def tasks():
    try:
        return asyncio.all_tasks()
    except RuntimeError:
        return ()

def refs(client):
    alive = weakref.ref(client), weakref.ref(client._lifecycle)
    return lambda: any(ref() is not None for ref in alive)

def polls(before, clients):
    # The thread of a client that nobody waited for ends in its own time.
    deadline = time.monotonic() + 20
    while (left() != before or any(client() for client in clients)) and time.monotonic() < deadline:
        yield 0.02
    print([now - then for now, then in zip(left(), before)], sum(client() for client in clients))

def use_thirty(use):
    [use(make(batch_size=1, timeout=20)) for _ in range(30)]
    while beaconhq.hooks._kept or threading.active_count() > 1:
        time.sleep(0.02)
    before = left()
    for seconds in polls(before, [use(make(batch_size=1, timeout=20)) for _ in range(30)]):
        time.sleep(seconds)

async def use_thirty_here(use):
    asyncio.get_running_loop().slow_callback_duration = 60  # what counts here takes long
    [await use(make(batch_size=1, timeout=20)) for _ in range(30)]
    before = left()
    for seconds in polls(before, [await use(make(batch_size=1, timeout=20)) for _ in range(30)]):
        await asyncio.sleep(seconds)
"""

#: Each uses one client and returns what tells whether anything of it is left.
WAYS = {
    "never used": """
        def use(client):
            return refs(client)
    """,
    "entered and never used": """
        def use(client):
            with client:
                return refs(client)
    """,
    "with": """
        def use(client):
            with client:
                client.capture(event())
            return refs(client)
    """,
    "shutdown": """
        def use(client):
            client.capture(event())
            client.flush_sync()
            client.shutdown()
            client.shutdown()
            return refs(client)
    """,
    "forgotten": """
        def use(client):
            client.capture(event())
            return refs(client)
    """,
    "forgotten after a flush": """
        def use(client):
            client.capture(event())
            client.flush_sync()
            return refs(client)
    """,
    "async with": """
        async def use(client):
            async with client:
                client.capture(event())
            return refs(client)
    """,
    "async with, not awaited": """
        async def use(client):
            async with client:
                return refs(client)
    """,
    "async with, twice": """
        async def use(client):
            for _ in range(2):
                async with client:
                    client.capture(event())
                    await client.flush()
            return refs(client)
    """,
    "lifespan": """
        async def use(client):
            async with client.lifespan():
                client.capture(event())
            return refs(client)
    """,
    "aclose of the bridge": """
        async def use(client):
            client.capture(event())
            await client.flush()
            await client.aclose()
            await client.aclose()
            return refs(client)
    """,
    "aclose inside async with": """
        async def use(client):
            async with client:
                client.capture(event())
                await client.aclose()
            return refs(client)
    """,
    "two loops": """
        def use(client):
            async def serve():
                async with client:
                    client.capture(event())

            asyncio.run(serve())
            asyncio.run(serve())
            return refs(client)
    """,
}


class TestThirtyClients:
    @pytest.mark.parametrize("way", WAYS)
    def test_leave_no_thread_socket_task_nor_themselves(self, way: str, ingest: RecordingIngest) -> None:
        """And no ResourceWarning: stderr stays empty under `-X dev -W error`."""
        is_async = "async def use(" in WAYS[way]
        run = "\n        asyncio.run(use_thirty_here(use))" if is_async else "\n        use_thirty(use)"
        ended = run_script(WAYS[way] + run, ingest.url, before=COUNT)
        assert ended == (0, "[0, 0, 0] 0\n", "")
        unused = "capture" not in WAYS[way]
        per_client = 0 if unused else 2 if "two" in way or "twice" in way else 1
        assert len(ingest.paths) == 2 * 30 * per_client

    def test_at_the_same_time(self, ingest: RecordingIngest) -> None:
        """Thirty bridges at once, and thirty drains in one event loop."""
        script = """
            def bridges():
                clients = [make(batch_size=1, timeout=20) for _ in range(30)]
                for client in clients:
                    client.capture(event())
                for client in clients:
                    client.shutdown()
                return [refs(client) for client in clients]

            async def drains():
                async with contextlib.AsyncExitStack() as stack:
                    clients = [await stack.enter_async_context(make()) for _ in range(30)]
                    for client in clients:
                        client.capture(event())
                return [refs(client) for client in clients]

            import contextlib
            bridges() + asyncio.run(drains())
            before = left()
            for seconds in polls(before, bridges() + asyncio.run(drains())):
                time.sleep(seconds)
        """
        ended = run_script(script, ingest.url, before=COUNT)
        assert ended == (0, "[0, 0, 0] 0\n", "")
        assert len(ingest.paths) == 2 * 60
