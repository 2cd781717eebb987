"""
For the tests of applications that use beaconhq: clients that record, and what to assert on them.

    def test_a_user(beacon):                   # the fixture; pytest's ini option beaconhq_fixture = true
        TestClient(create_app(beacon)).get("/users/7")
        beacon.route("GET", "/users/{id}").assert_called_once()

The SDK does not import this, nor this pytest: the fixture and the switch are in `plugin.py`, which is loaded
where an ini option asks for it. Source: docs/how-to/testing.md.
"""

from __future__ import annotations

from .recording import ANY, Recorded, RecordingClient, Route, recording

__all__ = ["ANY", "Recorded", "RecordingClient", "Route", "recording"]
