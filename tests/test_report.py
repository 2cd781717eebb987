"""Which errors `on_error` hears of, when, and what became of those that were kept back."""

from __future__ import annotations

import asyncio
import logging
from typing import List, Tuple

import pytest
from support.events import event
from support.rig import Rig, virtual
from support.transports import ScriptedTransport, answer
from support.virtual_time import run_virtual

from beaconhq import errors
from beaconhq.report import MAX_KINDS, Reporter, log_warning

Told = Tuple[float, str, int, int]


class Rehearsal:
    """A reporter, its clock, and what it told: when, what, `times` and `count`."""

    def __init__(self, silence: float = 60.0) -> None:
        self.now = 0.0
        self.told: List[Told] = []
        self.reporter = Reporter(self._note, silence, clock=lambda: self.now)

    def _note(self, error: BaseException) -> None:
        assert isinstance(error, errors.BeaconError)
        self.told.append((self.now, type(error).__name__, error.times, getattr(error, "count", 0)))

    def fail(self, text: str = "refused") -> None:
        self.reporter.report(errors.NetworkError(text))

    def lose(self, count: int) -> None:
        self.reporter.report(errors.BatchRejected("dropped {count}", count=count, status=400))


# -- coalescing -------------------------------------------------------------------------


def test_an_error_that_repeats_is_told_ever_more_rarely_with_how_often_it_happened() -> None:
    rehearsal = Rehearsal()
    for second in range(0, 3600, 10):
        rehearsal.now = second
        rehearsal.fail()
    assert [(at, times) for at, _, times, _ in rehearsal.told] == [
        (0, 1),
        (60, 6),
        (180, 12),
        (420, 24),
        (900, 48),
        (1860, 96),
    ]


def test_it_is_told_once_an_hour_at_least() -> None:
    rehearsal = Rehearsal()
    for minute in range(24 * 60):
        rehearsal.now = 60 * minute
        rehearsal.fail()
    gaps = [later[0] - sooner[0] for sooner, later in zip(rehearsal.told, rehearsal.told[1:])]
    assert max(gaps) == 3600
    assert sum(times for _, _, times, _ in rehearsal.told) > 24 * 60 - 60


@pytest.mark.parametrize(
    "other",
    [
        errors.NetworkError("reset"),
        errors.ExportTimeout("refused"),
        errors.IngestUnavailable("later (503)", status=503),
        errors.BatchRejected("dropped {count}", count=1, status=400),
    ],
    ids=repr,
)
def test_a_change_is_told_at_once(other: errors.BeaconError) -> None:
    rehearsal = Rehearsal()
    rehearsal.fail()
    rehearsal.now = 1
    rehearsal.reporter.report(other)
    assert [at for at, *_ in rehearsal.told] == [0, 1]


def test_two_errors_in_turn_are_both_told_rarely() -> None:
    rehearsal = Rehearsal()
    for second in range(120):
        rehearsal.now = second
        rehearsal.fail("refused" if second % 2 else "reset")
    assert [at for at, *_ in rehearsal.told] == [0, 1, 60, 61]


def test_after_a_delivery_a_failure_is_news_again() -> None:
    rehearsal = Rehearsal()
    for second in range(1000):  # the silence has grown to 16 minutes
        rehearsal.now = second
        rehearsal.fail()
    told = len(rehearsal.told)
    rehearsal.reporter.delivered()
    rehearsal.now = 1010
    rehearsal.fail()
    assert rehearsal.told[told:] == [(1010, "NetworkError", 100, 0)]


def test_an_ingest_that_fails_now_and_then_is_told_once_a_minute() -> None:
    rehearsal = Rehearsal()
    for second in range(600):
        rehearsal.now = second
        rehearsal.fail()
        rehearsal.reporter.delivered()
    assert [at for at, *_ in rehearsal.told] == list(range(0, 600, 60))


def test_a_silence_may_be_longer_than_an_hour() -> None:
    """Where the cadence is: a full buffer is told at most once per `flush_interval`."""
    rehearsal = Rehearsal(silence=7200)
    for second in range(0, 30_000, 100):
        rehearsal.now = second
        rehearsal.fail()
    assert [at for at, *_ in rehearsal.told] == [0, 7200, 14_400, 21_600, 28_800]


# -- losses -----------------------------------------------------------------------------


def test_the_counts_of_losses_that_were_kept_back_are_summed_up() -> None:
    rehearsal = Rehearsal()
    for second in range(100):
        rehearsal.now = second
        rehearsal.lose(second)
    rehearsal.reporter.report_losses(at_once=True)
    assert sum(count for *_, count in rehearsal.told) == sum(range(100))
    assert len(rehearsal.told) == 3


def test_a_loss_that_was_kept_back_is_told_though_nothing_else_happens() -> None:
    rehearsal = Rehearsal()
    rehearsal.lose(1)
    rehearsal.lose(2)
    rehearsal.lose(3)
    rehearsal.now = 59
    rehearsal.reporter.report_losses()
    rehearsal.now = 61
    rehearsal.reporter.report_losses()
    rehearsal.reporter.report_losses(at_once=True)
    assert rehearsal.told == [(0, "BatchRejected", 1, 1), (61, "BatchRejected", 2, 5)]


