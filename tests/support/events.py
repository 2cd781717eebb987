"""Events to capture, and what they look like on the wire."""

from __future__ import annotations

from typing import Any, Iterable, List

from beaconhq import BeaconEvent


def event(number: int = 0, **fields: Any) -> BeaconEvent:
    """Make a valid event that can be told apart by its path."""
    values = {
        "ts": "2026-06-03T12:00:00.000+00:00",
        "method": "GET",
        "route": "/items/{id}",
        "path": f"/items/{number:05d}",
        "status": 200,
        "duration_ms": 12,
        **fields,
    }
    return BeaconEvent(**values)


def numbers(payloads: Iterable[Any]) -> List[int]:
    """Return the numbers of delivered events, in order."""
    return [int(payload["path"].rsplit("/", 1)[1]) for payload in payloads]
