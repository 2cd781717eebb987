"""Both hosts of the drain: what is parametrized by them holds in an event loop and in the bridge's thread."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, AsyncIterator, Callable

import anyio

if TYPE_CHECKING:
    from beaconhq import BeaconClient

HOSTS = ["event_loop", "thread"]


@asynccontextmanager
async def hosted(client: BeaconClient, host: str) -> AsyncIterator[BeaconClient]:
    """Let the wanted host drain the client inside this block."""
    if host == "event_loop":
        async with client:
            yield client
    else:
        yield client
        await client.aclose()


async def until(condition: Callable[[], bool], timeout: float = 30) -> None:
    """Poll until `condition` holds, at most `timeout` seconds."""
    with anyio.fail_after(timeout):
        while not condition():
            await asyncio.sleep(0.005)


async def deliver_all(client: BeaconClient) -> None:
    """Flush until nothing is pending: a back-off may have to pass first."""
    for _ in range(60):
        if (await client.flush()).pending == 0:
            return
        await asyncio.sleep(0.5)
    raise AssertionError(client.stats())
