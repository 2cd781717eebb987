"""What an application sees of the client."""

from __future__ import annotations

import json
import logging
import math
import signal
import threading
import time
from typing import Any, Callable, List

import pytest
from support.events import event, numbers
from support.transports import DOWN, ScriptedTransport, answer

from beaconhq import BeaconClient, BeaconEvent, MockTransport, SendResult
from beaconhq.errors import BeaconError, InvalidEvent

MakeClient = Callable[..., BeaconClient]


def test_a_disabled_client_starts_and_keeps_nothing(make_client: MakeClient) -> None:
    client = make_client(enabled=False, transport=MockTransport())
    client.capture(event())
    assert client.stats()["captured"] == 0
    assert client.stats()["state"] == "disabled"
    assert client.flush_sync() == (0, 0, 0)
    assert client.stats()["host"] is None


def test_dry_run_delivers_into_a_ring_in_memory(make_client: MakeClient) -> None:
    client = make_client(ingest_key="", dry_run=True, max_buffer_size=10)
    for number in range(15):
        client.capture(event(number))
        client.flush_sync()
    transport = client.transport
    assert isinstance(transport, MockTransport)
    assert numbers(transport.sent_events) == list(range(5, 15))
    assert client.stats()["delivered"] == 15


def test_a_transport_of_one_s_own_wins_over_dry_run(make_client: MakeClient) -> None:
    transport = MockTransport()
    client = make_client(dry_run=True, transport=transport)
    client.capture(event())
    client.flush_sync()
    assert len(transport.sent_events) == 1


def test_the_mock_transport_plays_failures(make_client: MakeClient) -> None:
    transport = MockTransport()
    client = make_client(transport=transport)
    transport.next_result = SendResult(ok=False, status=400)
    client.capture(event(0))
    client.flush_sync()
    transport.next_result = SendResult(ok=True, status=200)
    client.capture(event(1))
    client.flush_sync()
    transport.raise_error = OSError("down")
    client.capture(event(2))
    assert client.flush_sync().pending == 1
    assert [numbers(batch) for batch in transport.attempts] == [[0], [1]]
    assert [numbers(batch) for batch in transport.batches] == [[1]]
    transport.raise_error = None


def test_stats_tell_the_truth_and_are_json(make_client: MakeClient) -> None:
    client = make_client(transport=ScriptedTransport(answer(400), DOWN))
    client.capture(event())
    client.capture(None)  # type: ignore[arg-type]
    client.flush_sync()
    time.sleep(0.01)
    client.capture((time.time() - 5, ("GET", "/", 200, None), "/", 100, None))
    stats = client.stats()
    assert json.loads(json.dumps(stats)) == stats
    assert (stats["captured"], stats["pending"], stats["delivered"]) == (3, 1, 0)
    assert stats["dropped"] == {"invalid": 1, "rejected": 1}
    assert 5 <= (stats["oldest_pending_age"] or 0) < 60
    assert stats["last_error"] is not None
    assert stats["last_error"].startswith("BatchRejected")


@pytest.mark.parametrize(
    ("captured", "known"),
    [(event(), True), (event(ts="2026-06-03T12:00:00Z"), True), (event(ts="?"), False), (None, False)],
)
def test_the_age_of_the_oldest_event_is_known_where_its_time_is(captured: Any, known: bool) -> None:
    client = BeaconClient(
        "k", transport=ScriptedTransport(then=DOWN), shutdown_timeout=0.1, register_atexit=False
    )
    client._lifecycle.queue.disarm()
    client.capture(captured)
    assert (client.stats()["oldest_pending_age"] is not None) == known


class Hostile:
    """What nobody should capture: every look at it fails."""

    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)

    def __str__(self) -> str:
        raise LookupError("text")


class HostileText:
    ts = Hostile()


