"""
What the page shows: the queries over the rollup, and the frozen values they return.

Owns reading, as `summary` does for the terminal, and is handed an open connection. It reads counts per slot
of time, never all events; single events only for the drill-down, by index. Percentiles are those of the
latency buckets: exact below 32 ms, within 3.2 % above.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Tuple

from .advice import advise
from .rollup import LEVELS, bucket_start, percentile
from .summary import FIRST_ERROR_STATUS, Totals, iso, read_totals

if TYPE_CHECKING:
    import sqlite3

    from .advice import Advice

#: Seconds that each window of the page is long; None is all there is.
WINDOWS: Dict[str, Optional[int]] = {
    "5m": 300,
    "15m": 900,
    "1h": 3600,
    "6h": 21_600,
    "24h": 86_400,
    "all": None,
}
DEFAULT_WINDOW = "15m"
#: The most routes and consumers that a view names, the busiest ones.
MAX_ROUTES = 300
MAX_CONSUMERS = 50
#: The most single events in each list of a drill-down.
MAX_EXAMPLES = 10

# Points that a chart has at most, and where there were no events earlier, at least.
_MAX_POINTS = 180
_FEWEST_POINTS = 12
# Fewer bars than buckets: a drill-down's histogram has four a doubling, as wide as a screen has room for.
_BARS_PER_OCTAVE = 4

_Counts = Dict[int, int]
_ERROR_CLASS = FIRST_ERROR_STATUS // 100


class Question(NamedTuple):
    """What the page asks for: the filters, and the route that is open."""

    window: str = DEFAULT_WINDOW
    status_class: Optional[int] = None  #: 1 to 5
    consumer: Optional[str] = None  #: "" stands for requests without one
    route: Optional[Tuple[str, str]] = None  #: method and route of the drill-down


@dataclass(frozen=True)
class Series:
    """The charts: one value per point of time; None where a percentile has nothing to be of."""

    start_ms: int
    step_ms: int
    requests: Tuple[int, ...]
    errors: Tuple[int, ...]
    p50_ms: Tuple[Optional[int], ...]
    p95_ms: Tuple[Optional[int], ...]
    p99_ms: Tuple[Optional[int], ...]


@dataclass(frozen=True)
class Numbers:
    """Counts and percentiles of some requests; the percentiles are None where there are none."""

    count: int
    errors: int  #: with a status of 500 or more
    p50_ms: Optional[int]
    p95_ms: Optional[int]
    p99_ms: Optional[int]


@dataclass(frozen=True)
class RouteRow:
    """One row of the table of routes."""

    method: str
    route: str
    numbers: Numbers
    last_seen: str  #: of any request to the route, ISO 8601 in UTC


@dataclass(frozen=True)
class ConsumerRow:
    """One consumer; None are the requests without one."""

    consumer: Optional[str]
    numbers: Numbers


@dataclass(frozen=True)
class Example:
    """One stored event of a drill-down."""

    ts: str
    path: str
    status: int
    duration_ms: int
    consumer: Optional[str]
    error: Optional[str]


@dataclass(frozen=True)
class Detail:
    """The drill-down of one route, under the same filters."""

    method: str
    route: str
    numbers: Numbers
    classes: Dict[int, int]  #: requests by the first digit of their status
    bars: Tuple[Tuple[int, int, int], ...]  #: durations from (ms), up to (ms), requests
    consumers: Tuple[ConsumerRow, ...]
    failures: Tuple[Example, ...]  #: the latest with a status of 400 or more
    slowest: Tuple[Example, ...]


@dataclass(frozen=True)
class View:
    """Everything that the page shows at one moment."""

    now_ms: int
    totals: Totals
    numbers: Numbers
    series: Series
    route_count: int  #: routes in the window, also those beyond `MAX_ROUTES`
    routes: Tuple[RouteRow, ...]
    consumer_count: int
    consumers: Tuple[ConsumerRow, ...]  #: whatever consumer is chosen: the others are there to choose
    advice: Tuple[Advice, ...]
    detail: Optional[Detail]


def read_view(connection: sqlite3.Connection, question: Question, now: Optional[float] = None) -> View:
    """Answer the page, as of `now` (seconds since 1970; None: the clock). Raises `sqlite3.Error`."""
    reader = _Reader(connection, question, time.time() if now is None else now)
    routes, numbers = reader.routes()
    consumers, consumer_count = reader.consumers()
    return View(
        now_ms=reader.now_ms,
        totals=read_totals(connection),
        numbers=numbers,
        series=reader.series(),
        route_count=len(routes),
        routes=routes[:MAX_ROUTES],
        consumer_count=consumer_count,
        consumers=consumers,
        advice=advise(connection, [(row.method, row.route, row.numbers.count) for row in routes]),
        detail=None if question.route is None else reader.detail(*question.route),
    )


class _Tally:
    """Counts by class and bucket, while rows are read."""

    def __init__(self) -> None:
        self.classes: _Counts = defaultdict(int)
        self.buckets: _Counts = defaultdict(int)

    def add(self, status_class: int, bucket: int, count: int) -> None:
        self.classes[status_class] += count
        self.buckets[bucket] += count

    def numbers(self) -> Numbers:
        if not self.buckets:
            return Numbers(0, 0, None, None, None)
        p50, p95, p99 = (percentile(self.buckets, percent) for percent in (50, 95, 99))
        return Numbers(sum(self.buckets.values()), self.classes[_ERROR_CLASS], p50, p95, p99)


class _Reader:
    """One question put to one connection: the level, the span of time and the filters."""

    def __init__(self, connection: sqlite3.Connection, question: Question, now: float) -> None:
        self._connection = connection
        self._question = question
        self.now_ms = int(now * 1000)
        seconds = WINDOWS[question.window]
        #: The level that has the window's sums in the fewest rows, and the one for the charts.
        self._level = 0
        self._series_level = LEVELS[-1]
        self._since_ms: Optional[int] = None
        if seconds is not None:
            self._level = self._series_level = max(
                level for level in LEVELS if level == LEVELS[1] or seconds >= 60 * level
            )
            step_ms = 1000 * self._level
            self._since_ms = (self.now_ms // step_ms + 1) * step_ms - 1000 * seconds
        self._consumer_id = self._find_consumer()

    def _find_consumer(self) -> Optional[int]:
        if not self._question.consumer:
            return None if self._question.consumer is None else 0
        found = self._connection.execute(
            "SELECT id FROM consumers WHERE name = ?", (self._question.consumer,)
        ).fetchone()
        return -1 if found is None else int(found[0])

    def _rows(
        self,
        columns: str,
        *,
        level: Optional[int] = None,
        consumer: bool = True,
        route_id: Optional[int] = None,
    ) -> List[Tuple[int, ...]]:
        """Sum the counts under the filters by `columns`, which come first in each row."""
        level = self._level if level is None else level
        conditions, values = ["level = ?"], [level]
        if self._since_ms is not None:
            conditions.append("slot >= ?")
            values.append(self._since_ms // (1000 * level))
        if self._question.status_class is not None:
            conditions.append("class = ?")
            values.append(self._question.status_class)
        if consumer and self._consumer_id is not None:
            conditions.append("consumer_id = ?")
            values.append(self._consumer_id)
        if route_id is not None:
            conditions.append("route_id = ?")
            values.append(route_id)
        # Constants all: the values are bound.
        statement = (
            f"SELECT {columns}, SUM(count) FROM rollup WHERE {' AND '.join(conditions)} GROUP BY {columns}"  # noqa: S608
        )
        return self._connection.execute(statement, values).fetchall()

    def series(self) -> Series:
        start_ms, step_ms, points = self._axis()
        tallies = [_Tally() for _ in range(points)]
        level_ms = 1000 * self._series_level
        for slot, status_class, bucket, count in self._rows("slot, class, bucket", level=self._series_level):
            place = (slot * level_ms - start_ms) // step_ms
            if 0 <= place < points:
                tallies[place].add(status_class, bucket, count)
        numbers = [tally.numbers() for tally in tallies]
        return Series(
            start_ms=start_ms,
            step_ms=step_ms,
            requests=tuple(each.count for each in numbers),
            errors=tuple(each.errors for each in numbers),
            p50_ms=tuple(each.p50_ms for each in numbers),
            p95_ms=tuple(each.p95_ms for each in numbers),
            p99_ms=tuple(each.p99_ms for each in numbers),
        )

    def _axis(self) -> Tuple[int, int, int]:
        """Return the start, the step (both in ms) and the number of points of the charts."""
        level_ms = 1000 * self._series_level
        ends = [
            self._connection.execute(
                f"SELECT {end}(slot) FROM rollup WHERE level = ?",  # noqa: S608 - MIN or MAX
                (self._series_level,),
            ).fetchone()[0]
            for end in ("MIN", "MAX")
        ]
        first_ms, last_ms = (self.now_ms if end is None else end * level_ms for end in ends)
        if self._since_ms is not None:
            # Before the first event nobody counted: that is not the same as no requests.
            last_ms = self.now_ms
            shortest = last_ms // level_ms * level_ms - (_FEWEST_POINTS - 1) * level_ms
            first_ms = max(self._since_ms, min(first_ms, shortest))
        slots = (last_ms - first_ms) // level_ms + 1
        step = -(-slots // _MAX_POINTS)
        return first_ms, step * level_ms, -(-slots // step)

    def routes(self) -> Tuple[Tuple[RouteRow, ...], Numbers]:
        """Return the routes, the busiest first, and the numbers of all of them together."""
        tallies: Dict[int, _Tally] = defaultdict(_Tally)
        together = _Tally()
        for route_id, *row in self._rows("route_id, class, bucket"):
            tallies[route_id].add(*row)
            together.add(*row)
        names = self._connection.execute("SELECT id, method, route, last_ms FROM routes")
        rows = [
            RouteRow(method, route, tallies[route_id].numbers(), iso(last_ms))
            for route_id, method, route, last_ms in names
            if route_id in tallies
        ]
        rows.sort(key=lambda row: (-row.numbers.count, row.route, row.method))
        return tuple(rows), together.numbers()

    def consumers(self, route_id: Optional[int] = None) -> Tuple[Tuple[ConsumerRow, ...], int]:
        """Return the busiest consumers and the number of all; those of one route, or of all routes."""
        tallies: Dict[int, _Tally] = defaultdict(_Tally)
        for consumer_id, *row in self._rows(
            "consumer_id, class, bucket", consumer=route_id is not None, route_id=route_id
        ):
            tallies[consumer_id].add(*row)
        busiest = sorted(tallies.items(), key=lambda item: -sum(item[1].buckets.values()))
        # The names of the rest are not looked up: a caller may have sent a new one with each request.
        rows = [ConsumerRow(self._name(each), tally.numbers()) for each, tally in busiest[:MAX_CONSUMERS]]
        return tuple(rows), len(busiest)

    def _name(self, consumer_id: int) -> Optional[str]:
        found = self._connection.execute("SELECT name FROM consumers WHERE id = ?", (consumer_id,)).fetchone()
        return None if found is None else str(found[0])

    def detail(self, method: str, route: str) -> Optional[Detail]:
        found = self._connection.execute(
            "SELECT id FROM routes WHERE method = ? AND route = ?", (method, route)
        ).fetchone()
        if found is None:
            return None
        (route_id,) = found
        tally = _Tally()
        for row in self._rows("class, bucket", route_id=route_id):
            tally.add(*row)
        return Detail(
            method=method,
            route=route,
            numbers=tally.numbers(),
            classes=dict(tally.classes),
            bars=_bars(tally.buckets),
            consumers=self.consumers(route_id)[0],
            failures=self._examples(method, route, "status >= 400", "ts_ms DESC"),
            slowest=self._examples(
                method, route, f"duration_ms >= {_floor(tally.buckets)}", "duration_ms DESC"
            ),
        )

    def _examples(self, method: str, route: str, condition: str, order: str) -> Tuple[Example, ...]:
        conditions = ["method = ?", "route = ?", condition]
        bound: List[object] = [method, route]
        if self._since_ms is not None:
            conditions.append("ts_ms >= ?")
            bound.append(self._since_ms)
        if self._question.status_class is not None:
            conditions.append("status BETWEEN ? AND ?")
            bound += [100 * self._question.status_class, 100 * self._question.status_class + 99]
        if self._question.consumer is not None:
            conditions.append("consumer = ?" if self._question.consumer else "COALESCE(consumer, '') = ''")
            bound += [self._question.consumer] if self._question.consumer else []
        found = self._connection.execute(
            "SELECT ts_ms, path, status, duration_ms, consumer, error FROM events"  # noqa: S608 - constants
            f" WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT {MAX_EXAMPLES}",
            bound,
        )
        return tuple(Example(iso(ts_ms), *rest) for ts_ms, *rest in found)


def _floor(buckets: _Counts) -> int:
    """Return a duration (ms) that the slowest `MAX_EXAMPLES` reach: below it, no event need be looked at."""
    wanted = MAX_EXAMPLES
    for bucket in sorted(buckets, reverse=True):
        wanted -= buckets[bucket]
        if wanted <= 0:
            return bucket_start(bucket)
    return 0


def _bars(buckets: _Counts) -> Tuple[Tuple[int, int, int], ...]:
    """Return the histogram without gaps, four bars a doubling: (from, up to, requests), in ms."""
    if not buckets:
        return ()
    counts: _Counts = defaultdict(int)
    for bucket, count in buckets.items():
        counts[_bar(bucket_start(bucket))] += count
    low, high = min(counts), max(counts)
    return tuple((_bar_start(bar), _bar_start(bar + 1), counts[bar]) for bar in range(low, high + 1))


def _bar(duration_ms: int) -> int:
    if duration_ms < 2 * _BARS_PER_OCTAVE:
        return duration_ms
    octave = duration_ms.bit_length() - 3
    return octave * _BARS_PER_OCTAVE + (duration_ms >> octave)


def _bar_start(bar: int) -> int:
    if bar < 2 * _BARS_PER_OCTAVE:
        return bar
    octave, place = divmod(bar, _BARS_PER_OCTAVE)
    return (place + _BARS_PER_OCTAVE) << (octave - 1)
