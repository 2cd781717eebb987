"""
Which routes of an app were called, by whom, and which were not; over all stored events.

Owns the comparison. The declared routes come from `app_routes`, the called ones from the rollup.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

from beaconhq.wire import UNMATCHED

from .app_routes import ANY_METHOD, AppRoutes
from .summary import ConsumerCount, iso

if TYPE_CHECKING:
    import sqlite3

#: The most consumers that are named per route.
MAX_CALLERS = 5


@dataclass(frozen=True)
class CoveredRoute:
    """One declared route and who called it; the busiest callers first."""

    method: str
    route: str
    deprecated: bool
    count: int
    callers: Tuple[ConsumerCount, ...]
    caller_count: int
    last_seen: Optional[str]  #: None: never


@dataclass(frozen=True)
class Coverage:
    """The routes of one app, and the called routes that it does not have."""

    app: str
    routes: Tuple[CoveredRoute, ...]  #: in the app's own order
    foreign: Tuple[Tuple[str, str], ...]  #: method and route; of another app or of an earlier version


class _Calls:
    def __init__(self) -> None:
        self.count = 0
        self.last_ms: Optional[int] = None
        self.by_consumer: Dict[str, int] = defaultdict(int)

    def add(self, last_ms: int, consumer: Optional[str], count: int) -> None:
        self.count += count
        self.last_ms = last_ms if self.last_ms is None else max(self.last_ms, last_ms)
        if consumer is not None:
            self.by_consumer[consumer] += count


def read_coverage(connection: sqlite3.Connection, declared: AppRoutes) -> Coverage:
    """Compare what is declared with what was called. Raises `sqlite3.Error`."""
    known = {(route.method, route.route) for route in declared.routes}
    calls: Dict[Tuple[str, str], _Calls] = defaultdict(_Calls)
    foreign: List[Tuple[str, str]] = []
    rows = connection.execute(
        "SELECT method, route, last_ms, name, SUM(count) FROM rollup"
        " JOIN routes ON routes.id = route_id LEFT JOIN consumers ON consumers.id = consumer_id"
        " WHERE level = 0 AND slot = 0 GROUP BY route_id, consumer_id ORDER BY route, method"
    )
    for method, route, last_ms, consumer, count in rows:
        # A HEAD is answered by the route of the GET.
        spelled = [(method, route), (ANY_METHOD, route)] + ([("GET", route)] if method == "HEAD" else [])
        key = next((each for each in spelled if each in known), None)
        if key is not None:
            calls[key].add(last_ms, consumer, count)
        elif route != UNMATCHED and (method, route) not in foreign[-1:]:
            foreign.append((method, route))
    return Coverage(
        app=declared.app,
        routes=tuple(
            _covered(each.method, each.route, each.deprecated, calls.get((each.method, each.route), _Calls()))
            for each in declared.routes
        ),
        foreign=tuple(foreign),
    )


def _covered(method: str, route: str, deprecated: bool, calls: _Calls) -> CoveredRoute:
    busiest: List[Tuple[str, int]] = sorted(calls.by_consumer.items(), key=lambda item: (-item[1], item[0]))
    return CoveredRoute(
        method=method,
        route=route,
        deprecated=deprecated,
        count=calls.count,
        callers=tuple(ConsumerCount(name, count) for name, count in busiest[:MAX_CALLERS]),
        caller_count=len(busiest),
        last_seen=None if calls.last_ms is None else iso(calls.last_ms),
    )
