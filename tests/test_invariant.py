"""
The invariant: captured = delivered + dropped (by reason) + in flight + pending. At every await.

A state machine drives one exporter with an injected clock and transport through captures,
poison, answers of every kind, flushes, cancellations, stops, hand-overs, interrupts and
closed loops, in any order. The model knows what the ingest stored and what it answered;
nothing that the queue says about itself is taken on trust.

The mutants at the end show that it finds what it is there for.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter, deque
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Coroutine,
    Deque,
    Dict,
    Generator,
    List,
    NamedTuple,
    Optional,
    Set,
)

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.events import event, numbers
from support.transports import answer
from support.virtual_time import VirtualLoop

from beaconhq import errors
from beaconhq.backoff import SHORTEST
from beaconhq.exporter import Exporter, Limits
from beaconhq.host import Host
from beaconhq.loops import wait_for
from beaconhq.queue import SLACK, EventQueue
from beaconhq.report import Reporter
from beaconhq.wire import Batch

if TYPE_CHECKING:
    from beaconhq.queue import Taker

LIMITS = Limits(eager=4, flush_interval=5.0, max_batch_size=7, max_batch_bytes=1500)
CAPACITY = 25
#: Lengths of paths: many fit into a POST, two do not, one does not.
PATHS = (12, 700, 2000)


class Poison:
    """What is no event, but can be told apart."""

    def __init__(self, number: int) -> None:
        self.number = number

    def to_payload(self) -> Dict[str, Any]:
        raise RuntimeError("poison")


class Outcome(NamedTuple):
    """What becomes of one POST: (virtual) seconds until it is stored or not, and from then to the answer."""

    kind: str
    before: float
    after: float


#: Answers by kind; the exceptions are raised. A kind with "stored" is stored, but the answer is lost.
ANSWERS: Dict[str, Any] = {
    "ok": answer(202),
    "stored, then network": errors.NetworkError("reset"),
    "stored, then timeout": errors.ExportTimeout("late"),
    "stored, then 503": answer(503),
    "stored, then interrupt": KeyboardInterrupt(),
    "network": errors.NetworkError("refused"),
    "bug": RuntimeError("a transport's own"),
    "junk": "no SendResult",
    "no answer": answer(0),
    "interrupt": KeyboardInterrupt(),
    "exit": SystemExit(),
    **{str(status): answer(status) for status in (301, 400, 401, 408, 413, 422, 500)},
    "429": answer(429, retry_after=7.0),
    "503": answer(503, retry_after=1000.0),
}
REFUSED = {"301": "redirect", "400": "rejected", "401": "rejected", "422": "rejected"}
MOMENTS = st.sampled_from([0.0, 0.0, 0.1, 3.0, 100.0])
#: The usual ones, and those that lead furthest, more often.
KINDS = [*sorted(ANSWERS), *4 * ["413"], *3 * ["429"], *3 * ["ok"]]
OUTCOMES = st.builds(Outcome, st.sampled_from(KINDS), MOMENTS, MOMENTS)
OK = Outcome("ok", 0.0, 0.0)


class Watched:
    """Awaits a coroutine and calls `look` wherever it is suspended."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], look: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._look = look

    def __await__(self) -> Generator[Any, Any, None]:
        step: Callable[[], Any] = partial(self._coroutine.send, None)
        while True:
            try:
                waited_for = step()
            except StopIteration:
                return
            finally:
                self._look()
            try:
                step = partial(self._coroutine.send, (yield waited_for))
            except GeneratorExit:
                self._coroutine.close()
                raise
            except BaseException as thrown:  # noqa: BLE001 - handed on
                step = partial(self._coroutine.throw, thrown)


