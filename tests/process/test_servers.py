"""Real servers: what was answered is delivered once, whatever signal ends the server."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, List, NamedTuple, Sequence

import pytest

from .children import LIFETIME, free_port, running, wait_until

if TYPE_CHECKING:
    import subprocess

    from .ingest_server import RecordingIngest

pytestmark = pytest.mark.process

APPS = str(Path(__file__).parent / "apps")
UVICORN = ("-m", "uvicorn", "served:app", f"--app-dir={APPS}", "--host=localhost", "--log-level=warning")
HYPERCORN = ("-m", "hypercorn", "--graceful-timeout=10", "--log-level=warning")


class Server(NamedTuple):
    """A running server and what is known about it."""

    process: subprocess.Popen[str]
    port: int

    def get(self, path: str) -> Any:
        """Return the answer to one request over a connection of its own."""
        connection = http.client.HTTPConnection("localhost", self.port, timeout=LIFETIME)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"connection": "close"})
            answer = connection.getresponse()
            assert answer.status == 200
            return json.load(answer)

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.process.stdout and self.process.stdout.read()
        with contextlib.suppress(OSError):
            return bool(self.get("/inside/process"))
        return False

    def end(self, signum: signal.Signals) -> str:
        """Send a signal, wait for the end, and return what the server printed."""
        self.process.send_signal(signum)
        output, _ = self.process.communicate(timeout=LIFETIME)
        return output


@contextlib.contextmanager
def serving(ingest: RecordingIngest, command: Sequence[str], **env: str) -> Iterator[Server]:
    """Run a server until the block ends, at the latest."""
    port = free_port()
    bind = [f"--port={port}"] if "uvicorn" in command else [f"--bind=localhost:{port}", "served:app"]
    paths = {"PYTHONPATH": ":".join([APPS, *sys.path])}
    with running([*command, *bind], INGEST_URL=ingest.url, **paths, **env) as process:
        server = Server(process, port)
        wait_until(server.is_up, "the server")
        yield server


class Load:
    """Clients that send request after request until the server is gone; knows what was answered."""

    def __init__(self, server: Server, clients: int = 4) -> None:
        self.asked: List[str] = []
        self.answered: List[str] = []
        self._server = server
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]
        self._threads += [threading.Thread(target=self._ask, args=(f"/slow/{n}",)) for n in range(5)]

    def __enter__(self) -> Load:  # noqa: PYI034 - Self is 3.11's
        for thread in self._threads:
            thread.start()
        wait_until(lambda: {f"/slow/{n}" for n in range(5)} <= set(self.asked), "five slow requests")
        wait_until(lambda: len(self.answered) > 50, "some quick requests")
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(LIFETIME)
            assert not thread.is_alive()

    def _run(self, client: int) -> None:
        number = 0
        while self._ask(f"/items/{client}-{number}"):
            number += 1

    def _ask(self, path: str) -> bool:
        """Send one request; False when the server is gone."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.asked.append(path)
            self._server.get(path)
            self.answered.append(path)
            return True
        return False


def delivered(ingest: RecordingIngest) -> List[str]:
    """Return the paths that arrived, without those by which the tests look inside."""
    return [path for path in ingest.paths if not path.startswith("/inside/")]


def assert_delivered_once(load: Load, ingest: RecordingIngest) -> None:
    """
    What was answered arrived once, and nothing that was not asked for.

    An answer may be cut off on its way when the server closes (hypercorn does that now
    and then): the application answered, so its event is true, and nobody counts the answer.
    """
    paths = delivered(ingest)
    assert len(paths) == len(set(paths))
    assert set(load.answered) <= set(paths) <= set(load.asked)


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
        assert {f"/slow/{n}" for n in range(5)} <= set(load.answered)

    def test_in_two_workers(self, ingest: RecordingIngest) -> None:
        with serving(ingest, [*UVICORN, "--workers=2"]) as server:
            wait_until(lambda: self.saw_both(server), "answers from both workers")
            with Load(server) as load:
                assert server.end(signal.SIGTERM) == ""
        assert_delivered_once(load, ingest)
        assert {post.connection for post in ingest.posts} >= {0, 1}

    def saw_both(self, server: Server) -> bool:
        return len({server.get("/inside/process")["pid"] for _ in range(10)}) == 2

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
