"""
The drain: one coroutine that takes batches from the queue and ships them.

Owns the delivery rules (docs/delivery.md): when a POST begins, what happens after its
answer, what a flush and a stop do. It does not know who hosts it: an application's
event loop and the bridge's thread run the same `run()`. Which events exist is the
queue's business, where `run()` runs is the lifecycle's.
"""

from __future__ import annotations

import inspect
import math
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Union

import anyio
from anyio import CancelScope
from anyio.lowlevel import checkpoint

from . import answers, errors
from .answers import Verdict
from .backoff import Backoff
from .flushes import Flush, Flushes, FlushResult
from .loops import Wakeup
from .overflow import Overflow
from .sealing import at_once, seal
from .transport import SendResult
from .wire import Batch

if TYPE_CHECKING:
    from .host import Host
    from .queue import EventQueue
    from .report import Reporter
    from .spool.store import Store
    from .transport import Transport

#: Seconds between the beginnings of two eager POSTs: under load POSTs grow instead of
#: multiplying (a POST costs 1.4 ms of CPU in httpx, whatever its size).
EAGER_SPACING = 0.25
#: Seconds after which encoding a batch lets the event loop serve others.
STEP = 0.001
#: Seconds between two attempts that flushes may force while the drain backs off.
FORCED_SPACING = 1.0
#: Successful POSTs after which a body limit learned from a 413 is doubled.
SUCCESSES_TO_GROW = 10
#: Seconds for closing the connections when the drain ends.
RELEASE_TIMEOUT = 1.0


class Limits(NamedTuple):
    """The sizes and times of the drain, reconciled (docs/configuration.md)."""

    #: Waiting events that trigger a POST before its time.
    eager: int
    #: Seconds between background POSTs.
    flush_interval: float
    #: Most events in one POST.
    max_batch_size: int
    #: Most body bytes in one POST.
    max_batch_bytes: int


