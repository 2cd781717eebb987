"""How long the drain waits after a failure."""

from __future__ import annotations

from typing import List

import pytest

from beaconhq.backoff import Backoff


def ceilings(first: float, count: int, jitter: float = 0.999999) -> List[float]:
    backoff, now, delays = Backoff(first, lambda: jitter), 0.0, []
    for _ in range(count):
        backoff.fail(now)
        delays.append(round(backoff.until - now, 1))
        now = backoff.until
    return delays


def test_delays_double_up_to_a_minute() -> None:
    assert ceilings(5, 6) == [5, 10, 20, 40, 60, 60]


def test_jitter_takes_at_most_three_quarters_of_a_delay() -> None:
    assert ceilings(5, 4, jitter=0.0) == [1.2, 2.5, 5, 10]


def test_a_first_delay_above_a_minute_stays() -> None:
    assert ceilings(300, 3) == [300, 300, 300]


def test_a_thousand_failures_overflow_nothing() -> None:
    assert ceilings(0.001, 1100)[-1] == 60


def test_a_success_starts_over() -> None:
    backoff = Backoff(5, lambda: 0.0)
    backoff.fail(0)
    backoff.reset()
    assert backoff.until < 0
    backoff.fail(100)
    assert backoff.until == 101.25


def test_a_forced_attempt_does_not_lengthen_the_delay() -> None:
    backoff = Backoff(5, lambda: 0.0)
    backoff.fail(0)
    backoff.fail(1)
    assert (backoff.until, backoff.failures) == (1.25, 1)


@pytest.mark.parametrize(("asked", "delay"), [(7, 7), (1, 1), (300, 300), (4000, 300)])
def test_retry_after_is_honoured_up_to_five_minutes(asked: float, delay: float) -> None:
    backoff = Backoff(5, lambda: 0.0)
    backoff.fail(0, asked)
    assert backoff.until == delay
    assert backoff.firm


def test_retry_after_is_spread_but_never_early() -> None:
    backoff = Backoff(5, lambda: 0.999)
    backoff.fail(0, 100)
    assert 100 < backoff.until <= 110


def test_retry_after_zero_means_the_usual_delay() -> None:
    backoff = Backoff(5, lambda: 0.0)
    backoff.fail(0, 0)
    assert (backoff.until, backoff.firm) == (1.25, False)
