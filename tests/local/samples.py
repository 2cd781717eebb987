"""Events and bodies as the SDK sends them, with one thing changed at a time."""

from __future__ import annotations

import json
from typing import Any, Dict, List

from hypothesis import settings

from beaconhq.local.validation import ValidEvent, parse_batch

#: For property tests: a busy machine must not fail an example that took long.
unhurried = settings(deadline=None)

Payload = Dict[str, Any]


def payload(**changes: object) -> Payload:
    """Return a valid event, with the fields in `changes` replaced."""
    return {
        "ts": "2026-06-03T12:00:00.000+00:00",
        "method": "GET",
        "route": "/orders/{order_id}",
        "path": "/orders/7",
        "status": 200,
        "duration_ms": 12,
        "consumer": "mobile-app",
        "error": None,
        **changes,
    }


def body(*payloads: object) -> bytes:
    """Return the body of one POST."""
    return json.dumps({"events": payloads}).encode()


def events(*payloads: Payload) -> List[ValidEvent]:
    """Return what the validation makes of these payloads."""
    return parse_batch(body(*payloads))