def test_a_failure_that_was_kept_back_is_no_news_once_it_is_over() -> None:
    rehearsal = Rehearsal()
    rehearsal.fail()
    rehearsal.fail()
    rehearsal.now = 100
    rehearsal.reporter.report_losses(at_once=True)
    assert len(rehearsal.told) == 1


def test_endless_kinds_of_errors_take_no_endless_memory_and_lose_no_count() -> None:
    rehearsal = Rehearsal()
    for number in range(3 * MAX_KINDS):
        for _ in range(2):
            rehearsal.reporter.report(errors.InvalidEvent(f"{number}: {{count}}", count=1))
    assert len(rehearsal.reporter._kinds) == MAX_KINDS
    rehearsal.reporter.report_losses(at_once=True)
    assert sum(count for *_, count in rehearsal.told) == 6 * MAX_KINDS


# -- words ------------------------------------------------------------------------------


def test_the_text_says_how_often_and_how_many() -> None:
    error = errors.NetworkError("refused")
    assert (str(error), repr(error)) == ("refused", "NetworkError('refused')")
    error.times = 7
    assert str(error) == "refused (7 times since it was last reported)"
    loss = errors.EventTooLarge("dropped {count} event(s)", count=3)
    loss.times = 2
    assert (str(loss), repr(loss)) == ("dropped 3 event(s)", "EventTooLarge('dropped 3 event(s)')")


def test_the_debug_log_is_as_quiet(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    reporter = Reporter(log_warning, clock=lambda: now[0])
    for second in range(61):
        now[0] = second
        reporter.report(errors.NetworkError("refused"))
    assert [(record.name, record.levelno, record.getMessage()) for record in caplog.records] == [
        ("beaconhq", logging.WARNING, "NetworkError: refused"),
        ("beaconhq", logging.WARNING, "NetworkError: refused (60 times since it was last reported)"),
    ]


# -- the hook ---------------------------------------------------------------------------


@pytest.mark.parametrize("raised", [ValueError, asyncio.CancelledError, GeneratorExit])
def test_what_the_hook_raises_stays_in_the_reporter(raised: type[BaseException]) -> None:
    def explode(error: BaseException) -> None:
        raise raised

    reporter = Reporter(explode)
    reporter.report(errors.NetworkError("refused"))
    assert reporter.last_error == "NetworkError: refused"


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_passes(raised: type[BaseException]) -> None:
    def explode(error: BaseException) -> None:
        raise raised

    reporter = Reporter(explode)
    with pytest.raises(raised):
        reporter.report(errors.NetworkError("refused"))


# -- with the drain ---------------------------------------------------------------------


@virtual
async def test_an_ingest_that_is_down_for_an_hour_is_told_six_times() -> None:
    transport = ScriptedTransport(then=answer(503))
    rig = Rig(transport)
    rig.capture(1)
    await rig.at(3600)
    assert len(transport.attempts) > 60
    assert [type(error) for error in rig.reported] == [errors.IngestUnavailable] * 6
    told = [getattr(error, "times", 0) for error in rig.reported]
    assert told[0] == 1
    assert told[-1] > 10


@virtual
async def test_an_outage_after_a_recovery_is_told_at_once() -> None:
    transport = ScriptedTransport(then=answer(503))
    rig = Rig(transport)
    rig.capture(1)
    await rig.at(3500)  # the next report is due at 3780
    told = len(rig.reported)
    transport.then = answer(202)
    await rig.at(3600)
    assert rig.queue.delivered == 1
    transport.then = answer(503)
    rig.capture(1)
    await rig.at(3610)
    assert len(rig.reported) == told + 1


@pytest.mark.parametrize("status", [400, 401, 307])
def test_what_was_told_adds_up_to_what_was_lost(status: int) -> None:
    async def main() -> None:
        transport = ScriptedTransport(then=answer(status))
        rig = Rig(transport, capacity=50, eager=10)
        for step in range(3000):
            rig.capture(4, start=4 * step)
            if step % 100 == 0:
                rig.queue.put(None)
            await rig.at(0.1 * (step + 1))
        await rig.stop()
        by_reason = dict.fromkeys(rig.queue.dropped, 0)
        for error in rig.reported:
            assert isinstance(error, errors.EventsDropped)
            by_reason[error.reason] += error.count
        assert by_reason == rig.queue.dropped
        assert sum(by_reason.values()) == 12_030
        # In five minutes: 0, 1 and 3 min and the end, for each of up to three reasons.
        assert len(rig.reported) <= 3 * 4

    run_virtual(main)


@virtual
async def test_on_error_may_capture_each_time() -> None:
    transport = ScriptedTransport(then=answer(400))
    rig = Rig(transport, eager=1)

    def capture_more(error: BaseException) -> None:
        rig.reported.append(error)
        rig.queue.put(event(len(rig.reported)))

    rig.exporter._reporter.on_error = capture_more
    rig.capture(1)
    await rig.at(600)
    await rig.stop()
    assert 2 <= len(transport.attempts) <= 10