class Ingest:
    """The other side, as a transport: it stores or does not, and its answer arrives or does not."""

    def __init__(self, machine: Delivery) -> None:
        self._machine = machine
        self.script: Deque[Outcome] = deque()
        #: Every set of events that was ever sent, by its key, in the order of the first attempt.
        self.sent: Dict[str, List[int]] = {}
        #: The keys of what is stored, in order.
        self.stored: List[str] = []
        #: Stored, and the client cannot know it.
        self.unanswered: Set[str] = set()
        #: Events whose 2xx arrived, in order.
        self.confirmed: List[int] = []
        self.refused: Counter[str] = Counter()
        #: Nothing unforced may come before; nor may what a flush forces, where that is firm.
        self.not_before = -math.inf
        self.firm = False
        self._busy = False

    async def send(self, events: Batch) -> Any:
        self._machine.look()
        key, ids = events.idempotency_key, numbers(events)
        with self._machine.noting():
            self._check(events, key, ids)
        self.sent.setdefault(key, ids)
        kind, before, after = self.script.popleft() if self.script else OK
        self._busy = True
        try:
            await asyncio.sleep(before)
            if kind == "ok" or kind.startswith("stored"):
                self.unanswered.add(key)
                self.stored += [key] if key not in self.stored else []
            await asyncio.sleep(after)
        finally:
            self._busy = False
        if "interrupt" not in kind and kind != "exit":
            self._note_pace(kind)
        if isinstance(ANSWERS[kind], BaseException):
            raise ANSWERS[kind]
        if kind == "ok":
            self.unanswered.discard(key)
            self.confirmed += ids
        self.refused[REFUSED.get(kind, "")] += len(ids)
        return ANSWERS[kind]

    def _note_pace(self, kind: str) -> None:
        """Remember how long the client has to wait at least; a forced attempt changes nothing."""
        now = self._machine.loop.time()
        if kind in ("ok", "400", "422"):
            self.not_before = -math.inf
        elif kind in ("429", "503"):
            self.not_before, self.firm = now + {"429": 7.0, "503": 300.0}[kind], True
        elif kind != "413" and not self._machine.is_forced():
            self.not_before, self.firm = now + SHORTEST * LIMITS.flush_interval, False

    async def release(self) -> None:
        await asyncio.sleep(0)

    def _check(self, events: Batch, key: str, ids: List[int]) -> None:
        assert not self._busy, "two POSTs at a time"
        assert 1 <= len(ids) <= LIMITS.max_batch_size
        assert len(events.body) <= LIMITS.max_batch_bytes
        assert ids == sorted(set(ids)), "order within a POST"
        if key in self.sent:
            assert ids == self.sent[key], "another set under the same key"
        for other, earlier in self.sent.items():
            if other != key and set(earlier) & set(ids):
                assert set(ids) < set(earlier), "another set that is neither trimmed nor halved"
        assert not set(ids) & set(self.confirmed), "sent again after its 2xx"
        self._machine.check_pace()


