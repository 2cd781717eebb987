"""
The delivery rules, in virtual time, with nothing but a queue and a transport.

The same rules over both hosts are in `test_hosts.py`.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any, Awaitable, List

import pytest
from support.events import event, numbers
from support.rig import Rig, virtual
from support.transports import DOWN, OK, ScriptedTransport, answer
from support.virtual_time import run_virtual

from beaconhq import SendResult, errors, exporter
from beaconhq.sealing import PIECE

# -- when a POST begins -----------------------------------------------------------------


@virtual
async def test_a_few_events_go_with_the_next_tick() -> None:
    transport = ScriptedTransport()
    rig = Rig(transport)
    rig.capture(3)
    await rig.at(2.4)
    assert transport.attempts == []
    await rig.at(2.6)
    assert rig.times(transport) == [2.5]
    assert numbers(transport.delivered) == [0, 1, 2]


@virtual
async def test_the_cadence_keeps_its_phase() -> None:
    transport = ScriptedTransport()
    rig = Rig(transport, jitter=0.2)
    for second in range(14):
        rig.capture(1, start=second)
        await rig.at(second + 1)
    assert rig.times(transport) == [1.0, 6.0, 11.0]


@pytest.mark.parametrize("jitter", [0.0, 0.3, 0.99])
def test_the_first_flush_falls_anywhere_in_one_interval(jitter: float) -> None:
    async def main() -> None:
        transport = ScriptedTransport()
        rig = Rig(transport, jitter=jitter)
        rig.capture(1)
        await rig.at(5.01)
        assert rig.times(transport)[0] == pytest.approx(5 * jitter, abs=0.01)

    run_virtual(main)


@virtual
async def test_nothing_is_posted_when_nothing_is_captured() -> None:
    transport = ScriptedTransport()
    rig = Rig(transport)
    await rig.at(60)
    assert transport.attempts == []


@virtual
async def test_the_eager_size_goes_at_once() -> None:
    transport = ScriptedTransport()
    rig = Rig(transport, eager=10)
    await rig.at(1)
    rig.capture(10)
    await rig.at(1.01)
    assert rig.times(transport) == [1.0]


@virtual
async def test_under_load_posts_grow_instead_of_multiplying() -> None:
    transport = ScriptedTransport()
    rig = Rig(transport, eager=10, flush_interval=60)
    for step in range(100):  # 400 events/s for a second
        rig.capture(4, start=4 * step)
        await rig.at(0.01 * (step + 1))
    assert len(transport.attempts) <= 5
    gaps = [later - sooner for sooner, later in zip(rig.times(transport), rig.times(transport)[1:])]
    assert min(gaps) >= 0.249
    await rig.stop()
    assert numbers(transport.delivered) == list(range(400))


@virtual
async def test_a_full_batch_does_not_wait_for_the_spacing() -> None:
    transport = ScriptedTransport()
    rig = Rig(transport, eager=10, max_batch_size=50, flush_interval=60)
    rig.capture(10)
    await rig.at(0.01)
    rig.capture(49, start=10)
    await rig.at(0.02)
    assert rig.times(transport) == [0.0]
    rig.capture(1, start=59)
    await rig.at(0.03)
    assert rig.times(transport) == [0.0, 0.02]


@virtual
async def test_a_backlog_goes_in_full_batches_in_order() -> None:
    transport = ScriptedTransport()
    rig = Rig(transport, max_batch_size=1000)
    rig.capture(2500)
    await rig.at(0.1)
    assert [len(attempt.events) for attempt in transport.attempts] == [1000, 1000, 500]
    assert numbers(transport.delivered) == list(range(2500))


@virtual
async def test_at_100_ms_a_post_3000_events_a_second_are_carried() -> None:
    transport = ScriptedTransport(delay=0.1)
    rig = Rig(transport)
    for step in range(1000):
        rig.capture(30, start=30 * step)
        await rig.at(0.01 * (step + 1))
    assert rig.queue.pending < 1000
    await rig.stop()
    assert numbers(transport.delivered) == list(range(30_000))


@virtual
async def test_one_post_at_a_time() -> None:
    transport = ScriptedTransport(delay=1.0)
    rig = Rig(transport, eager=1)
    for step in range(20):
        rig.capture(1, start=step)
        await rig.at(0.2 * (step + 1))
    gaps = [later - sooner for sooner, later in zip(rig.times(transport), rig.times(transport)[1:])]
    assert min(gaps) >= 1.0


# -- failures ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [DOWN, *map(answer, (408, 425, 429, 500, 502, 503, 599)), SendResult(ok=False, status=0)],
    ids=str,
)
def test_a_failure_that_time_may_mend_is_retried_under_the_same_key(failure: Any) -> None:
    async def main() -> None:
        transport = ScriptedTransport(failure, failure)
        rig = Rig(transport)
        rig.capture(3)
        await rig.at(2.6)
        rig.capture(2, start=3)
        await rig.at(60)
        first, second, third, fourth = transport.attempts
        assert first.key == second.key == third.key
        assert first.body == second.body == third.body
        assert numbers(fourth.events) == [3, 4], "a retry never grows"
        assert numbers(transport.delivered) == [0, 1, 2, 3, 4]
        assert rig.queue.requeued == 6
        (error,) = rig.reported  # the second is the same
        assert isinstance(error, errors.ExportError)

    run_virtual(main)


@virtual
async def test_back_off_doubles_up_to_a_minute_and_starts_over_after_a_success() -> None:
    transport = ScriptedTransport(*[DOWN] * 7)
    rig = Rig(transport, jitter=0.999)
    rig.capture(1)
    await rig.at(400)
    gaps = [round(later - sooner) for sooner, later in zip(rig.times(transport), rig.times(transport)[1:])]
    assert gaps == [5, 10, 20, 40, 60, 60, 60]
    assert rig.exporter.backoff.failures == 0


@virtual
async def test_new_captures_never_cut_a_back_off_short() -> None:
    transport = ScriptedTransport(then=DOWN)
    rig = Rig(transport, eager=10)
    for step in range(600):  # 1,000 events/s for a minute
        rig.capture(100, start=100 * step)
        await rig.at(0.1 * (step + 1))
    assert len(transport.attempts) <= 6
    assert rig.queue.pending == 10_000
    assert rig.queue.dropped == {"buffer_full": 50_000}


@pytest.mark.parametrize("per_second", [1, 30])
@pytest.mark.parametrize("flushing", [False, True], ids=["left alone", "with a flush per capture"])
def test_posts_per_minute_are_bounded_whatever_the_capture_rate(per_second: int, flushing: bool) -> None:
    """No retry storm: a back-off's attempts, or one a second where somebody insists."""

    async def main() -> None:
        transport = ScriptedTransport(then=answer(503))
        rig = Rig(transport, eager=10, capacity=1000)
        flushes = []
        for step in range(3 * 60 * per_second):
            rig.capture(1, start=step)
            if flushing:
                flushes.append(asyncio.ensure_future(rig.flush()))
            await rig.at((step + 1) / per_second)
        await asyncio.gather(*flushes)
        minutes = Counter(int(at // 60) for at in rig.times(transport))
        assert max(minutes.values()) <= (60 + 8 if flushing else 8)
        assert flushing or max(minutes[minute] for minute in (1, 2)) <= 3

    run_virtual(main)


@virtual
async def test_retry_after_is_honoured() -> None:
    transport = ScriptedTransport(answer(503, retry_after=120.0))
    rig = Rig(transport)
    rig.capture(1)
    await rig.at(2.6)
    rig.capture(5000, start=1)
    await rig.at(122)
    assert len(transport.attempts) == 1
    await rig.at(140)
    assert len(transport.delivered) == 5001


@pytest.mark.parametrize("status", [400, 402, 405, 410, 422, 451])
def test_a_rejected_batch_is_dropped_alone(status: int) -> None:
    async def main() -> None:
        transport = ScriptedTransport(answer(status))
        rig = Rig(transport, max_batch_size=2)
        rig.capture(4)
        await rig.at(5)
        assert numbers(transport.delivered) == [2, 3]
        assert rig.queue.dropped == {"rejected": 2}
        (error,) = rig.reported
        assert isinstance(error, errors.BatchRejected)
        assert (error.count, error.status) == (2, status)

    run_virtual(main)


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404])
def test_a_wrong_key_or_url_drops_the_batch_and_is_not_hammered(status: int) -> None:
    async def main() -> None:
        transport = ScriptedTransport(then=answer(status))
        rig = Rig(transport, eager=10)
        for step in range(600):
            rig.capture(10, start=10 * step)
            await rig.at(0.1 * (step + 1))
        assert len(transport.attempts) <= 6
        lost = "redirect" if status < 400 else "rejected"
        assert rig.queue.dropped[lost] > 0

    run_virtual(main)


