"""The exporter alone, in virtual time, with nothing but a queue and a transport."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Awaitable, Callable, List

from beaconhq.exporter import Exporter, Limits
from beaconhq.host import Host
from beaconhq.queue import EventQueue
from beaconhq.report import Reporter

from .events import event
from .virtual_time import run_virtual

if TYPE_CHECKING:
    from beaconhq.transport import Transport

    from .transports import ScriptedTransport


class Rig:
    """An exporter in a virtual loop, and the hands of its lifecycle."""

    def __init__(
        self,
        transport: Transport,
        *,
        eager: int = 100,
        flush_interval: float = 5.0,
        max_batch_size: int = 1000,
        max_batch_bytes: int = 1 << 20,
        capacity: int = 10_000,
        jitter: float = 0.5,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.clock = loop.time
        self.start = loop.time()
        self.reported: List[BaseException] = []
        self.queue = EventQueue(capacity, self._attend)
        limits = Limits(eager, flush_interval, max_batch_size, max_batch_bytes)
        reporter = Reporter(self.reported.append, clock=loop.time)
        self.exporter = Exporter(
            self.queue, transport, limits, reporter, clock=loop.time, jitter=lambda: jitter
        )
        self.host = Host("event_loop", loop)
        self.task = loop.create_task(self.exporter.run(self.host))

    def _attend(self) -> None:
        self.queue.trim()
        if self.queue.armed:
            self.queue.disarm()
            self.host.wake()

    def capture(self, count: int, start: int = 0, **fields: Any) -> None:
        for number in range(start, start + count):
            self.queue.put(event(number, **fields))

    async def flush(self) -> tuple[int, int, int]:
        request = self.exporter.request_flush()
        self.host.wake()
        await asyncio.wrap_future(request.done)
        return self.exporter.flush_result(request)

    async def stop(self, timeout: float = 5.0) -> None:
        self.host.stop(self.clock() + timeout)
        await self.task

    async def at(self, seconds: float) -> None:
        """Go on until `seconds` after the start."""
        await asyncio.sleep(self.start + seconds - self.clock())

    def times(self, transport: ScriptedTransport) -> List[float]:
        return [round(attempt.at - self.start, 3) for attempt in transport.attempts]

    def types(self) -> List[str]:
        return [type(error).__name__ for error in self.reported]


def virtual(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run a coroutine test in virtual time."""

    def run() -> None:
        run_virtual(test)  # type: ignore[arg-type]

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
