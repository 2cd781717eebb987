"""Django under uvicorn: with `BeaconLifespan` the drain runs in the server's loop and ends with it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, List

import pytest

from .servers import APPS, SLOW, Load, assert_delivered_once, delivered, serving

if TYPE_CHECKING:
    from .ingest_server import RecordingIngest

pytestmark = pytest.mark.process

BIND = "--port={port}"


def uvicorn(app: str) -> List[str]:
    return ["-m", "uvicorn", app, f"--app-dir={APPS}", "--host=localhost", "--log-level=warning"]


class TestWithLifespan:
    def test_sigterm_under_load(self, ingest: RecordingIngest) -> None:
        """The cadence is out of reach, and uvicorn runs no exit hook after SIGTERM."""
        with serving(ingest, uvicorn("served_django:with_lifespan"), BIND, DJANGO_ASYNC="1") as server:
            assert server.get("/inside/process")["beacon"]["host"] == "event_loop"
            with Load(server) as load:
                assert server.end(signal.SIGTERM) == ""
        assert_delivered_once(load, ingest)
        assert set(SLOW) <= set(load.answered)


class TestWithoutLifespan:
    def test_sigint_runs_the_exit_hook(self, ingest: RecordingIngest) -> None:
        with serving(ingest, uvicorn("served_django:asgi"), BIND, DJANGO_ASYNC="1") as server:
            server.get("/items/1")
            assert server.get("/inside/process")["beacon"]["host"] == "thread"
            assert server.end(signal.SIGINT) == ""
        assert delivered(ingest) == ["/items/1"]

    def test_before_sigterm_the_cadence_bounds_the_loss(self, ingest: RecordingIngest) -> None:
        """As for every ASGI application without lifespan: what a flush had reached is delivered once."""
        command = uvicorn("served_django:asgi")
        asked = [f"/items/{number}" for number in range(30)]
        with serving(ingest, command, BIND, DJANGO_ASYNC="1", FLUSH_INTERVAL="0.2") as server:
            for path in asked:
                server.get(path)
            ingest.wait_until(lambda: set(asked) <= set(delivered(ingest)), "all, by the cadence")
            server.end(signal.SIGTERM)
        assert delivered(ingest) == asked