@virtual
async def test_what_the_transport_raises_is_a_retry_with_its_cause() -> None:
    transport = ScriptedTransport(KeyError("boom"))
    rig = Rig(transport)
    rig.capture(1)
    await rig.at(60)
    (error,) = rig.reported
    assert isinstance(error, errors.TransportError)
    assert isinstance(error.__cause__, KeyError)
    assert numbers(transport.delivered) == [0]


@virtual
async def test_an_exception_that_cannot_be_shown_or_must_not_be_is_named_by_its_type() -> None:
    """Its text may quote request headers, and so a key."""

    class UnspeakableError(Exception):
        def __repr__(self) -> str:
            raise LookupError("Bearer secret")

        __str__ = __repr__

    transport = ScriptedTransport(UnspeakableError("Bearer secret"))
    rig = Rig(transport)
    rig.capture(1)
    await rig.at(60)
    assert [str(error) for error in rig.reported] == ["ScriptedTransport.send raised UnspeakableError"]
    assert numbers(transport.delivered) == [0]


@virtual
async def test_a_transport_that_returns_nonsense_is_reported_and_retried() -> None:
    class Nonsense:
        calls = 0

        async def send(self, events: Any) -> SendResult:
            self.calls += 1
            return None if self.calls == 1 else OK  # type: ignore[return-value]

    rig = Rig(Nonsense())
    rig.capture(1)
    await rig.at(60)
    assert rig.types() == ["TransportError"]
    assert "NoneType" in str(rig.reported[0])
    assert rig.queue.delivered == 1


