"""
An asyncio loop whose clock only moves when nothing is left to do.

An hour of back-off passes in milliseconds, and to the millisecond; the code under test
runs unchanged on anyio.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, Callable, Coroutine, List, Optional, Tuple, TypeVar

if TYPE_CHECKING:
    from selectors import SelectorKey

T = TypeVar("T")


class _VirtualSelector(selectors.DefaultSelector):
    """Returns at once and moves the clock by the time that it would have waited."""

    def __init__(self, now: float) -> None:
        super().__init__()
        self.now = now

    def select(self, timeout: Optional[float] = None) -> List[Tuple[SelectorKey, int]]:
        ready: List[Tuple[SelectorKey, int]] = super().select(0)
        if not ready and timeout is None:
            # Only another thread could go on from here.
            ready = super().select(5)
            assert ready, "nothing is scheduled: the code under test waits for ever"
        if not ready and timeout is not None:
            self.now += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, now: float = 1000.0) -> None:
        self._virtual = _VirtualSelector(now)
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run_virtual(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end in virtual time."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main())
    finally:
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        if pending:
            loop.run_until_complete(asyncio.wait(pending))
        loop.close()
