"""
What an answer of the ingest means: delivered, later, smaller, or never.

A table and its words; no state. Source: docs/delivery.md, "What the answer means".
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Dict

from . import errors

if TYPE_CHECKING:
    from .transport import SendResult


class Verdict(Enum):
    """What to do with a batch after an answer."""

    DELIVERED = "delivered"
    #: Keep it and come back later.
    RETRY = "retry"
    #: Send it again in halves (413).
    SPLIT = "split"
    #: Drop it; the next one may fare better.
    DROP = "drop"
    #: Drop it, and wait before the next: the key or the URL is wrong.
    DROP_AND_WAIT = "drop_and_wait"


#: RFC 9110: the client errors that ask to come back later.
_LATER = frozenset({408, 425, 429})
_ADVICE: Dict[int, str] = {
    401: "the ingest does not know the key: check ingest_key",
    403: "the ingest does not allow this key: check ingest_key",
    404: "there is no ingest at this URL: check ingest_url",
}


def judge(answer: SendResult) -> Verdict:
    """Return what an answer asks for."""
    status = answer.status
    if answer.ok:
        return Verdict.DELIVERED
    if status == 413:
        return Verdict.SPLIT
    if status in _ADVICE or 300 <= status < 400:
        return Verdict.DROP_AND_WAIT
    if 400 <= status < 500 and status not in _LATER:
        return Verdict.DROP
    return Verdict.RETRY


def unavailable(answer: SendResult) -> errors.ExportError:
    """Put a RETRY into words."""
    if answer.status == 0:
        return errors.NetworkError("no answer from the ingest")
    message = f"the ingest asked to try again later ({answer.status})"
    return errors.IngestUnavailable(message, status=answer.status, retry_after=answer.retry_after)


def rejected(answer: SendResult, count: int) -> errors.BatchRejected:
    """Put a DROP of `count` events into words."""
    status = answer.status
    if 300 <= status < 400:
        message = (
            f"dropped {{count}} event(s): the ingest answered with a redirect ({status}), which is not "
            "followed, as the key would leave for another origin; check ingest_url"
        )
        return errors.RedirectRefused(message, count=count, status=status)
    advice = _ADVICE.get(status, "the ingest rejected the batch")
    message = f"dropped {{count}} event(s): {advice} ({status})"
    return errors.BatchRejected(message, count=count, status=status)
