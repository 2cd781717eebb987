from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Dict, List, Optional

import pytest

from beaconhq.local.view import MAX_CONSUMERS, MAX_EXAMPLES, MAX_ROUTES, WINDOWS, Question, View, read_view

from .samples import events, payload

if TYPE_CHECKING:
    from beaconhq.local.store import EventStore

NOW = 1_780_488_000.0  # 2026-06-03T12:00:00Z


def view(store: EventStore, question: Optional[Question] = None, *, now: float = NOW + 1) -> View:
    return store.read(lambda connection: read_view(connection, question or Question(), now))


class TestWindow:
    @pytest.mark.parametrize(
        ("window", "count"), [("5m", 1), ("15m", 2), ("1h", 3), ("6h", 4), ("24h", 5), ("all", 6)]
    )
    def test_it_counts_what_is_in_it(self, store: EventStore, window: str, count: int) -> None:
        store.add(
            events(
                payload(ts="2026-06-03T11:59:00Z"),
                payload(ts="2026-06-03T11:50:00Z"),
                payload(ts="2026-06-03T11:05:00Z"),
                payload(ts="2026-06-03T07:00:00Z"),
                payload(ts="2026-06-02T13:00:00Z"),
                payload(ts="2026-05-01T00:00:00Z"),
            )
        )
        shown = view(store, Question(window))
        assert shown.numbers.count == sum(shown.series.requests) == count
        assert [row.numbers.count for row in shown.routes] == [count]
        assert shown.totals.stored == 6

    @pytest.mark.parametrize("window", WINDOWS)
    def test_charts_have_a_bounded_number_of_points_up_to_now(self, store: EventStore, window: str) -> None:
        store.add(events(payload(ts="1999-01-01T00:00:00Z"), payload(ts="2026-06-03T12:00:00Z")))
        series = view(store, Question(window)).series
        assert 12 <= len(series.requests) <= 180
        assert series.requests[-1] == 1
        assert series.start_ms + len(series.requests) * series.step_ms > 1000 * NOW

    def test_the_axis_begins_with_the_first_event(self, store: EventStore) -> None:
        store.add(events(payload(ts="2026-06-03T11:58:00Z")))
        series = view(store).series
        assert series.start_ms == 1000 * (NOW - 120)
        assert series.requests[0] == 1

    @pytest.mark.parametrize("window", WINDOWS)
    def test_nothing_stored(self, store: EventStore, window: str) -> None:
        shown = view(store, Question(window, route=("GET", "/x")))
        assert (shown.numbers.count, shown.numbers.p50_ms) == (0, None)
        assert (shown.routes, shown.consumers, shown.advice, shown.detail) == ((), (), (), None)
        assert set(shown.series.requests) == {0}


def some(store: EventStore) -> None:
    store.add(
        events(
            payload(route="/a", consumer="x", duration_ms=10),
            payload(route="/a", consumer="x", duration_ms=20, status=500, error="E: 1", path="/a/1"),
            payload(
                route="/a", consumer="y", duration_ms=30, status=404, path="/a/2", ts="2026-06-03T11:59:59Z"
            ),
            payload(route="/b", consumer=None, duration_ms=40),
            payload(route="/b", consumer="", duration_ms=50),
        )
    )


class TestFilters:
    def test_by_status(self, store: EventStore) -> None:
        some(store)
        shown = view(store, Question(status_class=5))
        assert [(row.route, row.numbers.count, row.numbers.errors) for row in shown.routes] == [("/a", 1, 1)]
        assert sum(shown.series.requests) == sum(shown.series.errors) == 1

    @pytest.mark.parametrize(
        ("consumer", "counts"),
        [("x", {"/a": 2}), ("y", {"/a": 1}), ("", {"/b": 2}), ("nobody knows", {})],
    )
    def test_by_consumer(self, store: EventStore, consumer: str, counts: Dict[str, int]) -> None:
        some(store)
        shown = view(store, Question(consumer=consumer))
        assert {row.route: row.numbers.count for row in shown.routes} == counts
        # All are there to choose from.
        assert {row.consumer for row in shown.consumers} == {"x", "y", None}

    def test_lists_are_cut_and_the_numbers_are_not(self, store: EventStore) -> None:
        many = [payload(route=f"/r{n}", consumer=f"c{n}") for n in range(MAX_ROUTES + 5)]
        store.add(events(*many))
        shown = view(store)
        assert (len(shown.routes), shown.route_count) == (MAX_ROUTES, MAX_ROUTES + 5)
        assert (len(shown.consumers), shown.consumer_count) == (MAX_CONSUMERS, MAX_ROUTES + 5)
        assert shown.numbers.count == MAX_ROUTES + 5


class TestDetail:
    def test_one_route_in_full(self, store: EventStore) -> None:
        some(store)
        detail = view(store, Question(route=("GET", "/a"))).detail
        assert detail is not None
        assert (detail.numbers.count, detail.numbers.errors, detail.numbers.p50_ms) == (3, 1, 20)
        assert detail.classes == {2: 1, 4: 1, 5: 1}
        assert [(each.path, each.status) for each in detail.failures] == [("/a/1", 500), ("/a/2", 404)]
        assert [each.duration_ms for each in detail.slowest] == [30, 20, 10]
        assert {row.consumer: row.numbers.count for row in detail.consumers} == {"x": 2, "y": 1}
        assert sum(bar[2] for bar in detail.bars) == 3
        assert all(one[1] == other[0] for one, other in zip(detail.bars, detail.bars[1:]))
        assert detail.bars[0][0] <= 10
        assert detail.bars[-1][1] > 30

    def test_the_filters_hold(self, store: EventStore) -> None:
        some(store)
        detail = view(store, Question(status_class=5, consumer="x", route=("GET", "/a"))).detail
        assert detail is not None
        assert [each.error for each in detail.failures] == [each.error for each in detail.slowest] == ["E: 1"]
        assert [row.consumer for row in detail.consumers] == ["x"]

    def test_the_slowest_of_the_window_though_older_ones_were_slower(self, store: EventStore) -> None:
        store.add(events(*[payload(ts="2026-06-03T06:00:00Z", duration_ms=9000) for _ in range(50)]))
        store.add(events(*[payload(duration_ms=ms) for ms in range(100, 160)]))
        detail = view(store, Question(route=("GET", "/orders/{order_id}"))).detail
        assert detail is not None
        assert [each.duration_ms for each in detail.slowest] == list(range(159, 159 - MAX_EXAMPLES, -1))


def test_no_query_passes_over_the_events(store: EventStore) -> None:
    """Ask the planner about every statement that any view runs."""
    store.add(events(*[payload(consumer=f"c{n}", status=500) for n in range(30)]))
    statements: List[str] = []

    def plans(connection: Any) -> Any:
        connection.set_trace_callback(statements.append)
        for window in WINDOWS:
            for route in (None, ("GET", "/orders/{order_id}")):
                for consumer in (None, "", "c1"):
                    read_view(connection, Question(window, 5, consumer, route), NOW)
        connection.set_trace_callback(None)
        return [
            (statement, row[-1])
            for statement in set(statements)
            for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        ]

    found = store.read(plans)
    # The latest failures and the slowest requests of a route are read in the order of an index.
    for index in ("events_failed", "events_by_route"):
        assert any(re.search(f"SEARCH .*events USING INDEX {index}", step) for _, step in found)
    assert [
        (statement, step) for statement, step in found if re.search(r"SCAN (TABLE )?(events|rollup)", step)
    ] == []
