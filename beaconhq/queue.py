"""
The bounded queue between the request path and the drain, and the ledger of every event.

`EventQueue` owns all event state: what waits, the sealed batches at its head, what is
in flight, and the counts of what left. So the sum

    captured = delivered + dropped + in flight + pending

holds at any moment by construction: `captured` is derived, never counted.

`put` is the request path: one append to a deque, which the interpreter makes atomic.
It takes no lock, so it may interrupt anything here in the same thread (a signal
handler, a `__del__`). Everything else is done once per batch, under the lock.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, cast

from .native import Lock

if TYPE_CHECKING:
    from typing import Callable, Deque, List, Union

    from .wire import Batch

    InFlight = Union[List[object], Batch]

#: Events by which the deque may exceed its capacity before a `put` trims it. Trimming in
#: steps keeps a full `put` as cheap as any other (measured: 102 ns against 98 ns).
#: Every reader trims first, so nobody sees the excess.
SLACK = 128


class EventQueue:
    """
    Bounded, thread-safe FIFO of captured events with sealed batches at its head.

    `capacity` is in events and covers sealed and loose ones; past it the oldest are
    dropped and counted under "buffer_full". `on_attention` is called by `put` when the
    armed threshold is reached or the capacity exceeded; it must neither block nor raise.
    """

    def __init__(self, capacity: int, on_attention: Callable[[], None]) -> None:
        self.capacity = capacity
        self._on_attention = on_attention
        self._events: Deque[object] = deque()
        self.reset()

    def reset(self, keep: int = 0) -> None:
        """
        Forget everything, locks included: a forked child's events are its parent's.

        All but the `keep` newest events, that is.
        """
        self._lock = Lock()
        self._events = deque(tuple(self._events)[-keep:] if keep else ())
        self._append = self._events.append
        self._sealed: Deque[Batch] = deque()
        self._in_flight: InFlight = []
        self._attention = self.capacity + SLACK
        #: Events answered with a 2xx.
        self.delivered = 0
        #: Events that went back to the queue after a failed POST, counted each time.
        self.requeued = 0
        #: Lost events by reason (the `reason` of `errors.EventsDropped`).
        self.dropped: dict[str, int] = {}

    # -- the request path ---------------------------------------------------------------

    def put(self, event: object) -> None:
        """Append an event. Any thread, any signal handler; never blocks, never raises."""
        self._append(event)
        if len(self._events) >= self._attention:
            self._on_attention()

    def trim(self) -> None:
        """Drop the oldest events past the capacity; does nothing where someone else is at it."""
        lock = self._lock  # a fork in here gives the child another
        if lock.acquire(False):
            try:
                self._drop_excess()
            finally:
                lock.release()

    def discard(self, reason: str) -> int:
        """Drop everything that waits, under `reason`; 0 where someone else holds the lock."""
        lock = self._lock
        if not lock.acquire(False):
            return 0
        try:
            count = self._pending()
            self._sealed.clear()
            for _ in range(len(self._events)):
                self._events.popleft()
            self._count_dropped(reason, count)
            return count
        finally:
            lock.release()

    # -- waking the drain ---------------------------------------------------------------

    def arm(self, threshold: int) -> bool:
        """
        Ask for attention when `threshold` loose events wait; False if they already do.

        The threshold is set before the look, as `put` appends before its look: of two
        that race, one sees the other.
        """
        self._attention = min(threshold, self.capacity + SLACK)
        return len(self._events) < threshold

    def disarm(self) -> None:
        """Ask for attention only where the capacity is exceeded."""
        self._attention = self.capacity + SLACK

    @property
    def armed(self) -> bool:
        """Whether a threshold below the capacity is set."""
        return self._attention < self.capacity + SLACK

    # -- the drain ----------------------------------------------------------------------

    def take_sealed(self) -> Batch | None:
        """Move the oldest sealed batch into flight."""
        with self._lock:
            self._drop_excess()
            if not self._sealed:
                return None
            batch = self._sealed.popleft()
            self._in_flight = batch
            return batch

    def take(self, most: int) -> list[object]:
        """Move up to `most` of the oldest loose events into flight."""
        with self._lock:
            self._drop_excess()
            events = [self._events.popleft() for _ in range(min(most, len(self._events)))]
            self._in_flight = events
            return events

    def keep_first(self, count: int) -> None:
        """Put all but the first `count` of the loose events in flight back at the head."""
        with self._lock:
            self._events.extendleft(reversed(self._in_flight[count:]))
            self._in_flight = list(self._in_flight[:count])

    def seal(self, batch: Batch, rest: Batch | None = None) -> None:
        """
        Put `batch` in the place of what is in flight, and `rest` back at the head.

        What is in neither of them was invalid.
        """
        with self._lock:
            kept = len(batch) + (len(rest) if rest is not None else 0)
            self._count_dropped("invalid", len(self._in_flight) - kept)
            self._in_flight = batch
            if rest is not None:
                self._sealed.appendleft(rest)

    def settle_delivered(self) -> int:
        """Count what is in flight as delivered; returns how many events that were."""
        with self._lock:
            count = len(self._in_flight)
            self._in_flight = []
            self.delivered += count
            return count

    def settle_dropped(self, reason: str) -> int:
        """Count what is in flight as lost; returns how many events that were."""
        with self._lock:
            count = len(self._in_flight)
            self._in_flight = []
            self._count_dropped(reason, count)
            return count

    def requeue(self) -> int:
        """
        Put what is in flight back at the head, in order; returns how many events that were.

        A batch stays sealed, so that it goes again under its key. Idempotent: with
        nothing in flight it does nothing.
        """
        with self._lock:
            in_flight, self._in_flight = self._in_flight, []
            if hasattr(in_flight, "idempotency_key"):
                self._sealed.appendleft(cast("Batch", in_flight))
            else:
                self._events.extendleft(reversed(in_flight))
            self.requeued += len(in_flight)
            self._drop_excess()
            return len(in_flight)

    # -- looking ------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Events that wait, sealed ones included."""
        with self._lock:
            self._drop_excess()
            return self._pending()

    @property
    def in_flight(self) -> int:
        """Events in the POST that is under way."""
        return len(self._in_flight)

    def position(self) -> tuple[int, int]:
        """
        Return (settled, captured), in events since the start.

        Everything captured before a moment has left when `settled` reaches the
        `captured` of that moment: the queue is first in, first out.
        """
        with self._lock:
            self._drop_excess()
            settled = self.delivered + sum(self.dropped.values())
            return settled, settled + len(self._in_flight) + self._pending()

    def snapshot(self) -> tuple[int, dict[str, int], int, int, int]:
        """Return (delivered, dropped, requeued, in flight, pending) of one moment."""
        with self._lock:
            self._drop_excess()
            return self.delivered, dict(self.dropped), self.requeued, len(self._in_flight), self._pending()

    def oldest(self) -> object | None:
        """Return the oldest pending event (a payload where it is sealed), or None."""
        with self._lock:
            if self._sealed:
                return self._sealed[0][0]
            return self._events[0] if self._events else None

    # -- under the lock -----------------------------------------------------------------

    def _pending(self) -> int:
        return sum(map(len, self._sealed)) + len(self._events)

    def _count_dropped(self, reason: str, count: int) -> None:
        if count:
            self.dropped[reason] = self.dropped.get(reason, 0) + count

    def _drop_excess(self) -> None:
        excess = self._pending() - self.capacity
        if excess <= 0:
            return
        self._count_dropped("buffer_full", excess)
        while excess and self._sealed:
            oldest = self._sealed.popleft()
            if len(oldest) > excess:
                self._sealed.appendleft(oldest.without_oldest(excess))
            excess -= min(excess, len(oldest))
        popleft = self._events.popleft
        for _ in range(excess):
            popleft()