class Delivery(RuleBasedStateMachine):
    """One exporter, and everything that can happen to it in one thread."""

    make_queue: Callable[..., EventQueue] = EventQueue
    make_exporter: Callable[..., Exporter] = Exporter

    def __init__(self) -> None:
        super().__init__()
        self.captured = 0
        self.poison: Set[int] = set()
        self.broken: Optional[BaseException] = None
        self.reported: List[BaseException] = []
        self.on_error: Callable[[BaseException], None] = self.reported.append
        self.loop = VirtualLoop()
        self.ingest = Ingest(self)
        self.queue = self.make_queue(CAPACITY, self._attend)
        self.host: Optional[Host] = None
        self.flushes: List[asyncio.Task[bool]] = []
        self.reporter = Reporter(self._report, clock=self._now)

    @initialize(jitter=st.sampled_from([0.0, 0.5, 0.99]))
    def make(self, jitter: float) -> None:
        self.exporter = self.make_exporter(
            self.queue,
            self.ingest,
            LIMITS,
            self.reporter,
            clock=self._now,
            jitter=lambda: jitter,
        )
        self.start()

    # -- what happens -------------------------------------------------------------------

    @rule(count=st.sampled_from([1, 1, 3, 10, 40, 300]), path=st.sampled_from(PATHS))
    def capture(self, count: int, path: int) -> None:
        for number in range(self.captured, self.captured + count):
            self.queue.put(event(number, path="/".ljust(path - 6, "x") + f"/{number:05d}"))
            self.captured += 1
            self.look()

    @rule()
    def capture_poison(self) -> None:
        self.poison.add(self.captured)
        self.captured += 1
        self.queue.put(Poison(self.captured - 1))

    @rule(
        outcomes=st.lists(OUTCOMES, min_size=1, max_size=6),
        count=st.sampled_from([3, 8, 30]),
        seconds=st.sampled_from([0.01, 6.0, 90.0]),
        flush=st.booleans(),
    )
    def meet(self, outcomes: List[Outcome], count: int, seconds: float, flush: bool) -> None:
        """Let the next POSTs meet with these outcomes: the usual course of things."""
        self.ingest.script.extend(outcomes)
        if self.host is None:
            self.start()
        self.capture(count, PATHS[0])
        self.pass_time(seconds)
        if flush and self.host is not None:
            self.flush(None, cancel=False)
            self.step(5)

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 6.0, 90.0, 400.0]))
    def pass_time(self, seconds: float) -> None:
        self._run(partial(self.loop.call_later, seconds))

    @rule(count=st.integers(1, 6))
    def step(self, count: int) -> None:
        """Run so many iterations of the loop: stop between any two awaits."""
        for _ in range(count):
            self._run(self.loop.call_soon)

    @rule(then=st.sampled_from(["record", "raise", "capture"]))
    def change_hook(self, then: str) -> None:
        def hook(error: BaseException) -> None:
            self.reported.append(error)
            if then == "raise":
                raise RuntimeError("a hook's own")
            if then == "capture" and self.captured < 5000:
                self.capture(1, PATHS[0])

        self.on_error = hook

    @precondition(lambda self: self.host is not None)
    @rule(timeout=st.sampled_from([None, 0.0, 0.5]), cancel=st.booleans())
    def flush(self, timeout: Optional[float], cancel: bool) -> None:
        request = self.exporter.request_flush()
        self._require_host().wake()
        waiting = self.loop.create_task(wait_for(request.done, timeout))
        self.flushes.append(waiting)
        if cancel:
            self.step(1)
            waiting.cancel()

    @precondition(lambda self: self.host is not None)
    @rule(how=st.sampled_from(["stop now", "stop soon", "stop", "hand over", "retire", "cancel"]))
    def end(self, how: str) -> None:
        host = self._require_host()
        if how == "hand over":
            host.hand_over()
        elif how == "retire":
            host.retire()
        elif how == "cancel":
            self.cancelled = True
            self.task.cancel()
        else:
            host.stop(self.loop.time() + {"stop now": 0.0, "stop soon": 0.05, "stop": 5.0}[how])

    @precondition(lambda self: self.host is not None)
    @rule(collected_first=st.booleans())
    def close_loop(self, collected_first: bool) -> None:
        """As the lifecycle recovers from a loop that was closed under the drain, whenever it is collected."""
        host = self._require_host()
        now = self.loop.time()
        self._close()
        if collected_first:
            self._collect()
        host.lost = host.abandoned = True
        self.queue.requeue()
        self.exporter.end_flushes()
        if not collected_first:
            self._collect()
        self.loop, self.flushes, self.host = VirtualLoop(now), [], None

    @precondition(lambda self: self.host is None)
    @rule()
    def start(self) -> None:
        self.host = Host("event_loop", self.loop)
        self.cancelled = False
        self.queue.disarm()
        self.main = self._watch()
        self.task = self.loop.create_task(self.main)

    async def _watch(self) -> None:
        await Watched(self.exporter.run(self._require_host()), self.look)

    # -- what must hold -----------------------------------------------------------------

    def look(self) -> None:
        """Check the sum, and where every event is. Without the queue's own readers, which trim first."""
        queue = self.queue
        with self.noting():
            flying = _ids(queue._taken["post"])
            waiting = [number for batch in queue._sealed for number in _ids(batch)] + _ids(queue._events)
            here = flying + waiting
            lost = sum(queue.dropped.values())
            assert queue.delivered + lost + len(here) == self.captured, "the sum"
            assert here == sorted(set(here)), "the order"
            loose = len(queue._events)
            assert loose <= CAPACITY + SLACK, "the bound"
            assert waiting[len(waiting) - loose :] == list(range(self.captured - loose, self.captured)), (
                "the newest"
            )
            assert set(here).isdisjoint(self.ingest.confirmed[: queue.delivered]), "delivered, and kept"

    @invariant()
    def holds(self) -> None:
        self.look()
        self._raise_broken()
        queue, ingest = self.queue, self.ingest
        assert queue.delivered == len(ingest.confirmed), "the confirmed"
        assert ingest.confirmed == sorted(set(ingest.confirmed)), "each once, and in order"
        dropped = queue.dropped
        assert {name: dropped.get(name, 0) for name in ("rejected", "redirect")} == {
            name: ingest.refused[name] for name in ("rejected", "redirect")
        }
        assert dropped.get("invalid", 0) <= len(self.poison)
        reported = self._reported_losses()
        assert reported.pop("buffer_full", 0) <= dropped.get("buffer_full", 0)
        assert reported == {name: dropped[name] for name in dropped if name != "buffer_full"}, "reported"
        self._check_stored()

    def _check_stored(self) -> None:
        """Whoever drops repeated keys stores each event once, unless an answer was lost and its batch cut."""
        seen: Dict[int, str] = {}
        for key in self.ingest.stored:
            for number in self.ingest.sent[key]:
                assert seen.get(number, key) in {key, *self.ingest.unanswered}, "stored twice"
                seen[number] = key

    def is_forced(self) -> bool:
        return bool(self.exporter._flushes) or self._require_host().stop_by < math.inf

    def check_pace(self) -> None:
        """While backing off only a flush or a stop may send; while a Retry-After runs only a stop."""
        if self.loop.time() < self.ingest.not_before:
            assert self.is_forced(), "sent while backing off"
            assert not self.ingest.firm or self._require_host().stop_by < math.inf, "sent before Retry-After"

    def teardown(self) -> None:
        """The ingest is well again: everything that was not dropped arrives."""
        try:
            if self.broken is None and hasattr(self, "exporter"):
                self._deliver_the_rest()
        finally:
            self._close()
            self._collect()

    def _deliver_the_rest(self) -> None:
        self.ingest.script.clear()
        while self.host is not None:
            self._require_host().stop(self.loop.time())
            self.pass_time(200.0)
        self.on_error = self.reported.append
        self.start()
        self._require_host().stop(self.loop.time() + 1e6)
        self.pass_time(1e6)
        assert self.host is None
        self.step(3)
        self.holds()
        now = self.queue.snapshot()
        assert (now.in_flight, now.pending) == (0, 0)
        assert self._reported_losses() == self.queue.dropped, "reported"
        assert all(flush.done() for flush in self.flushes)
        gone = self.captured - len(self.ingest.confirmed)
        assert gone == sum(self.queue.dropped.values())
        assert not self.poison & set(self.ingest.confirmed)

    # -- the machinery ------------------------------------------------------------------

    def _now(self) -> float:
        return self.loop.time()  # of whichever loop it is by then

    def _attend(self) -> None:
        """Do what the lifecycle does where a capture reaches a threshold."""
        self.queue.trim()
        if self.host is not None and self.queue.armed:
            self.queue.disarm()
            self.host.wake()

    def _report(self, error: BaseException) -> None:
        self.look()
        self.on_error(error)

    def _reported_losses(self) -> Dict[str, int]:
        """Return what was reported of each reason, and what the reporter still keeps back."""
        losses: Counter[str] = Counter()
        for history in self.reporter._kinds.values():
            if history.loss is not None:
                losses[history.loss.reason] += history.lost
        for error in self.reported:
            if isinstance(error, errors.EventsDropped):
                losses[error.reason] += error.count
        return dict(losses)

    def _require_host(self) -> Host:
        assert self.host is not None
        return self.host

    def _run(self, schedule: Callable[[Callable[[], None]], asyncio.Handle]) -> None:
        """Run the loop until the scheduled moment; an interrupt leaves it where it came from."""
        handle = schedule(self.loop.stop)
        interrupted = False
        try:
            self.loop.run_forever()
        except (KeyboardInterrupt, SystemExit):
            interrupted = True
        finally:
            handle.cancel()
        if self.host is not None and self.task.done():
            self._end(interrupted)
        self._raise_broken()

    def _end(self, interrupted: bool) -> None:
        if self.task.cancelled():
            assert self.cancelled, "it ended by itself"
        else:
            error = self.task.exception()
            interrupted |= isinstance(error, (KeyboardInterrupt, SystemExit))
            assert error is None or interrupted, f"it ended by itself: {error!r}"
            assert interrupted or self._require_host().is_stopping(), "it ended by itself"
        assert self.queue.in_flight == 0, "left in flight"
        self.host = None
        self.exporter.end_flushes()

    @contextlib.contextmanager
    def noting(self) -> Any:
        """Keep the first failure: what runs inside the exporter may swallow it."""
        try:
            yield
        except AssertionError as failure:
            self.broken = self.broken or failure

    def _raise_broken(self) -> None:
        if self.broken is not None:
            raise self.broken

    def _close(self) -> None:
        for flush in self.flushes:
            flush.cancel()
        if not self.loop.is_closed():
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
        self.loop.close()

    def _collect(self) -> None:
        """Close the drain's coroutine, as the garbage collector does with a loop's tasks."""
        if hasattr(self, "task") and not self.task.done():
            self.task._log_destroy_pending = False  # type: ignore[attr-defined]
            with contextlib.suppress(RuntimeError):  # anyio's scopes want their loop
                self.main.close()


