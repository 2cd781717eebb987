"""
What is measured, in which order, how often: the whole run as a table.

Within a case the variants of all subjects take turns, round by round, in an order that is
drawn anew for each round.
"""

from __future__ import annotations

from typing import List, NamedTuple, Tuple

PEERS = ("beaconhq-0.2.0", "apitally", "sentry-sdk", "opentelemetry")
ALL = ("beaconhq", *PEERS)


class Case(NamedTuple):
    """One case; `units` of work a round (requests, events)."""

    kind: str
    name: str
    subjects: Tuple[str, ...]
    units: int
    rounds: int
    routes: int = 20
    #: Whether orjson may be used.
    fast: bool = False
    #: What the others are held against.
    reference: str = "bare"

    @property
    def key(self) -> str:
        """The name under which the results have it."""
        if self.kind == "requests" and self.name in ("asgi", "asgi-old", "fastapi"):
            return f"{self.name}/{self.routes}"
        return f"{self.name}/fast" if self.fast else self.name


def cases() -> List[Case]:
    """Return all cases but those of imports."""
    found = [
        *[
            Case("requests", name, ("beaconhq", "beaconhq-0.2.0"), 200, 150, routes)
            for name in ("asgi", "asgi-old")
            for routes in (1, 60, 300)
        ],
        *[Case("requests", "fastapi", ALL, 100, 40, routes) for routes in (1, 60, 150, 300)],
        Case("requests", "flask", ALL, 100, 60),
        Case("requests", "django-wsgi", ALL, 100, 60),
        Case("requests", "django-asgi", ALL, 50, 40),
        Case("delivery", "capture", ("beaconhq",), 20_000, 15, reference="lock+append"),
        Case("delivery", "memory", ("beaconhq",), 50_000, 3),
    ]
    for fast in (False, True):
        found += [
            Case("delivery", "encode", ("beaconhq",), 5_000, 15, fast=fast),
            Case("delivery", "drain", ("beaconhq",), 5_000, 15, fast=fast),
            Case("delivery", "sustained", ("beaconhq",), 6_000, 3, fast=fast),
            Case("delivery", "steps", ("beaconhq",), 1, 5, fast=fast),
        ]
    return [*found, Case("serving", "uvicorn", ("bare", *ALL), 4_000, 7)]