@virtual
async def test_an_exception_in_on_error_does_not_end_the_drain() -> None:
    transport = ScriptedTransport(answer(400))
    rig = Rig(transport, max_batch_size=1)

    def explode(error: BaseException) -> None:
        raise RuntimeError("in the hook")

    rig.exporter._reporter.on_error = explode
    rig.capture(2)
    await rig.at(5)
    assert numbers(transport.delivered) == [1]


@virtual
async def test_on_error_may_capture() -> None:
    transport = ScriptedTransport(answer(400))
    rig = Rig(transport)
    rig.exporter._reporter.on_error = lambda _: rig.capture(1, start=99)
    rig.capture(1)
    await rig.at(10)
    assert numbers(transport.delivered) == [99]


# -- sizes ------------------------------------------------------------------------------


def size_of(count: int) -> int:
    from beaconhq.wire import Batch, clean

    return len(Batch([clean(event(n)) for n in range(count)]).body)


@virtual
async def test_a_post_takes_the_pieces_that_fit_and_leaves_the_rest_in_order() -> None:
    transport = ScriptedTransport()
    rig = Rig(transport, max_batch_bytes=size_of(3 * PIECE))
    rig.capture(4 * PIECE)
    await rig.at(3)
    assert [len(attempt.events) for attempt in transport.attempts] == [3 * PIECE, PIECE]
    assert len(transport.attempts[0].body) == size_of(3 * PIECE)
    assert numbers(transport.delivered) == list(range(4 * PIECE))
    assert rig.queue.dropped == {}


@virtual
async def test_the_body_is_what_was_sent_and_the_batch_is_halved_where_one_piece_is_too_large() -> None:
    transport = ScriptedTransport()
    rig = Rig(transport, max_batch_bytes=size_of(5))
    rig.capture(PIECE)
    await rig.at(3)
    assert [len(attempt.events) for attempt in transport.attempts] == [4, 4, 4, 4]
    for attempt in transport.attempts:
        assert json.loads(attempt.body)["events"] == attempt.events
    assert numbers(transport.delivered) == list(range(PIECE))


@virtual
async def test_what_is_beyond_repair_in_a_piece_that_is_left_for_later_counts_once() -> None:
    transport = ScriptedTransport()
    rig = Rig(transport, max_batch_bytes=size_of(PIECE))
    rig.capture(PIECE)
    rig.queue.put(object())
    rig.capture(PIECE - 1, start=PIECE)
    await rig.at(3)
    assert numbers(transport.delivered) == list(range(2 * PIECE - 1))
    assert rig.queue.dropped == {"invalid": 1}
    assert rig.types() == ["InvalidEvent"]


