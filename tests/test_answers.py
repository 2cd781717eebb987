"""What the ingest's answers mean."""

from __future__ import annotations

import pytest
from support.transports import answer

from beaconhq import SendResult, answers, errors
from beaconhq.answers import Verdict

LATER = {408, 425, 429, *range(500, 600)}
WRONG = {401, 403, 404, *range(300, 400)}


@pytest.mark.parametrize("status", [*range(200, 208), 226])
def test_2xx_is_delivered(status: int) -> None:
    assert answers.judge(answer(status)) is Verdict.DELIVERED


def test_every_other_status_has_its_verdict() -> None:
    for status in range(300, 600):
        verdict = answers.judge(answer(status))
        if status in LATER:
            assert verdict is Verdict.RETRY, status
        elif status == 413:
            assert verdict is Verdict.SPLIT
        elif status in WRONG:
            assert verdict is Verdict.DROP_AND_WAIT, status
        else:
            assert verdict is Verdict.DROP, status


@pytest.mark.parametrize("status", [0, 100, 102, 700])
def test_what_is_no_answer_is_tried_again(status: int) -> None:
    assert answers.judge(SendResult(ok=False, status=status)) is Verdict.RETRY


@pytest.mark.parametrize(("status", "hint"), [(401, "ingest_key"), (403, "ingest_key"), (404, "ingest_url")])
def test_a_wrong_key_or_url_is_named(status: int, hint: str) -> None:
    error = answers.rejected(answer(status), 3)
    assert (error.reason, error.count, error.status) == ("rejected", 3, status)
    assert hint in str(error)


def test_a_redirect_is_its_own_error() -> None:
    error = answers.rejected(answer(307), 2)
    assert isinstance(error, errors.RedirectRefused)
    assert error.reason == "redirect"
    assert "another origin" in str(error)


def test_the_time_that_was_asked_for_is_in_the_error() -> None:
    error = answers.unavailable(answer(429, retry_after=30.0))
    assert isinstance(error, errors.IngestUnavailable)
    assert (error.status, error.retry_after) == (429, 30.0)


def test_no_answer_at_all_is_a_network_error() -> None:
    assert isinstance(answers.unavailable(SendResult(ok=False, status=0)), errors.NetworkError)
