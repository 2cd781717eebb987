"""
The spool within a run of the drain: off the application's loop, beside a POST, at the end.

Owns when the spool is asked and in which thread; what happens there is `spool.py`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Optional, TypeVar

from anyio import CancelScope

from ..loops import run_in_thread, start_in_thread, wait_for
from ..overflow import Overflow

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..host import Host
    from ..queue import EventQueue
    from ..report import Reporter
    from ..wire import Batch
    from .spool import Spool

T = TypeVar("T")

#: Name of the threads that write.
THREAD = "beaconhq-spool"


class SpoolOverflow(Overflow):
    """
    Writes to the spool while the drain backs off, while a POST lasts too long, and at the end.

    In a POST the oldest events move when three quarters of the buffer are taken, until half
    of it is; in a back-off everything does, at every tick and whenever `most_events` wait.
    """

    def __init__(self, spool: Spool, queue: EventQueue, reporter: Reporter, most_events: int) -> None:
        self._spool = spool
        self._queue = queue
        self._reporter = reporter
        self._high = max(1, queue.capacity * 3 // 4)
        self._low = queue.capacity // 2
        self._most_events = min(most_events, self._high)
        self._in_post = False
        #: A write beside the POST that is under way.
        self._writing: Optional[Future[None]] = None

    @property
    def backlog(self) -> int:
        """How many events wait in the spool, unless it is left alone after a failure."""
        return self._spool.backlog if self._spool.is_usable else 0

    @property
    def may_hold_more(self) -> bool:
        """Whether anything was ever spooled here."""
        return self._spool.may_hold_more

    def threshold(self) -> Optional[int]:
        """How many waiting events are to wake a drain that backs off."""
        return self._most_events if self._spool.is_usable else None

    async def tend(self, host: Host, *, backing_off: bool) -> None:
        """Look after the spool where that is due; in a back-off write everything to it."""
        if self._spool.upkeep_due:
            await self._run(host, self._spool.keep_up)
        if backing_off and self._spool.is_usable and self._queue.pending:
            await self._run(host, self._spool.spill)

    async def take(self, host: Host, most_events: int, most_bytes: int) -> Optional[Batch]:
        """Move the oldest batch of the spool into flight."""
        return await self._run(host, lambda: self._spool.take(most_events, most_bytes))

    # -- beside a POST ------------------------------------------------------------------

    def post_begins(self, host: Host) -> None:
        """Wake the drain if memory fills up during the POST."""
        self._in_post = True
        self.attend(host)

    def attend(self, host: Host) -> None:
        """In a POST, write the oldest events where memory has filled up."""
        if not self._in_post or not self._spool.is_usable:
            return
        if self._writing is not None and not self._writing.done():
            return  # it looks again when it is through
        if self._queue.arm(self._high):
            return
        if host.kind == "thread":  # the bridge's loop: nobody else waits in it
            self._spool.spill(self._low)
            self._queue.arm(self._high)
        else:
            self._writing = start_in_thread(lambda: self._spool.spill(self._low), THREAD)
            self._writing.add_done_callback(lambda _: host.wake())  # to look again

    async def post_ended(self, host: Host) -> None:  # noqa: ARG002
        """Wait for a write that began beside the POST."""
        self._in_post = False
        writing, self._writing = self._writing, None
        if writing is not None:
            with CancelScope(shield=True):  # a batch is on its way to the disk
                await wait_for(writing, None)
        self._reporter.report_deferred()

    def delivered(self, batch: Batch) -> None:
        """Let a spooled batch go."""
        if batch.is_spooled:
            self._spool.note_delivered(batch)

    def refused(self, batch: Batch, why: str) -> None:
        """Put a spooled batch out of the way."""
        if batch.is_spooled:
            self._spool.note_refused(batch, why)

    def returned(self) -> None:
        """Keep it, for the next attempt."""
        self._spool.note_returned()

    # -- the end ------------------------------------------------------------------------

    async def end(self, host: Host, *, save: bool) -> None:
        """Write what waits, and let other processes have what lies there."""
        if save and self._queue.pending:
            await self._run(host, self._spool.spill)
        await self._run(host, self._spool.close)

    def save(self) -> None:
        """Do so at interpreter exit, blocking."""
        if self._queue.pending:
            self._spool.spill()
        self._spool.close()
        self._reporter.report_deferred()

    def reset(self) -> None:
        """In a forked child: start afresh, with a claim of its own."""
        self._in_post = False
        self._writing = None
        self._spool.after_fork_in_child()

    # -- threads ------------------------------------------------------------------------

    async def _run(self, host: Host, work: Callable[[], T]) -> Optional[T]:
        """Do something blocking, to its end: here where no application's loop would stall."""
        done: list[T] = []
        if host.kind == "thread":
            done.append(work())
        else:
            with CancelScope(shield=True):
                await run_in_thread(lambda: done.append(work()), THREAD)
        self._reporter.report_deferred()
        return done[0] if done else None
