from __future__ import annotations

import math
from typing import TYPE_CHECKING, Dict, List, Tuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beaconhq.local import store as store_module
from beaconhq.local.rollup import LEVELS, bucket_middle, bucket_start, latency_bucket, percentile
from beaconhq.local.store import EventStore, Retention

from .samples import events, payload, unhurried

if TYPE_CHECKING:
    import sqlite3

    import pytest

durations = st.integers(0, 2**53 - 1)


class TestBuckets:
    @unhurried
    @given(durations)
    def test_a_duration_is_in_its_bucket_and_close_to_its_middle(self, duration: int) -> None:
        bucket = latency_bucket(duration)
        assert bucket_start(bucket) <= duration < bucket_start(bucket + 1)
        assert abs(bucket_middle(bucket) - duration) <= 0.032 * duration

    @unhurried
    @given(durations, durations)
    def test_longer_is_never_in_an_earlier_bucket(self, one: int, other: int) -> None:
        assert (latency_bucket(one) <= latency_bucket(other)) or one > other

    def test_short_durations_are_exact(self) -> None:
        assert [bucket_middle(latency_bucket(ms)) for ms in range(32)] == list(range(32))

    @unhurried
    @given(st.lists(st.integers(0, 100_000), min_size=1), st.sampled_from([50, 95, 99]))
    def test_a_percentile_is_that_of_the_durations(self, values: List[int], percent: int) -> None:
        counts: Dict[int, int] = {}
        for value in values:
            counts[latency_bucket(value)] = counts.get(latency_bucket(value), 0) + 1
        exact = sorted(values)[math.ceil(len(values) * percent / 100) - 1]
        assert percentile(counts, percent) == bucket_middle(latency_bucket(exact))


def stored_rollup(connection: sqlite3.Connection) -> Dict[Tuple[object, ...], int]:
    rows = connection.execute(
        "SELECT level, slot, method, route, name, class, bucket, count FROM rollup"
        " JOIN routes ON routes.id = route_id LEFT JOIN consumers ON consumers.id = consumer_id"
    )
    return {tuple(key): count for *key, count in rows}


def counted_rollup(connection: sqlite3.Connection) -> Dict[Tuple[object, ...], int]:
    """Count the stored events by hand."""
    counts: Dict[Tuple[object, ...], int] = {}
    rows = connection.execute("SELECT ts_ms, method, route, consumer, status, duration_ms FROM events")
    for ts_ms, method, route, named, status, duration_ms in rows:
        consumer = named or None
        for level in LEVELS:
            slot = ts_ms // (1000 * level) if level else 0
            key = (level, slot, method, route, consumer, status // 100, latency_bucket(duration_ms))
            counts[key] = counts.get(key, 0) + 1
    return counts


payloads = st.builds(
    payload,
    ts=st.integers(0, 4000).map(lambda s: f"2026-06-03T{12 + s // 3600}:{s // 60 % 60:02}:{s % 60:02}.5Z"),
    route=st.sampled_from(["/a", "/b", "(unmatched)"]),
    consumer=st.sampled_from([None, "", "x", "y"]),
    status=st.sampled_from([200, 204, 404, 500]),
    duration_ms=st.integers(0, 50),
)


@settings(
    parent=unhurried,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(st.lists(payloads, max_size=12), max_size=8), st.one_of(st.none(), st.integers(1, 30)))
def test_the_rollup_is_what_counting_the_stored_events_gives(
    batches: List[List[Dict[str, object]]], keep: int
) -> None:
    """Whatever was added and forgotten; and nothing stays of a route or consumer that has no events."""
    store = EventStore(retention=Retention(events=keep))
    try:
        for batch in batches:
            store.add(events(*batch))
        stored, counted = store.read(stored_rollup), store.read(counted_rollup)
        assert stored == counted
        names = store.read(lambda c: [row[0] for row in c.execute("SELECT name FROM consumers ORDER BY 1")])
        assert names == sorted({str(key[4]) for key in counted if key[4] is not None})
    finally:
        store.close()


class TestRetention:
    def test_the_latest_events_are_kept_and_their_totals_are_right(self) -> None:
        store = EventStore(retention=Retention(events=10))
        try:
            for number in range(25):
                store.add(events(payload(route=f"/{number}")), f"key-{number}")
            kept = [f"/{number}" for number in range(15, 25)]
            summary = store.summary()
            assert sorted(route.route for route in summary.routes) == kept
            assert (summary.totals.stored, summary.totals.batches) == (10, 10)
            assert store.add(events(payload()), "key-24").duplicate
        finally:
            store.close()

    def test_by_age_what_arrived_long_ago_goes_whatever_its_timestamp(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 1_800_000_000.0
        monkeypatch.setattr("time.time", lambda: now)
        monkeypatch.setattr(store_module, "_AGE_INTERVAL", 0.0)
        store = EventStore(retention=Retention(hours=2))
        try:
            store.add(events(payload(route="/first", ts="2099-01-01T00:00:00Z")))
            now += 3600
            store.add(events(payload(route="/second", ts="1999-01-01T00:00:00Z")))
            now += 3601
            store.add(events(payload(route="/third")))
            assert sorted(route.route for route in store.summary().routes) == ["/second", "/third"]
            now += 10 * 3600
            store.add([])
            assert store.summary().totals.stored == 0
            store.add(events(payload(route="/fresh")))
            assert store.read(stored_rollup) == store.read(counted_rollup)
        finally:
            store.close()

    def test_the_file_stops_growing(self) -> None:
        store = EventStore(retention=Retention(events=200))
        sizes = []
        try:
            for _ in range(6):
                for _ in range(10):
                    store.add(events(*[payload(path="/" + "x" * 500, consumer=f"c{n}") for n in range(100)]))
                pages = store.read(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
                sizes.append(pages)
        finally:
            store.close()
        assert max(sizes[1:]) <= 1.5 * sizes[0]