def test_the_event_loop_has_its_turn_while_a_backlog_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "STEP", -1.0)  # as if each piece took too long
    turns = 0

    async def main() -> None:
        nonlocal turns
        transport = ScriptedTransport()
        rig = Rig(transport)
        rig.capture(20 * PIECE)

        async def serve_others() -> None:
            nonlocal turns
            while not transport.attempts:
                turns += 1
                await asyncio.sleep(0)

        rig.host.wake()
        await asyncio.gather(rig.flush(), serve_others())
        assert numbers(transport.delivered) == list(range(20 * PIECE))

    run_virtual(main)
    assert turns >= 20


@virtual
async def test_an_event_larger_than_a_post_is_dropped_alone() -> None:
    transport = ScriptedTransport()
    rig = Rig(transport, max_batch_bytes=1000)
    rig.capture(2)
    rig.capture(1, start=2, error="x" * 5000)
    rig.capture(2, start=3)
    await rig.at(3)
    assert numbers(transport.delivered) == [0, 1, 3, 4]
    assert rig.queue.dropped == {"too_large": 1}
    assert rig.types() == ["EventTooLarge"]


@virtual
async def test_a_413_goes_again_in_halves_with_new_keys_and_the_size_is_remembered() -> None:
    transport = ScriptedTransport(answer(413))
    rig = Rig(transport, max_batch_size=4 * PIECE)
    rig.capture(8 * PIECE, start=1000)
    await rig.at(3)
    assert [len(attempt.events) for attempt in transport.attempts] == [4 * PIECE] + [2 * PIECE] * 4
    assert len({attempt.key for attempt in transport.attempts}) == 5
    assert numbers(transport.delivered) == list(range(1000, 1000 + 8 * PIECE))
    assert rig.reported == []


@virtual
async def test_the_remembered_size_doubles_after_ten_successes() -> None:
    transport = ScriptedTransport(answer(413))
    rig = Rig(transport, max_batch_size=2 * PIECE)
    rig.capture(2 * PIECE * 11, start=1000)
    await rig.at(3)
    sizes = [len(attempt.events) for attempt in transport.attempts]
    assert sizes[1:11] == [PIECE] * 10
    assert sizes[11:] == [2 * PIECE] * 6


@virtual
async def test_a_single_event_that_gets_a_413_is_dropped() -> None:
    transport = ScriptedTransport(*[answer(413)] * 3)
    rig = Rig(transport)
    rig.capture(4)
    await rig.at(3)
    assert [len(attempt.events) for attempt in transport.attempts] == [4, 2, 1, 1, 1, 1]
    assert numbers(transport.delivered) == [1, 2, 3]
    assert rig.queue.dropped == {"too_large": 1}


@virtual
async def test_an_event_beyond_repair_is_dropped_alone_and_reported() -> None:
    transport = ScriptedTransport()
    rig = Rig(transport)
    rig.capture(1)
    rig.queue.put(object())
    rig.queue.put(event(status="?"))
    rig.capture(1, start=1)
    assert await rig.flush() == (2, 2, 0)
    assert numbers(transport.delivered) == [0, 1]
    (error,) = rig.reported
    assert isinstance(error, errors.InvalidEvent)
    assert error.count == 2
    assert "status" in str(error)


@virtual
async def test_a_batch_of_nothing_but_bad_events_is_not_sent() -> None:
    transport = ScriptedTransport()
    rig = Rig(transport)
    for _ in range(3):
        rig.queue.put(None)
    assert await rig.flush() == (0, 3, 0)
    assert transport.attempts == []


@virtual
async def test_a_full_buffer_is_reported_with_its_count_now_and_then() -> None:
    transport = ScriptedTransport(then=DOWN)
    rig = Rig(transport, capacity=100)
    for step in range(3000):
        rig.capture(10, start=10 * step)
        await rig.at(0.1 * (step + 1))
    full = [error for error in rig.reported if isinstance(error, errors.BufferFull)]
    assert len(full) == 3  # at once, and a minute and three minutes later
    await rig.stop()
    full = [error for error in rig.reported if isinstance(error, errors.BufferFull)]
    assert sum(error.count for error in full) == rig.queue.dropped["buffer_full"] == 29_900


# -- flush ------------------------------------------------------------------------------


@virtual
async def test_flush_delivers_everything_captured_before() -> None:
    transport = ScriptedTransport(delay=0.1)
    rig = Rig(transport)
    rig.capture(2500)
    assert await rig.flush() == (2500, 0, 0)


