from __future__ import annotations

import math
from typing import TYPE_CHECKING, List

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beaconhq.local.summary import ConsumerCount, RouteSummary, Totals

from .samples import events, payload

if TYPE_CHECKING:
    from beaconhq.local.store import EventStore
    from beaconhq.local.summary import Summary


def nearest_rank(values: List[int], percent: int) -> int:
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def only_route(summary: Summary) -> RouteSummary:
    (route,) = summary.routes
    return route


def test_an_empty_store_has_an_empty_summary(store: EventStore) -> None:
    summary = store.summary()
    assert (summary.routes, summary.route_count) == ((), 0)
    assert summary.totals == Totals(stored=0, batches=0, duplicates=0, rejected=0, last_rejection=None)


def test_a_route_in_full(store: EventStore) -> None:
    store.add(
        events(
            payload(duration_ms=10, consumer="a"),
            payload(duration_ms=40, consumer="b", status=503, ts="2026-06-03T14:00:01.250+02:00"),
            payload(duration_ms=20, consumer=None, status=404),
            payload(duration_ms=30, consumer="b", error="ValueError: no"),
        )
    )
    assert only_route(store.summary()) == RouteSummary(
        method="GET",
        route="/orders/{order_id}",
        count=4,
        errors=1,
        error_rate=0.25,
        p50_ms=20,
        p95_ms=40,
        p99_ms=40,
        consumer_count=2,
        consumers=(ConsumerCount("b", 2), ConsumerCount("a", 1)),
        last_seen="2026-06-03T12:00:01.250+00:00",
    )


def test_a_route_is_a_method_and_a_template_and_the_busiest_comes_first(store: EventStore) -> None:
    store.add(
        events(
            payload(method="POST", route="/b"),
            payload(method="GET", route="/b"),
            payload(method="GET", route="/b"),
            payload(method="GET", route="/a"),
        )
    )
    assert [(route.method, route.route, route.count) for route in store.summary().routes] == [
        ("GET", "/b", 2),
        ("GET", "/a", 1),
        ("POST", "/b", 1),
    ]


def test_max_routes_cuts_the_list_not_the_totals(store: EventStore) -> None:
    store.add(events(*[payload(route=f"/{number}") for number in range(30)], payload(route="/7")))
    summary = store.summary(max_routes=2)
    assert [route.route for route in summary.routes] == ["/7", "/0"]
    assert (summary.route_count, summary.totals.stored) == (30, 31)


def test_max_consumers_cuts_the_names_not_their_number(store: EventStore) -> None:
    store.add(events(*[payload(consumer=f"c{number}") for number in range(9)], payload(consumer="c8")))
    route = only_route(store.summary(max_consumers=2))
    assert route.consumers == (ConsumerCount("c8", 2), ConsumerCount("c0", 1))
    assert route.consumer_count == 9


@pytest.mark.parametrize(
    ("ts", "last_seen"),
    [
        ("9999-12-31T23:59:59.999-23:59", "9999-12-31T23:59:59.999+00:00"),
        ("0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00.000+00:00"),
    ],
)
def test_last_seen_stays_within_the_calendar(store: EventStore, ts: str, last_seen: str) -> None:
    store.add(events(payload(ts=ts)))
    assert only_route(store.summary()).last_seen == last_seen


# One store for all examples is fine: each example reads its own route.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=250))
def test_the_percentiles_are_exact(store: EventStore, durations: List[int]) -> None:
    name = f"/{store.revision}"
    store.add(events(*[payload(route=name, duration_ms=duration) for duration in durations]))
    (route,) = [route for route in store.summary().routes if route.route == name]
    assert route.p50_ms == nearest_rank(durations, 50)
    assert route.p95_ms == nearest_rank(durations, 95)
    assert route.p99_ms == nearest_rank(durations, 99)