def _ids(events: Any) -> List[int]:
    return [each.number if isinstance(each, Poison) else _number(each) for each in events]


def _number(each: Any) -> int:
    path: str = each["path"] if isinstance(each, dict) else each.path
    return int(path[-5:])


BOUNDED = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_nothing_is_lost_doubled_or_out_of_order() -> None:
    run_state_machine_as_test(Delivery, settings=BOUNDED)


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_nothing_is_lost_doubled_or_out_of_order_for_long() -> None:
    run_state_machine_as_test(
        Delivery, settings=settings(BOUNDED, max_examples=5000, stateful_step_count=100)
    )


# -- the machine itself -----------------------------------------------------------------


class LosesWhatFailed(EventQueue):
    def requeue(self, taker: Taker = "post") -> int:
        self._taken[taker] = []
        return 0


class RequeuesBehind(EventQueue):
    def requeue(self, taker: Taker = "post") -> int:
        batch, self._taken[taker] = self._taken[taker], []
        self._sealed.extend([batch] if isinstance(batch, Batch) and batch else [])
        return len(batch)


class RequeuesUnsealed(EventQueue):
    def requeue(self, taker: Taker = "post") -> int:
        taken = self._taken[taker]
        if isinstance(taken, Batch):
            self._taken[taker] = Batch(taken) if taken else []
        return super().requeue(taker)