@virtual
async def test_flush_with_nothing_to_do_returns() -> None:
    rig = Rig(ScriptedTransport())
    assert await rig.flush() == (0, 0, 0)


@virtual
async def test_flush_waits_for_the_batch_in_flight() -> None:
    transport = ScriptedTransport(delay=3.0)
    rig = Rig(transport, eager=5)
    rig.capture(5)
    await rig.at(1)
    assert rig.queue.in_flight == 5
    assert await rig.flush() == (5, 0, 0)
    assert rig.clock() - rig.start == pytest.approx(3.0)


@virtual
async def test_flushes_that_overlap_share_one_attempt() -> None:
    transport = ScriptedTransport(delay=1.0)
    rig = Rig(transport)
    rig.capture(3)
    results = await asyncio.gather(*(rig.flush() for _ in range(5)))
    assert results == [(3, 0, 0)] * 5
    assert len(transport.attempts) == 1


@virtual
async def test_flush_stops_at_the_first_failure() -> None:
    transport = ScriptedTransport(OK, DOWN)
    rig = Rig(transport, max_batch_size=2)
    rig.capture(6)
    assert await rig.flush() == (2, 0, 4)
    assert len(transport.attempts) == 2


@virtual
async def test_flush_goes_past_a_rejected_batch() -> None:
    transport = ScriptedTransport(answer(400))
    rig = Rig(transport, max_batch_size=2)
    rig.capture(6)
    assert await rig.flush() == (4, 2, 0)


@virtual
async def test_flush_tries_while_backing_off_but_once_a_second() -> None:
    transport = ScriptedTransport(then=DOWN)
    rig = Rig(transport)
    rig.capture(1)
    await rig.at(2.6)
    for _ in range(300):
        await rig.flush()
        await asyncio.sleep(0.01)
    assert 3 <= len(transport.attempts) <= 5


@virtual
async def test_flushes_do_not_lengthen_the_back_off() -> None:
    transport = ScriptedTransport(*[DOWN] * 3)
    rig = Rig(transport, jitter=0.999)
    rig.capture(1)
    await rig.at(5.1)
    for second in (6.2, 7.3):
        await rig.at(second)
        assert await rig.flush() == (0, 0, 1)
    await rig.at(11)
    assert rig.times(transport)[-1] == pytest.approx(10.0, abs=0.1)
    assert rig.queue.delivered == 1


@virtual
async def test_flush_does_not_try_during_a_retry_after() -> None:
    transport = ScriptedTransport(answer(429, retry_after=60.0))
    rig = Rig(transport)
    rig.capture(1)
    await rig.at(2.6)
    await rig.at(10)
    assert await rig.flush() == (0, 0, 1)
    assert len(transport.attempts) == 1


@virtual
async def test_a_flush_ends_when_the_buffer_drops_what_it_waits_for() -> None:
    transport = ScriptedTransport(DOWN, delay=1.0)
    rig = Rig(transport, capacity=5)
    rig.capture(5)
    flush = asyncio.ensure_future(rig.flush())
    await rig.at(0.5)
    rig.capture(50, start=5)
    result = await flush
    assert result[0] == 0


# -- stop -------------------------------------------------------------------------------


@virtual
async def test_stop_lets_the_batch_in_flight_finish() -> None:
    transport = ScriptedTransport(delay=2.0)
    rig = Rig(transport, eager=5)
    rig.capture(5)
    await rig.at(1)
    await rig.stop()
    assert numbers(transport.delivered) == list(range(5))
    assert len(transport.attempts) == 1


@virtual
async def test_stop_delivers_all_that_is_left() -> None:
    transport = ScriptedTransport()
    rig = Rig(transport)
    rig.capture(2500)
    await rig.stop()
    assert len(transport.delivered) == 2500


@virtual
async def test_stop_takes_what_is_captured_until_the_queue_is_empty() -> None:
    transport = ScriptedTransport(delay=0.1)
    rig = Rig(transport)
    rig.capture(1)
    transport.on_send = lambda: (
        rig.capture(1, start=len(transport.attempts)) if len(transport.attempts) < 5 else None
    )
    await rig.stop()
    assert numbers(transport.delivered) == [0, 1, 2, 3, 4]


@virtual
async def test_stop_tries_once_more_while_backing_off() -> None:
    transport = ScriptedTransport(DOWN)
    rig = Rig(transport)
    rig.capture(1)
    await rig.at(2.6)
    await rig.stop()
    assert rig.times(transport) == [2.5, 2.6]
    assert rig.queue.delivered == 1