@pytest.mark.parametrize(
    "captured",
    [
        (),
        (None,),
        ("soon",) * 5,
        (math.nan, ("GET", "/", 200, None), "/", 100, None),
        (-math.inf, ("GET", "/", 200, None), "/", 100, None),
        {},
        {"ts": 10**400},
        Hostile(),
        HostileText(),
    ],
    ids=lambda captured: type(captured).__name__,
)
def test_stats_never_raise_and_are_json_whatever_waits(captured: Any) -> None:
    """A health endpoint must not fail because of what somebody captured."""
    client = BeaconClient("k", transport=ScriptedTransport(), register_atexit=False)
    client._lifecycle.queue.disarm()
    client.capture(captured)
    stats = client.stats()
    assert json.loads(json.dumps(stats, allow_nan=False)) == stats
    assert stats["pending"] == 1
    assert stats["oldest_pending_age"] is None
    assert "pending=1" in repr(client)


def test_the_state_says_what_goes_on(make_client: MakeClient) -> None:
    client = make_client(transport=ScriptedTransport(DOWN))
    assert client.stats()["state"] == "idle"
    client.capture(event())
    assert client.stats()["state"] == "running"
    client.flush_sync()
    assert client.stats()["state"] == "backing_off"
    client.shutdown()
    assert client.stats()["state"] == "idle"


def test_repr_shows_state_and_counts_but_no_key(make_client: MakeClient) -> None:
    client = make_client(ingest_key="secret-key", transport=MockTransport())
    client.capture(event())
    client.flush_sync()
    assert repr(client) == (
        "<BeaconClient [RUNNING] https://ingest.beacon.skyware.dev/v1/ingest captured=1 delivered=1 "
        "dropped=0 pending=0>"
    )
    assert "secret-key" not in repr(client)


def test_debug_logs_errors(make_client: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    client = make_client(debug=True, on_error=None, transport=MockTransport())
    client.capture(None)  # type: ignore[arg-type]
    client.flush_sync()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("beaconhq", logging.WARNING)
    assert "InvalidEvent: dropped 1 event(s) beyond repair: event" in record.getMessage()


def test_an_explicit_on_error_wins_over_debug(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture, reported: List[BeaconError]
) -> None:
    client = make_client(debug=True, transport=MockTransport())
    client.capture(None)  # type: ignore[arg-type]
    client.flush_sync()
    assert isinstance(reported[0], InvalidEvent)
    assert caplog.records == []


def test_a_signal_handler_may_capture_whatever_it_interrupts(make_client: MakeClient) -> None:
    client = make_client(transport=ScriptedTransport(), max_buffer_size=1_000_000)
    captured = [0]

    def handler(*_: object) -> None:
        captured[0] += 1
        client.capture(event())

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            captured[0] += 1
            client.capture(event())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert client.flush_sync(30).pending == 0
    # `+= 1` of the loop may lose a handler's; the client may not.
    assert client.stats()["delivered"] >= captured[0]


def test_a_finalizer_may_capture(make_client: MakeClient) -> None:
    client = make_client(transport=ScriptedTransport())

    class Capturing:
        def __del__(self) -> None:
            client.capture(event())

    for _ in range(100):
        Capturing()
    assert client.flush_sync().delivered == 100


def test_capture_takes_no_lock_that_another_thread_may_hold(make_client: MakeClient) -> None:
    client = make_client(transport=ScriptedTransport())
    lifecycle = client._lifecycle

    def capture_many() -> None:
        for _ in range(1000):
            client.capture(event())

    with lifecycle._lock, lifecycle.queue._lock:
        thread = threading.Thread(target=capture_many)
        thread.start()
        thread.join(5)
        assert not thread.is_alive()
    client.capture(event())
    assert client.flush_sync().pending == 0
    assert client.stats()["delivered"] == 1001


def test_events_compare_and_show_their_values() -> None:
    assert event(1) == event(1)
    assert event(1) != event(2)
    assert event(1) != "event"
    assert repr(event(1)).startswith("BeaconEvent(ts='2026-06-03T12:00:00.000+00:00', method='GET'")
    assert BeaconEvent("t", "GET", "/", "/", 200, 1).to_payload() == {
        "ts": "t", "method": "GET", "route": "/", "path": "/", "status": 200, "duration_ms": 1,
        "consumer": None, "error": None,
    }  # fmt: skip
