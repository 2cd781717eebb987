"""Servers of ASGI applications: what was answered is delivered once, whatever signal ends the server."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Sequence

import pytest

from . import servers
from .servers import APPS, SLOW, Load, Server, assert_delivered_once, delivered

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from .ingest_server import RecordingIngest

pytestmark = pytest.mark.process

UVICORN = ("-m", "uvicorn", "served:app", f"--app-dir={APPS}", "--host=localhost", "--log-level=warning")
HYPERCORN = ("-m", "hypercorn", "served:app", "--graceful-timeout=10", "--log-level=warning")


def serving(ingest: RecordingIngest, command: Sequence[str], **env: str) -> AbstractContextManager[Server]:
    bind = "--port={port}" if "uvicorn" in command else "--bind=localhost:{port}"
    return servers.serving(ingest, command, bind, **env)


class TestShutdownUnderLoad:
    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize("command", [UVICORN, HYPERCORN], ids=["uvicorn", "hypercorn"])
    def test_what_was_answered_is_delivered_once(
        self, command: Sequence[str], signum: signal.Signals, ingest: RecordingIngest
    ) -> None:
        """The lifespan drains: the cadence is out of reach, and uvicorn skips atexit after SIGTERM."""
        with serving(ingest, command) as server, Load(server) as load:
            assert server.end(signum) == ""
        assert_delivered_once(load, ingest)
        assert set(SLOW) <= set(load.answered)

    def test_in_two_workers(self, ingest: RecordingIngest) -> None:
        with serving(ingest, [*UVICORN, "--workers=2"]) as server:
            server.workers(2)
            with Load(server) as load:
                assert server.end(signal.SIGTERM) == ""
        assert_delivered_once(load, ingest)
        assert {post.connection for post in ingest.posts} >= {0, 1}

    def test_sigint_without_lifespan(self, ingest: RecordingIngest) -> None:
        """The bridge serves; uvicorn ends by itself after SIGINT, so the exit hook runs."""
        with serving(ingest, [*UVICORN, "--lifespan=off"]) as server, Load(server) as load:
            assert server.end(signal.SIGINT) == ""
        assert_delivered_once(load, ingest)

    def test_sigterm_without_lifespan(self, ingest: RecordingIngest) -> None:
        """
        What a flush reached before SIGTERM is delivered once; no more can be promised.

        uvicorn restores the default handler and raises the signal again, which ends the
        process on the spot: no lifespan, no atexit, no thread of ours gets to run. So the
        loss is bounded by what came in since the last flush: `flush_interval` seconds, or
        `batch_size` requests. uvicorn's default is to run the lifespan.
        """
        with serving(ingest, [*UVICORN, "--lifespan=off"], FLUSH_INTERVAL="0.2") as server:
            asked = [f"/items/{number}" for number in range(30)]
            for path in asked:
                server.get(path)
            ingest.wait_until(lambda: set(asked) <= set(delivered(ingest)), "all, by the cadence")
            server.end(signal.SIGTERM)
            assert server.process.returncode == -signal.SIGTERM
        assert delivered(ingest) == asked


class TestHost:
    @pytest.mark.parametrize("command", [UVICORN, HYPERCORN], ids=["uvicorn", "hypercorn"])
    def test_while_a_lifespan_hosts_the_drain_no_thread_of_ours_exists(
        self, command: Sequence[str], ingest: RecordingIngest
    ) -> None:
        with serving(ingest, command, FLUSH_INTERVAL="0.1") as server:
            self.serve_until_flushed(server, ingest, "first")
            self.serve_until_flushed(server, ingest, "second")
            inside = server.get("/inside/process")
            assert inside["beacon"]["host"] == "event_loop"
            assert inside["threads"] == []
            assert inside["threads_seen"] == []

    def test_after_the_first_flush_nothing_is_imported(self, ingest: RecordingIngest) -> None:
        with serving(ingest, UVICORN, FLUSH_INTERVAL="0.1") as server:
            server.get("/inside/modules")
            self.serve_until_flushed(server, ingest, "first")
            modules = server.get("/inside/modules")
            self.serve_until_flushed(server, ingest, "second")
            self.serve_until_flushed(server, ingest, "third")
            assert modules == server.get("/inside/modules")

    def serve_until_flushed(self, server: Server, ingest: RecordingIngest, name: str) -> None:
        for number in range(10):
            server.get(f"/items/{name}-{number}")
        ingest.wait_until(lambda: f"/items/{name}-9" in ingest.paths, f"the {name} flush")

    def test_without_lifespan_the_bridge_serves(self, ingest: RecordingIngest) -> None:
        with serving(ingest, [*UVICORN, "--lifespan=off"], FLUSH_INTERVAL="0.1") as server:
            server.get("/items/1")
            ingest.wait_until(lambda: delivered(ingest) == ["/items/1"], "a flush")
            inside = server.get("/inside/process")
            assert inside["beacon"]["host"] == "thread"
            assert inside["threads"] == ["beaconhq-bridge"]
