"""
The event: what one HTTP request becomes, before it is cleaned for the wire.

Owns the public `BeaconEvent` and the `Record` that adapters queue. It does not
check or clean anything: that is the drain's work (`wire.py`), so that the request
path pays nothing for it.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Optional, Tuple

#: What many requests have in common: method, route, status, error. Adapters share one for
#: all requests that are alike, which keeps a waiting event at 112 bytes beyond its path.
Kind = Tuple[str, str, int, Optional[str]]
#: What an adapter queues for one request: completed at (seconds since the epoch), kind, path,
#: duration (whole milliseconds), consumer. It takes a third of the time of a `BeaconEvent` to make.
Record = Tuple[float, Kind, str, int, Optional[str]]


def utc_now_iso() -> str:
    """Return the current UTC time as ISO 8601 with offset, e.g. `2026-06-03T12:00:00.000000+00:00`."""
    return datetime.now(timezone.utc).isoformat()


class BeaconEvent:
    """
    One captured HTTP request.

    The fields are those of the ingest contract. Values outside its limits are
    repaired when the event is sent (clamped, cut, replaced); an event beyond repair
    is dropped alone and reported as `beaconhq.errors.InvalidEvent`.
    """

    __slots__ = ("consumer", "duration_ms", "error", "method", "path", "route", "status", "ts")
    __match_args__ = ("ts", "method", "route", "path", "status", "duration_ms", "consumer", "error")
    __hash__ = None  # type: ignore[assignment]  # mutable, compared by value

    def __init__(
        self,
        ts: str,
        method: str,
        route: str,
        path: str,
        status: int,
        duration_ms: int,
        consumer: str | None = None,
        error: str | None = None,
    ) -> None:
        #: When the request completed: ISO 8601 with offset (`utc_now_iso()` makes one).
        self.ts = ts
        #: HTTP method, 1 to 16 characters.
        self.method = method
        #: Low-cardinality route template such as `/users/{id}`, 1 to 2048 UTF-16 units.
        self.route = route
        #: Concrete path without the query string, 1 to 4096 UTF-16 units.
        self.path = path
        #: HTTP status, 100 to 599.
        self.status = status
        #: Duration in whole milliseconds, 0 or more.
        self.duration_ms = duration_ms
        #: Who called (an API key's id, a user, a tenant), at most 256 UTF-16 units, or None.
        self.consumer = consumer
        #: What went wrong, at most 8192 UTF-16 units, or None.
        self.error = error

    def to_payload(self) -> dict[str, Any]:
        """Return the JSON object of the ingest contract, with the values as they are."""
        return {name: getattr(self, name) for name in self.__match_args__}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BeaconEvent):
            return NotImplemented
        return self.to_payload() == other.to_payload()

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
        return f"{type(self).__name__}({fields})"
