"""
The spool, as the drain sees it: events go there when memory is no place for them.

Owns the policy: what moves from the queue to the store and back, who the owner is, what a
failing store costs (nothing: events stay in memory), and that every loss there is counted.
What has to be reported is left to the drain, which alone calls `on_error`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Tuple, Type, TypeVar

from .. import errors
from ..native import Lock
from .database import StoreDamaged, StoreUnavailable, translated
from .folder import new_owner
from .store import DAMAGED, EXPIRED, FULL

if TYPE_CHECKING:
    from ..queue import EventQueue
    from ..report import Reporter
    from ..wire import Batch
    from . import folder
    from .store import Lost, Session, Store

T = TypeVar("T")

#: Seconds between two looks for batches of owners that have died, and for batches too old.
UPKEEP_INTERVAL = 30.0
#: Seconds for which a store that failed is left alone.
PAUSE = 60.0
_LOSSES: Dict[str, Tuple[Type[errors.EventsDropped], str]] = {
    FULL: (errors.SpoolFull, "the spool was full (spool_max_bytes): dropped its {count} oldest event(s)"),
    EXPIRED: (errors.SpoolExpired, "dropped {count} event(s) that lay in the spool too long (spool_max_age)"),
    DAMAGED: (errors.SpoolDamaged, "the spool was damaged: {count} event(s) in it cannot be read any more"),
}


class Spool:
    """
    Moves batches between a queue and a store.

    `seal` takes loose events out of the queue and makes a batch of them, as the drain does
    for a POST. `clock` gives monotonic seconds. The methods under "blocking" may be called
    from any thread that no application's event loop runs in; the others cost nothing.
    """

    def __init__(
        self,
        store: Store,
        queue: EventQueue,
        reporter: Reporter,
        seal: Callable[[], Batch],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._queue = queue
        self._reporter = reporter
        self._seal = seal
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Start afresh as another owner: a forked child's batches are its own."""
        self._lock = Lock()
        self._owner = new_owner()
        self._claim: Optional[folder.Lock] = None
        #: Events in the store that are this owner's to deliver, the batch in flight included.
        self._held = 0
        #: The batch in flight, where it is a spooled one.
        self._in_flight: Optional[Batch] = None
        self._delivered: List[str] = []
        self._refused: List[Tuple[str, str]] = []
        self._paused_until = -math.inf
        self._upkeep_due = -math.inf
        self._trouble = ""

    def after_fork_in_child(self) -> None:
        """Leave the claim to the parent, and start afresh."""
        if self._claim is not None:
            self._claim.abandon()
        self.reset()

    # -- facts --------------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """Whether the store may be asked; not for a while after it failed."""
        return self._clock() >= self._paused_until

    @property
    def backlog(self) -> int:
        """How many events wait in the store for this process."""
        return self._held - (len(self._in_flight) if self._in_flight is not None else 0)

    @property
    def may_hold_more(self) -> bool:
        """Whether anything was ever spooled here, by whatever process."""
        return self._store.partition.exists()

    @property
    def upkeep_due(self) -> bool:
        """Whether it is time for `keep_up`."""
        return self._clock() >= self._upkeep_due and self.is_usable

    # -- what became of the batch in flight ---------------------------------------------

    def note_delivered(self, batch: Batch) -> None:
        """It was answered with a 2xx: it leaves the store with the next session."""
        self._let_go(batch)
        self._delivered.append(batch.idempotency_key)

    def note_refused(self, batch: Batch, why: str) -> None:
        """The ingest refused it for good: it is kept, out of the way, until a bound removes it."""
        self._let_go(batch)
        self._refused.append((batch.idempotency_key, why))

    def note_returned(self) -> None:
        """It is to go again, or is no longer in flight at all."""
        self._in_flight = None

    def _let_go(self, batch: Batch) -> None:
        self._in_flight = None
        self._held -= len(batch)

    # -- blocking -----------------------------------------------------------------------

    def keep_up(self) -> None:
        """Take over the batches of owners that died, let go of those too old, count what was lost."""
        with self._lock:
            self._upkeep_due = self._clock() + UPKEEP_INTERVAL
            if not self.may_hold_more:
                self._expect(0)
            elif self._claim is None or self._held or self._guard(self._someone_died):
                self._use(self._keep_up)

    def spill(self, leave: int = 0) -> None:
        """Write what waits in memory, oldest first, until at most `leave` events do."""
        with self._lock:
            excess = self._queue.pending - leave
            if excess > 0:
                self._use(lambda session: self._spill(session, excess))

    def take(self, most_events: int, most_bytes: int) -> Optional[Batch]:
        """Move the oldest batch into flight; None where there is none, or the store fails."""
        with self._lock:
            return self._use(lambda session: self._take(session, most_events, most_bytes))

    def close(self) -> None:
        """End the ownership: what is left is for whoever opens the folder next."""
        with self._lock:
            if self._claim is None:
                return
            if self._delivered or self._refused:
                self._use(lambda _: None)  # to settle them
            claim, self._claim = self._claim, None
            claim.release(forget=not self._held)
            self._held = 0
            self._upkeep_due = -math.inf

    # -- under the lock -----------------------------------------------------------------

    def _use(self, work: Callable[[Session], T]) -> Optional[T]:
        """Do something with the store; where it fails, None, and everything is where it was."""
        try:
            return self._guard(lambda: self._within_session(work))
        finally:
            self._queue.requeue("spool")

    def _within_session(self, work: Callable[[Session], T]) -> T:
        with self._store.session(self._in_flight) as session:
            session.settle(self._delivered, self._refused)
            self._delivered, self._refused = [], []
            if self._claim is None:
                self._claim = self._store.partition.lock(self._owner)
                self._keep_up(session)
            return work(session)

    def _guard(self, work: Callable[[], T]) -> Optional[T]:
        """Do something with the folder; a failure is reported once, and the folder left alone for a while."""
        try:
            with translated():
                done = work()
        except StoreUnavailable as error:
            self._fail(f"the spool cannot be used; events stay in memory: {error}")
            return None
        except StoreDamaged as error:
            self._set_aside(str(error))
            return None
        self._trouble = ""
        return done

    def _keep_up(self, session: Session) -> None:
        for owner in {*session.owners(), *self._store.partition.owners()} - {self._owner}:
            self._adopt(session, owner)
        self._count(session.count_lost(self._owner))
        self._expect(session.held_by(self._owner))

    def _adopt(self, session: Session, owner: str) -> None:
        lock = self._store.partition.lock(owner)
        if lock is None:
            return  # alive
        events = session.adopt(self._owner, owner)
        lock.release(forget=True)
        self._queue.recover(events)
        self._held += events

    def _someone_died(self) -> bool:
        """Whether another owner has died, found out without opening the database."""
        partition = self._store.partition
        return not all(map(partition.is_alive, partition.owners() - {self._owner}))

    def _spill(self, session: Session, excess: int) -> None:
        while excess > 0:
            batch = self._queue.take_sealed("spool") or self._seal()
            if not batch:
                if not self._queue.pending:
                    return
                continue  # nothing in it was fit to be sent
            lost = session.append(self._owner, batch)
            self._held += len(batch)
            excess -= self._queue.settle_spooled()
            self._count(lost)

    def _take(self, session: Session, most_events: int, most_bytes: int) -> Optional[Batch]:
        batch = session.take(self._owner, most_events, most_bytes)
        if batch is None:
            self._count(session.count_lost(self._owner))
            self._expect(session.held_by(self._owner))
            return None
        self._in_flight = batch
        self._queue.take_spooled(batch)
        return batch

    def _expect(self, held: int) -> None:
        """Learn how many events the store holds; those that are missing were in a file that is gone."""
        if self._in_flight is None:  # else its row may be gone already, and itself not lost
            if self._held > held:
                self._lose(DAMAGED, self._held - held)
            self._held = held

    def _count(self, lost: List[Lost]) -> None:
        for reason, events in lost:
            self._lose(reason, events)
            self._held -= events

    def _lose(self, reason: str, events: int) -> None:
        self._queue.lose_spooled(reason, events)
        error, message = _LOSSES[reason]
        self._reporter.defer(error(message, count=events))

    def _set_aside(self, damage: str) -> None:
        """Rename a damaged file; the next session makes a new one."""
        try:
            was_damaged = self._store.set_aside_if_damaged()
        except StoreUnavailable as error:
            self._fail(f"the spool is damaged ({damage}) and cannot be set aside: {error}")
            return
        if not was_damaged:  # or another process was first
            self._fail(f"the spool cannot be used; events stay in memory: {damage}")
            return
        self._report(f"the spool was damaged ({damage}); it is set aside as damaged.db, a new one begins")
        self._delivered, self._refused = [], []
        if self.backlog:
            self._lose(DAMAGED, self.backlog)
            self._held -= self.backlog

    def _fail(self, trouble: str) -> None:
        self._paused_until = self._clock() + PAUSE
        self._report(trouble)

    def _report(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._reporter.defer(errors.SpoolUnavailable(trouble))
