"""
Flushes that wait: who asked, for what, and when they may return.

Owns the waiting requests of one exporter. Asked for from any thread; everything else is
the drain's.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Deque, List, NamedTuple

from .loops import new_future

if TYPE_CHECKING:
    from .queue import EventQueue


class FlushResult(NamedTuple):
    """What became of the events while a flush ran (counts of events)."""

    #: Answered with a 2xx.
    delivered: int
    #: Lost, for whatever reason.
    dropped: int
    #: Still waiting or under way when the flush returned.
    pending: int


class Flush:
    """A request to try everything up to the queue position `mark`, once."""

    def __init__(self, mark: int, delivered: int, dropped: int) -> None:
        self.mark = mark
        self.delivered = delivered
        self.dropped = dropped
        self.done = new_future()


class Flushes:
    """The requests that wait for an attempt."""

    def __init__(self, queue: EventQueue) -> None:
        self._queue = queue
        self._inbox: Deque[Flush] = deque()
        self._waiting: List[Flush] = []

    def __bool__(self) -> bool:
        """Whether a request was accepted and waits."""
        return bool(self._waiting)

    def request(self) -> Flush:
        """Ask for one attempt at everything captured so far."""
        now = self._queue.snapshot()
        flush = Flush(now.captured, now.delivered, sum(now.dropped.values()))
        self._inbox.append(flush)
        return flush

    def result(self, flush: Flush) -> FlushResult:
        """Return what happened since a flush was asked for."""
        now = self._queue.snapshot()
        dropped = sum(now.dropped.values()) - flush.dropped
        pending = now.in_flight + now.pending + now.spooled
        return FlushResult(now.delivered - flush.delivered, dropped, pending)

    def accept(self, *, may_force: bool) -> int:
        """
        Take in what was asked for, and let go of what has had its attempt.

        Returns the furthest position that is waited for. Requests that may not force an
        attempt now return at once.
        """
        while self._inbox:
            flush = self._inbox.popleft()
            if may_force:
                self._waiting.append(flush)
            else:
                flush.done.set_result(None)
        settled = self._queue.snapshot().settled
        for flush in [flush for flush in self._waiting if flush.mark <= settled]:
            self._waiting.remove(flush)
            flush.done.set_result(None)
        return max((flush.mark for flush in self._waiting), default=0)

    def end(self) -> None:
        """Let every request return: their attempt is over, or nobody will make it."""
        waiting, self._waiting = self._waiting, []
        while self._inbox:
            waiting.append(self._inbox.popleft())
        for flush in waiting:
            if not flush.done.done():
                flush.done.set_result(None)