class Exporter:
    """
    The delivery rules and their state. One `run()` at a time.

    `clock` gives monotonic seconds and `jitter` numbers in [0, 1): injectable for tests.
    """

    def __init__(
        self,
        queue: EventQueue,
        transport: Transport,
        limits: Limits,
        reporter: Reporter,
        *,
        store: Optional[Store] = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.transport = transport
        self._queue = queue
        self._limits = limits
        self._reporter = reporter
        self._clock = clock
        self._jitter = jitter
        self._overflow = Overflow() if store is None else self._make_overflow(store)
        self.reset()

    def _make_overflow(self, store: Store) -> Overflow:
        from .spool.overflow import SpoolOverflow  # only for a client that has one
        from .spool.spool import Spool

        spool = Spool(store, self._queue, self._reporter, self._seal_for_spool, self._clock)
        return SpoolOverflow(spool, self._queue, self._reporter, self._limits.max_batch_size)

    def reset(self) -> None:
        """Forget every request and delay: a forked child leaves them to its parent."""
        self.backoff = Backoff(self._limits.flush_interval, self._jitter)
        self._flushes = Flushes(self._queue)
        #: The queue position up to which everything goes out now.
        self._target = 0
        self._next_tick = -math.inf
        self._last_post = -math.inf
        self._stop_tried = False
        self._send_scope: Optional[CancelScope] = None
        #: Most body bytes that the ingest is known to take (learned from 413).
        self._body_limit = self._limits.max_batch_bytes
        self._successes = 0
        self._overflow_reported = 0
        #: Whether what is outside of memory goes out now, too.
        self._backlog_turn = False
        self._overflow.reset()

    # -- from any thread ----------------------------------------------------------------

    def request_flush(self) -> Flush:
        """Ask for one attempt at everything captured so far; the caller wakes the host."""
        return self._flushes.request()

    def flush_result(self, request: Flush) -> FlushResult:
        """Return what happened since the flush was asked for."""
        return self._flushes.result(request)

    def end_flushes(self) -> None:
        """Let every waiting flush return: their attempt is over, or nobody will make it."""
        self._flushes.end()

    @property
    def may_hold_more(self) -> bool:
        """Whether events may wait outside of memory, left there by another process."""
        return self._overflow.may_hold_more

    def is_backing_off(self) -> bool:
        """Whether the next POST waits for a failure's delay to pass."""
        return self._clock() < self.backoff.until

    # -- the coroutine ------------------------------------------------------------------

    async def run(self, host: Host) -> None:
        """
        Drain until the host is asked to end.

        Cancelled, it puts the batch in flight back and lets the cancellation pass. No
        answer, no failing transport and no failing hook ends it.
        """
        host.wakeup = wakeup = Wakeup(lambda: self._attend(host))
        # The first tick falls anywhere in one interval, so that processes started together
        # do not knock together; the cadence keeps the phase.
        self._next_tick = self._clock() + self._limits.flush_interval * self._jitter()
        self._stop_tried = False
        self._reporter.report_deferred()
        self._overflow.returned()  # what a lost event loop had in flight
        save = False
        try:
            await self._drain(host, wakeup)
            save = not host.handing_over
        except GeneratorExit:
            # Collected with its event loop: nothing can be awaited, and no lock be taken, as
            # this may interrupt its holder. Whoever finds the host lost takes the events back.
            host.lost = True
            raise
        finally:
            host.wakeup = None
            if not host.is_lost():
                self._queue.requeue()
                self._overflow.returned()
                await self._overflow.end(host, save=save)
                self._report_losses(at_once=True)
                await self._release()

    def save(self) -> None:
        """At interpreter exit: write what could not be delivered to the spool, if there is one."""
        self._overflow.save()

    async def _drain(self, host: Host, wakeup: Wakeup) -> None:
        while not host.handing_over:
            await self._overflow.tend(host, backing_off=self.is_backing_off())
            self._target = max(self._target, self._flushes.accept(may_force=self._may_force()))
            now = self._clock()
            due = self._next_post(host, now)
            if due <= now:
                await self._export_next(host)
                continue
            if host.stop_by < math.inf or (host.retiring and not self._queue.pending):
                return
            self._report_losses()
            if self._arm(now):
                await wakeup.wait(max(0.0, min(due, self._next_tick) - now))
            self._queue.disarm()

    # -- when ---------------------------------------------------------------------------

    def _next_post(self, host: Host, now: float) -> float:
        """Return when the next POST may begin; `now` or earlier is at once, infinity never."""
        limits = self._limits
        backlog = self._overflow.backlog
        pending = self._queue.pending + backlog
        if now >= self._next_tick:
            missed = math.floor((now - self._next_tick) / limits.flush_interval)
            self._next_tick += (missed + 1) * limits.flush_interval
            self._begin_pass()
        if host.stop_by < math.inf:
            over = not pending or self._stop_tried or now >= host.stop_by
            return math.inf if over else now
        if not pending:
            self.end_flushes()  # what they wait for cannot be had now
            return math.inf
        if self._flushes:
            return now
        if now < self.backoff.until:
            return self.backoff.until
        eager_at = self._last_post + EAGER_SPACING
        if (
            self.backoff.failures  # the delay has passed
            or host.retiring
            or pending >= limits.max_batch_size
            or (pending >= limits.eager and now >= eager_at)
        ):
            self._begin_pass()
        if (backlog and self._backlog_turn) or self._queue.snapshot().settled < self._target:
            return now
        return eager_at if pending >= limits.eager else math.inf

    def _may_force(self) -> bool:
        """Whether a flush may cut a back-off short."""
        now = self._clock()
        if now >= self.backoff.until:
            return True
        return not self.backoff.firm and now - self._last_post >= FORCED_SPACING

    def _begin_pass(self) -> None:
        self._target = self._queue.snapshot().captured
        self._backlog_turn = True

    def _arm(self, now: float) -> bool:
        """Set the size at which a capture wakes the drain; False where it is already reached."""
        if now < self.backoff.until:
            self._queue.disarm()  # new captures never cut a back-off short
            threshold = self._overflow.threshold()
            return threshold is None or self._queue.arm(threshold)
        # An eager size that was reached a moment ago waits for its time, or for a full batch.
        spaced = now < self._last_post + EAGER_SPACING and self._queue.pending >= self._limits.eager
        return self._queue.arm(self._limits.max_batch_size if spaced else self._limits.eager)

    def _attend(self, host: Host) -> None:
        """The drain was woken; it may be in the middle of a POST."""
        self._bound_send(host)
        self._overflow.attend(host)

    def _bound_send(self, host: Host) -> None:
        """Let a stop that arrives during a POST bound that POST."""
        scope, wakeup = self._send_scope, host.wakeup
        if scope is not None and wakeup is not None and host.stop_by < math.inf:
            left = max(0.0, host.stop_by - self._clock())
            scope.deadline = min(scope.deadline, wakeup.time() + left)

    # -- one POST -----------------------------------------------------------------------

    async def _export_next(self, host: Host) -> None:
        batch = await self._next_batch(host)
        if batch is None:
            return
        stopping = host.stop_by < math.inf
        self._last_post = self._clock()
        batch.tried = True
        self._overflow.post_begins(host)
        with CancelScope() as scope:
            self._send_scope = scope
            self._bound_send(host)
            try:
                answer = await self._send(batch, inline=host.kind == "thread")
            finally:
                self._send_scope = None
        await self._overflow.post_ended(host)
        if scope.cancelled_caught:
            answer = errors.ExportTimeout("the time for shutting down ran out during a POST")
        if not host.abandoned and not self._settle(batch, answer):
            self.end_flushes()
            self._target = 0
            self._backlog_turn = False
            self._stop_tried = stopping

    async def _next_batch(self, host: Host) -> Optional[Batch]:
        """Move the next batch into flight, no larger than a POST may be; None if none was fit."""
        batch = self._queue.take_sealed()
        if batch is None and self._overflow.backlog:
            batch = await self._overflow.take(host, self._limits.max_batch_size, self._body_limit)
        if batch is None:
            batch = await self._seal(host)
        while len(batch) > 1 and len(batch.body) > self._body_limit:
            batch, rest = batch.halves()
            self._queue.seal(batch, rest)
        if batch and len(batch.body) > self._limits.max_batch_bytes:
            self._drop_too_large(batch, "max_batch_bytes")
            return None
        return batch or None

    async def _seal(self, host: Host) -> Batch:
        """Seal the oldest events for a POST; after a step's time the event loop serves others."""
        steps = seal(
            self._queue, "post", self._limits.max_batch_size, self._body_limit, self._reporter.report
        )
        step_ends = self._clock() + STEP
        while True:
            try:
                next(steps)
            except StopIteration as end:
                batch: Batch = end.value
                return batch
            if self._clock() > step_ends:
                await checkpoint()
                if host.abandoned:  # meanwhile: its events were taken back
                    return Batch([])
                step_ends = self._clock() + STEP

    def _seal_for_spool(self) -> Batch:
        """Do the same at once, in a thread beside the drain, which alone reports."""
        limits = self._limits
        return at_once(
            seal(self._queue, "spool", limits.max_batch_size, limits.max_batch_bytes, self._reporter.defer)
        )

    async def _send(self, batch: Batch, *, inline: bool) -> Union[SendResult, errors.ExportError]:
        """Call the transport once, whatever kind of function its `send` is."""
        send = self.transport.send
        blocking = getattr(self.transport, "blocking", True) and not inspect.iscoroutinefunction(send)
        answer: Any  # whatever a custom transport returns
        try:
            if blocking and not inline:
                answer = await anyio.to_thread.run_sync(send, batch, abandon_on_cancel=True)
            else:
                answer = send(batch)
            if inspect.isawaitable(answer):
                answer = await answer
        except errors.ExportError as err:
            # Without the frames, whose locals hold the request and so the key.
            return err.with_traceback(None)
        except Exception as err:  # noqa: BLE001 - a custom transport is the user's own code
            # By its type only: the text may quote request headers.
            message = f"{type(self.transport).__name__}.send raised {type(err).__name__}"
            failure = errors.TransportError(message)
            failure.__cause__ = err
            return failure
        if not isinstance(answer, SendResult):
            name = type(self.transport).__name__
            return errors.TransportError(f"{name}.send returned {type(answer).__name__}, not SendResult")
        return answer

    # -- after the answer ---------------------------------------------------------------

    def _settle(self, batch: Batch, answer: Union[SendResult, errors.ExportError]) -> bool:
        """Do what the answer asks for; False where it ends the present pass."""
        if not isinstance(answer, SendResult):
            return self._retry_later(answer, None)
        verdict = answers.judge(answer)
        if verdict is Verdict.RETRY:
            return self._retry_later(answers.unavailable(answer), answer.retry_after)
        if verdict is Verdict.DELIVERED:
            self._queue.settle_delivered()
            self._reporter.delivered()
            self._overflow.delivered(batch)
            self.backoff.reset()
            self._grow()
            return True
        if verdict is Verdict.SPLIT:
            self._shrink(batch)
            return True
        error = answers.rejected(answer, len(batch))
        self._queue.settle_dropped(error.reason)
        self._overflow.refused(batch, f"HTTP {answer.status}")
        if verdict is Verdict.DROP_AND_WAIT:
            self.backoff.fail(self._clock())
        self._reporter.report(error)
        return verdict is Verdict.DROP

    def _retry_later(self, error: errors.ExportError, retry_after: Optional[float]) -> bool:
        self._queue.requeue()
        self._overflow.returned()
        self.backoff.fail(self._clock(), retry_after)
        self._reporter.report(error)
        return False

    def _shrink(self, batch: Batch) -> None:
        """After a 413: learn the smaller size and send the batch again in halves."""
        self._successes = 0
        if len(batch) == 1:
            self._drop_too_large(batch, "what the ingest takes (413)")
            return
        first, rest = batch.halves()
        self._body_limit = max(len(first.body), len(rest.body))
        if not batch.is_spooled:  # else it lies in the spool, which halves it when it is taken again
            self._queue.seal(first, rest)
        self._queue.requeue()
        self._overflow.returned()

    def _grow(self) -> None:
        if self._body_limit >= self._limits.max_batch_bytes:
            return
        self._successes += 1
        if self._successes >= SUCCESSES_TO_GROW:
            self._successes = 0
            self._body_limit = min(2 * self._body_limit, self._limits.max_batch_bytes)

    def _drop_too_large(self, batch: Batch, limit: str) -> None:
        self._queue.settle_dropped(errors.EventTooLarge.reason)
        self._overflow.refused(batch, "too large")
        message = f"dropped {{count}} event(s) whose body alone is larger than {limit}"
        self._reporter.report(errors.EventTooLarge(message, count=1))

    def _report_losses(self, *, at_once: bool = False) -> None:
        """Report what a full buffer cost, and what the reporter kept back of other losses."""
        lost = self._queue.dropped.get(errors.BufferFull.reason, 0) - self._overflow_reported
        if lost:
            self._overflow_reported += lost
            message = "the buffer was full: dropped the {count} oldest event(s)"
            self._reporter.report(errors.BufferFull(message, count=lost))
        self._reporter.report_losses(at_once=at_once)

    async def _release(self) -> None:
        """Let the transport close what is bound to this event loop."""
        release = getattr(self.transport, "release", None)
        if release is not None:
            # A custom transport is the user's own code.
            with suppress(Exception), anyio.move_on_after(RELEASE_TIMEOUT, shield=True):
                await release()