class SettlesTwice(EventQueue):
    def settle_delivered(self) -> int:
        self.delivered += self.in_flight
        return super().settle_delivered()


class DropsTheNewest(EventQueue):
    def _drop_excess(self) -> None:
        while self._events and self._pending() > self.capacity:
            self._events.pop()
            self._count_dropped("buffer_full", 1)


class TrimsUnderTheSameKey(EventQueue):
    def _drop_excess(self) -> None:
        keys = [batch.idempotency_key for batch in self._sealed]
        super()._drop_excess()
        for batch, key in zip(reversed(self._sealed), reversed(keys)):
            batch.idempotency_key = key


class ForgetsACount(EventQueue):
    def _count_dropped(self, reason: str, count: int) -> None:
        super()._count_dropped(reason, min(count, 50))


class SwapsHalves(Exporter):
    def _shrink(self, batch: Batch) -> None:
        super()._shrink(Batch(batch[::-1]) if len(batch) > 1 else batch)


class CallsItDelivered(Exporter):
    def _retry_later(self, error: errors.ExportError, retry_after: Optional[float]) -> bool:
        if isinstance(error, errors.ExportTimeout):
            self._queue.settle_delivered()
        return super()._retry_later(error, retry_after)


class HasNoPatience(Exporter):
    def _may_force(self) -> bool:
        return True


class NeverBacksOff(Exporter):
    def _retry_later(self, error: errors.ExportError, retry_after: Optional[float]) -> bool:
        self._queue.requeue()
        self._reporter.report(error)
        self.backoff.until = -math.inf
        return True


class ReportsNothing(Exporter):
    def _drop_too_large(self, batch: Batch, limit: str) -> None:
        self._queue.settle_dropped(errors.EventTooLarge.reason)


class DiesOfATransport(Exporter):
    async def _send(self, batch: Batch, *, inline: bool) -> Any:
        return await self.transport.send(batch)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("mutant", "finding"),
    [
        (LosesWhatFailed, "the sum"),
        (RequeuesBehind, "the order"),
        (RequeuesUnsealed, "neither trimmed nor halved"),
        (SettlesTwice, "the sum"),
        (DropsTheNewest, "the newest"),
        (TrimsUnderTheSameKey, "another set under the same key"),
        (ForgetsACount, "the sum"),
        (SwapsHalves, "the order"),
        (CallsItDelivered, "the confirmed"),
        pytest.param(HasNoPatience, "before Retry-After", marks=pytest.mark.torture),  # found late
        (NeverBacksOff, "backing off|Retry-After"),
        (ReportsNothing, "reported"),
        (DiesOfATransport, "it ended by itself|RuntimeError"),
    ],
)
def test_the_machine_finds(mutant: type, finding: str) -> None:
    """Each of these is one mistake; a machine that lets it pass could not fail."""

    class Broken(Delivery):
        if issubclass(mutant, EventQueue):
            make_queue = mutant
        else:
            make_exporter = mutant  # type: ignore[assignment]

    quick = settings(BOUNDED, max_examples=200, derandomize=True, database=None, phases=[Phase.generate])
    with pytest.raises(AssertionError, match=finding):
        run_state_machine_as_test(Broken, settings=quick)
