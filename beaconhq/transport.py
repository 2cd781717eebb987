"""
The seam between the drain and the world: one method, `send`.

Owns the `Transport` protocol, its result, and the in-memory transport for tests and
`dry_run`. A transport moves one batch once; whether and when it goes again is the
drain's decision (`exporter.py`). The HTTP transport lives in `http.py`, which is
loaded when a drain starts and not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Awaitable, Dict, List, NamedTuple, Optional, Protocol, Union

if TYPE_CHECKING:
    from .http import HttpTransport

__all__ = ["HttpTransport", "MockTransport", "SendResult", "Transport"]


class SendResult(NamedTuple):
    """
    The answer to one POST.

    `ok` is True for a 2xx. `status` is the HTTP status, 0 where there was no answer.
    `retry_after` is what the answer's `Retry-After` asked for, in seconds, or None.
    """

    ok: bool
    status: int
    retry_after: Optional[float] = None


class Transport(Protocol):
    """
    A sink for batches; `send` may be a coroutine function or a plain one.

    `events` is a list of payload dicts (docs/delivery.md, "The wire") that must not be
    changed. The batches of this package also carry `body` (the encoded request body)
    and `idempotency_key` (the same for every attempt at the same set).

    `send` returns a `SendResult`, or raises where the batch could not be delivered; it
    then goes again, with back-off. A plain function is called in a worker thread when
    the drain runs in an application's own event loop, and inline elsewhere.
    """

    def send(self, events: List[Dict[str, Any]], /) -> Union[SendResult, Awaitable[SendResult]]:
        """Ship one batch."""
        ...


class MockTransport:
    """
    An in-memory transport for tests and `dry_run`.

    `capacity` bounds each record in events, the oldest leaving first (None: unbounded).
    """

    #: Tells the drain that `send` returns at once and needs no worker thread.
    blocking = False

    def __init__(self, capacity: Optional[int] = None) -> None:
        self._capacity = capacity
        #: Batches that were answered with a 2xx.
        self.batches: List[List[Dict[str, Any]]] = []
        #: Every batch that was tried, whatever the answer.
        self.attempts: List[List[Dict[str, Any]]] = []
        #: What `send` answers.
        self.next_result = SendResult(ok=True, status=200)
        #: What `send` raises instead, to play a network failure; None for nothing.
        self.raise_error: Optional[BaseException] = None

    @property
    def sent_events(self) -> List[Dict[str, Any]]:
        """Every accepted event, oldest first."""
        return [event for batch in self.batches for event in batch]

    def send(self, events: List[Dict[str, Any]]) -> SendResult:
        """Record the batch and answer `next_result`, or raise `raise_error`."""
        if self.raise_error is not None:
            raise self.raise_error
        batch = [dict(event) for event in events]
        self._keep(self.attempts, batch)
        if self.next_result.ok:
            self._keep(self.batches, batch)
        return self.next_result

    def _keep(self, record: List[List[Dict[str, Any]]], batch: List[Dict[str, Any]]) -> None:
        record.append(batch)
        if self._capacity is None:
            return
        excess = sum(map(len, record)) - self._capacity
        while excess > 0:
            oldest = record.pop(0)
            if len(oldest) > excess:
                record.insert(0, oldest[excess:])
            excess -= len(oldest)


def __getattr__(name: str) -> Any:
    if name == "HttpTransport":  # published here; its module imports httpx
        from .http import HttpTransport

        return HttpTransport
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