@virtual
async def test_stop_tries_only_once_and_leaves_the_rest_pending() -> None:
    transport = ScriptedTransport(then=DOWN)
    rig = Rig(transport, max_batch_size=2)
    rig.capture(6)
    await rig.stop()
    assert len(transport.attempts) == 1
    assert rig.queue.snapshot()[:5] == (0, {}, 2, 0, 6)


@virtual
async def test_stop_tries_once_more_after_the_batch_in_flight_failed() -> None:
    transport = ScriptedTransport(DOWN, delay=2.0)
    rig = Rig(transport, eager=5)
    rig.capture(5)
    await rig.at(1)
    await rig.stop()
    assert len(transport.attempts) == 2
    assert rig.queue.delivered == 5


@virtual
async def test_a_hanging_post_holds_a_stop_no_longer_than_its_deadline() -> None:
    transport = ScriptedTransport(delay=1000.0)
    rig = Rig(transport, eager=5)
    rig.capture(5)
    await rig.at(1)
    await rig.stop(timeout=3.0)
    assert rig.clock() - rig.start == pytest.approx(4.0)
    assert rig.queue.snapshot()[:5] == (0, {}, 5, 0, 5)


@virtual
async def test_handing_over_ends_after_the_post_under_way() -> None:
    transport = ScriptedTransport(delay=2.0)
    rig = Rig(transport, eager=5, max_batch_size=5)
    rig.capture(10)
    await rig.at(1)
    rig.host.hand_over()
    await rig.task
    assert rig.queue.snapshot()[:5] == (5, {}, 0, 0, 5)


@virtual
async def test_retiring_ends_once_everything_is_delivered() -> None:
    transport = ScriptedTransport(DOWN)
    rig = Rig(transport)
    rig.capture(3)
    await rig.at(0.1)
    rig.host.retire()
    await rig.task
    assert rig.queue.delivered == 3
    assert len(transport.attempts) == 2


@virtual
async def test_cancelling_the_drain_puts_the_batch_back_under_its_key() -> None:
    transport = ScriptedTransport(delay=10.0)
    rig = Rig(transport, eager=5)
    rig.capture(5)
    await rig.at(1)
    rig.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rig.task
    assert rig.queue.snapshot()[:5] == (0, {}, 5, 0, 5)
    sealed = rig.queue.take_sealed()
    assert sealed is not None
    assert sealed.idempotency_key == transport.attempts[0].key


@virtual
async def test_the_transport_is_released_when_the_drain_ends() -> None:
    class Releasing(ScriptedTransport):
        released = 0

        async def release(self) -> None:
            self.released += 1

    transport = Releasing()
    rig = Rig(transport)
    await rig.stop()
    assert transport.released == 1


@pytest.mark.parametrize("coroutine", [True, False])
def test_a_transport_that_cannot_be_released_ends_nothing(coroutine: bool) -> None:
    """`release` may also be a method of the user's own, which happens to have that name."""

    async def fail() -> None:
        raise OSError("release")

    async def main() -> None:
        transport = ScriptedTransport()
        transport.release = fail if coroutine else list  # type: ignore[attr-defined]
        rig = Rig(transport)
        rig.capture(1)
        await rig.stop()
        assert rig.queue.delivered == 1

    run_virtual(main)


# -- kinds of transports ----------------------------------------------------------------


class SyncTransport:
    def __init__(self) -> None:
        self.threads: List[str] = []

    def send(self, events: Any) -> SendResult:
        import threading

        self.threads.append(threading.current_thread().name)
        return OK


@pytest.mark.parametrize(("kind", "in_main"), [("event_loop", False), ("thread", True)])
def test_a_sync_transport_never_blocks_an_application_s_loop(kind: Any, in_main: bool) -> None:
    async def main() -> None:
        transport = SyncTransport()
        rig = Rig(transport)
        rig.host.kind = kind
        rig.capture(1)
        await rig.flush()
        assert ([name == "MainThread" for name in transport.threads]) == [in_main]

    run_virtual(main)


@virtual
async def test_a_plain_function_that_returns_an_awaitable_is_awaited() -> None:
    inner = ScriptedTransport()

    class Wrapping:
        blocking = False

        def send(self, events: Any) -> Awaitable[SendResult]:
            return inner.send(events)

    rig = Rig(Wrapping())
    rig.capture(1)
    assert await rig.flush() == (1, 0, 0)
