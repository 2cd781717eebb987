"""What a recording client shows, and what a failed assertion says."""

from __future__ import annotations

import re
from typing import Any, Callable, Iterator, List

import pytest
from support.events import event

from beaconhq import BeaconClient, BeaconEvent
from beaconhq.testing import ANY, RecordingClient, recording


@pytest.fixture
def beacon() -> Iterator[RecordingClient]:
    client = RecordingClient()
    yield client
    client.shutdown()


@pytest.fixture
def busy(beacon: RecordingClient) -> RecordingClient:
    """Three events that differ in everything."""
    beacon.capture(event(1, method="GET", route="/users/{id}", path="/users/1", consumer="acme"))
    beacon.capture(event(2, method="GET", route="/users/{id}", path="/users/2", status=404))
    beacon.capture(event(3, method="POST", route="/orders", path="/orders", status=503, error="HTTP 503"))
    return beacon


class TestEvents:
    def test_they_are_there_at_once_as_the_wire_has_them(self, beacon: RecordingClient) -> None:
        beacon.capture((0.0, ("get", "/a", 700, None), "/a\0", 13, None))
        assert beacon.events == [
            BeaconEvent("1970-01-01T00:00:00.000+00:00", "get", "/a", "/a\ufffd", 599, 13, None, None)
        ]

    def test_what_is_beyond_repair_is_apart(self, beacon: RecordingClient) -> None:
        beacon.capture(event(1, status="nonsense"))
        assert beacon.events == []
        (invalid,) = beacon.invalid
        assert "(status)" in invalid
        with pytest.raises(AssertionError, match=r"invalid: BeaconEvent.*\(status\)"):
            beacon.route().assert_called()

    def test_reset_forgets_them(self, busy: RecordingClient) -> None:
        route = busy.route()
        busy.reset()
        assert (busy.events, route.called) == ([], False)

    async def test_the_client_is_a_real_one(self, beacon: RecordingClient) -> None:
        async with beacon:
            beacon.capture(event(1))
            assert (await beacon.flush(10)).delivered == 1
        assert beacon.stats()["delivered"] == 1
        assert [each["path"] for each in beacon.transport.sent_events] == [beacon.events[0].path]  # type: ignore[attr-defined]

    def test_a_disabled_client_records_nothing(self) -> None:
        beacon = RecordingClient(enabled=False)
        beacon.capture(event(1))
        assert beacon.events == []


class TestRoutes:
    @pytest.mark.parametrize(
        ("select", "paths"),
        [
            (lambda beacon: beacon.route(), ["/users/1", "/users/2", "/orders"]),
            (lambda beacon: beacon.route("GET"), ["/users/1", "/users/2"]),
            (lambda beacon: beacon.route("get", "/users/{id}"), ["/users/1", "/users/2"]),
            (lambda beacon: beacon.route(None, "/orders"), ["/orders"]),
            (lambda beacon: beacon.route(route=re.compile("^/us")), ["/users/1", "/users/2"]),
            (lambda beacon: beacon.route("POST", "/users/{id}"), []),
            (lambda beacon: beacon.route(path="/users/2"), ["/users/2"]),
            (lambda beacon: beacon.route(status=404), ["/users/2"]),
            (lambda beacon: beacon.route(status="4xx"), ["/users/2"]),
            (lambda beacon: beacon.route(status="5XX"), ["/orders"]),
            (lambda beacon: beacon.route(consumer="acme"), ["/users/1"]),
            (lambda beacon: beacon.route(consumer=None), ["/users/2", "/orders"]),
            (lambda beacon: beacon.route(consumer=re.compile("m")), ["/users/1"]),
            (lambda beacon: beacon.route(consumer=ANY, error=None), ["/users/1", "/users/2"]),
            (lambda beacon: beacon.route(error="HTTP 503"), ["/orders"]),
        ],
    )
    def test_what_matches(
        self, select: Callable[[RecordingClient], Any], paths: List[str], busy: RecordingClient
    ) -> None:
        route = select(busy)
        assert [each.path for each in route.calls] == paths
        assert (route.called, route.call_count) == (bool(paths), len(paths))

    def test_a_route_looks_when_it_is_asked(self, beacon: RecordingClient) -> None:
        route = beacon.route("GET", "/items/{id}")
        assert not route.called
        beacon.capture(event(1))
        beacon.capture(event(2))
        assert route.call_count == 2
        assert route.last.path == "/items/00002"


class TestAssertions:
    def test_they_pass(self, busy: RecordingClient) -> None:
        busy.route("GET").assert_called()
        busy.route("GET").assert_call_count(2)
        busy.route("PUT").assert_not_called()
        assert busy.route("POST").assert_called_once().path == "/orders"

    @pytest.mark.parametrize(
        ("check", "expected"),
        [
            (lambda users: users.assert_not_called(), "no event"),
            (lambda users: users.assert_called_once(), "1 event"),
            (lambda users: users.assert_call_count(3), "3 events"),
        ],
    )
    def test_a_failure_lists_what_was_captured(
        self, check: Callable[[Any], None], expected: str, busy: RecordingClient
    ) -> None:
        with pytest.raises(AssertionError) as failed:
            check(busy.route("GET", "/users/{id}"))
        assert str(failed.value) == (
            f"expected {expected} of GET /users/{{id}}, found 2 of 3 events\n"
            "  > GET /users/{id} 200 (path /users/1, consumer acme)\n"
            "  > GET /users/{id} 404 (path /users/2)\n"
            "    POST /orders 503 (error HTTP 503)"
        )

    @pytest.mark.parametrize("check", [lambda none: none.assert_called(), lambda none: none.last])
    def test_a_failure_names_what_was_looked_for(
        self, check: Callable[[Any], Any], beacon: RecordingClient
    ) -> None:
        route = beacon.route(None, re.compile("^/a"), status="5xx", consumer=None)
        with pytest.raises(AssertionError) as failed:
            check(route)
        assert str(failed.value) == (
            "expected at least 1 event of ANY matching '^/a', status 5xx, consumer None, found 0 of 0 events"
        )
        assert repr(route) == "<Route ANY matching '^/a', status 5xx, consumer None>"


class TestRecording:
    @pytest.mark.parametrize("enabled", [True, False])
    def test_an_existing_client_is_recorded_and_ships_nothing(self, enabled: bool) -> None:
        client = BeaconClient("k", "http://127.0.0.1:9", enabled=enabled, register_atexit=False)
        with recording(client) as recorded:
            client.capture(event(1))
            recorded.route("GET", "/items/{id}").assert_called_once()
        assert client.enabled is enabled
        assert client.stats()["captured"] == 0
        assert client.stats()["host"] is None

    def test_after_the_block_it_is_what_it_was(self, make_client: Callable[..., BeaconClient]) -> None:
        client = make_client(dry_run=True)
        with recording(client) as recorded:
            pass
        client.capture(event(1))
        assert recorded.events == []
        assert client.stats()["captured"] == 1

    def test_blocks_nest(self, make_client: Callable[..., BeaconClient]) -> None:
        client = make_client(dry_run=True)
        with recording(client) as outer:
            with recording(client) as inner:
                client.capture(event(1))
            client.capture(event(2))
        assert (len(inner.events), len(outer.events)) == (1, 1)
