"""The bounded queue and its ledger."""

from __future__ import annotations

import gc
import threading
from typing import Any, List

import pytest

from beaconhq.queue import SLACK, EventQueue
from beaconhq.wire import Batch


def make_queue(capacity: int = 10) -> EventQueue:
    queue = EventQueue(capacity, lambda: queue.trim())  # noqa: PLW0108 - not bound yet
    return queue


def fill(queue: EventQueue, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        queue.put(number)


def batch(*numbers: int) -> Batch:
    return Batch([{"path": str(number)} for number in numbers])


def totals(queue: EventQueue) -> int:
    delivered, dropped, _, in_flight, pending = queue.snapshot()[:5]
    return delivered + sum(dropped.values()) + in_flight + pending


def test_events_come_out_in_the_order_they_went_in() -> None:
    queue = make_queue()
    fill(queue, 5)
    assert queue.take(3) == [0, 1, 2]


def test_past_the_capacity_the_oldest_is_dropped_and_counted() -> None:
    queue = make_queue(capacity=3)
    fill(queue, 5)
    assert queue.pending == 3
    assert queue.take(10) == [2, 3, 4]
    assert queue.dropped == {"buffer_full": 2}


def test_a_full_queue_never_holds_more_than_its_capacity_and_the_slack() -> None:
    queue = make_queue(capacity=3)
    for number in range(10_000):
        queue.put(number)
        assert len(queue._events) <= 3 + SLACK
    assert queue.take(10) == [9997, 9998, 9999]
    assert totals(queue) == 10_000


def test_a_failed_batch_goes_back_to_the_front_sealed_under_its_key() -> None:
    queue = make_queue()
    fill(queue, 2)
    queue.take(2)
    sealed = batch(0, 1)
    queue.seal(sealed)
    fill(queue, 1, start=2)
    assert queue.requeue() == 2
    assert queue.take_sealed() is sealed
    assert queue.snapshot()[:5] == (0, {}, 2, 2, 1)


def test_loose_events_that_were_not_sealed_yet_go_back_in_order() -> None:
    queue = make_queue()
    fill(queue, 4)
    queue.take(2)
    queue.requeue()
    assert queue.take(10) == [0, 1, 2, 3]


def test_requeue_with_nothing_in_flight_does_nothing() -> None:
    queue = make_queue()
    fill(queue, 2)
    assert queue.requeue() == 0
    assert queue.snapshot()[:5] == (0, {}, 0, 0, 2)


def test_a_requeued_batch_counts_towards_the_capacity_and_is_trimmed_from_its_front() -> None:
    queue = make_queue(capacity=4)
    fill(queue, 3)
    queue.take(3)
    sealed = batch(0, 1, 2)
    queue.seal(sealed)
    fill(queue, 3, start=3)
    queue.requeue()
    trimmed = queue.take_sealed()
    assert trimmed == [{"path": "2"}]
    assert trimmed.idempotency_key != sealed.idempotency_key, "another set, another key"
    assert queue.dropped == {"buffer_full": 2}
    assert totals(queue) == 6


def test_a_whole_batch_and_loose_events_are_trimmed_when_the_excess_is_larger() -> None:
    queue = make_queue(capacity=2)
    fill(queue, 2)
    queue.take(2)
    queue.seal(batch(0, 1))
    fill(queue, 2, start=2)
    queue.requeue()
    assert queue.take_sealed() is None
    assert queue.take(5) == [2, 3]


def test_what_a_batch_left_out_was_invalid() -> None:
    queue = make_queue()
    fill(queue, 3)
    queue.take(3)
    queue.seal(batch(0, 2))
    assert queue.dropped == {"invalid": 1}
    assert queue.settle_delivered() == 2
    assert totals(queue) == 3


def test_the_rest_of_a_split_batch_goes_next() -> None:
    queue = make_queue()
    fill(queue, 3)
    queue.take(3)
    first, rest = batch(0, 1, 2).halves()
    queue.seal(first, rest)
    queue.settle_delivered()
    assert queue.take_sealed() is rest
    assert (len(first), len(rest)) == (2, 1)


def test_dropping_is_counted_by_reason() -> None:
    queue = make_queue()
    fill(queue, 3)
    queue.take(2)
    queue.settle_dropped("rejected")
    queue.discard("closed")
    assert queue.dropped == {"rejected": 2, "closed": 1}


def test_the_position_says_what_left_and_what_came() -> None:
    queue = make_queue()
    fill(queue, 5)
    queue.take(2)
    assert (queue.snapshot().settled, queue.snapshot().captured) == (0, 5)
    queue.settle_delivered()
    assert (queue.snapshot().settled, queue.snapshot().captured) == (2, 5)


def test_attention_is_asked_for_once_the_threshold_is_reached() -> None:
    calls: List[int] = []
    queue = EventQueue(100, lambda: calls.append(len(queue._events)))
    assert queue.arm(3)
    fill(queue, 4)
    assert calls == [3, 4]
    queue.disarm()
    fill(queue, 4)
    assert calls == [3, 4]
    assert not queue.arm(3), "already reached"


def test_put_needs_no_lock() -> None:
    queue = make_queue(capacity=2)
    with queue._lock:  # as a signal handler would find it that interrupts a trim
        fill(queue, 2 * SLACK)
    assert queue.pending == 2


def test_an_event_whose_finalizer_captures_harms_nobody() -> None:
    class Capturing:
        def __del__(self) -> None:
            queue.put("from __del__")

    queue = make_queue(capacity=2)
    for _ in range(3):
        queue.put(Capturing())
    gc.collect()
    # Each trim frees an event that captures another, as long as there are such.
    assert [queue.pending for _ in range(4)] == [3, 3, 3, 2]
    assert queue.dropped == {"buffer_full": 4}
    queue.discard("closed")


@pytest.mark.parametrize("capacity", [50, 100_000])
def test_no_event_is_lost_or_counted_twice_when_threads_race_with_the_drain(capacity: int) -> None:
    queue = make_queue(capacity)
    taken: List[Any] = []
    done = threading.Event()

    def drain() -> None:
        while not done.is_set() or queue.pending:
            taken.extend(queue.take(7))
            queue.settle_delivered()

    threads = [threading.Thread(target=fill, args=(queue, 5000, 5000 * n)) for n in range(4)]
    drainer = threading.Thread(target=drain)
    for thread in [*threads, drainer]:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    drainer.join()
    assert len(taken) == len(set(taken)) == queue.delivered
    assert queue.delivered + queue.dropped.get("buffer_full", 0) == 20_000
    for first in range(0, 20_000, 5000):
        own = [number for number in taken if first <= number < first + 5000]
        assert own == sorted(own), "each thread's events keep their order"


def test_a_batch_in_which_nothing_was_fit_to_be_sent_does_not_come_back() -> None:
    queue = make_queue()
    queue.put("no event")
    queue.take(10)
    queue.seal(Batch([]))
    assert queue.requeue() == 0
    assert queue.oldest() is None
    assert queue.take_sealed() is None
