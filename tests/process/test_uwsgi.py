"""uWSGI, which forks behind Python's back and may keep Python's threads from running."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, List

import pytest

from beaconhq.uwsgi import THREADS_ARE_OFF

from .children import wait_until
from .servers import SLOW, Load, assert_delivered_once, delivered, senders, serving

if TYPE_CHECKING:
    from .ingest_server import RecordingIngest

pytest.importorskip("pyuwsgi", reason="pyuwsgi has wheels for Linux and CPython 3.9 to 3.13 or later only")
pytestmark = pytest.mark.process

BOOT = ["/boot/0", "/boot/1", "/boot/2"]
BIND = "--http-socket=localhost:{port}"
#: SIGTERM lets requests end, and so the exit hooks run: uWSGI skips them in a worker that is busy.
GRACEFUL = ("--hook-master-start=unix_signal:15 gracefully_kill_them_all", "--die-on-term")
LAZY = "--lazy-apps"
THREADS = "--enable-threads"


def uwsgi(*options: str, app: str = "served_flask:app") -> List[str]:
    run = "import sys, pyuwsgi; sys.argv[0] = 'uwsgi'; pyuwsgi.run()"
    always = ["--master", "--processes=2", "--need-app", "--worker-reload-mercy=50", f"--module={app}"]
    return ["-c", run, *always, *GRACEFUL, "--disable-logging", *options]


OSAFTERFORK = [
    pytest.mark.torture,
    pytest.mark.skipif(
        sys.version_info >= (3, 13),
        reason="with that option the workers of uWSGI 2.0.30 die on Python 3.13, whatever the app",
    ),
]


class TestShutdownUnderLoad:
    @pytest.mark.parametrize(
        "options",
        [
            pytest.param([], id="plain"),
            pytest.param([THREADS, LAZY], id="enable-threads lazy-apps"),
            pytest.param([THREADS, "--threads=4"], id="enable-threads threads", marks=pytest.mark.torture),
            pytest.param([LAZY], id="lazy-apps", marks=pytest.mark.torture),
            pytest.param(["--py-call-uwsgi-fork-hooks"], id="fork-hooks", marks=pytest.mark.torture),
            pytest.param(["--py-call-osafterfork"], id="osafterfork", marks=OSAFTERFORK),
        ],
    )
    def test_what_was_answered_is_delivered_once_from_every_worker(
        self, options: List[str], ingest: RecordingIngest
    ) -> None:
        with serving(ingest, uwsgi(*options), BIND) as server:
            workers = server.workers(2)
            with Load(server) as load:
                server.end(signal.SIGTERM)
        assert_delivered_once(load, ingest)
        assert senders(ingest) == workers
        assert set(load.answered) & set(SLOW)

    def test_workers_that_end_under_load_lose_nothing(self, ingest: RecordingIngest) -> None:
        """
        Each worker that was recycled has delivered all of its requests.

        What the last ones have is not looked at: uWSGI may kill a worker that is already about to end.
        """

        def counts() -> List[int]:
            pids = Counter(event["consumer"] for post in tuple(ingest.posts) for event in post.events)
            return list(pids.values())

        command = uwsgi(THREADS, "--max-requests=1500", "--min-worker-lifetime=1")
        with serving(ingest, command, BIND) as server, Load(server, slow=()):
            wait_until(lambda: counts().count(1500) >= 3, "three workers that ended")
            server.process.kill()
        assert max(counts()) == 1500
        assert len(ingest.paths) == sum(counts())


class TestMaster:
    @pytest.mark.parametrize(
        "options",
        [
            pytest.param([], id="plain"),
            pytest.param(["--py-call-uwsgi-fork-hooks"], id="fork-hooks"),
        ],
    )
    def test_what_it_captured_is_taken_over_by_one_worker(
        self, options: List[str], ingest: RecordingIngest
    ) -> None:
        """uWSGI runs no exit hook in its master, and forks while a thread in it may hold any lock."""
        with serving(ingest, uwsgi(*options), BIND, CAPTURE_AT_IMPORT="1") as server:
            workers = server.workers(2)
            inside = server.get("/inside/process")
            assert inside["loaded_by"] == server.process.pid
            assert inside["warned"] == inside["reported"] == []
            server.get("/items/1")
            server.end(signal.SIGTERM)
        assert sorted(delivered(ingest)) == [*BOOT, "/items/1"]
        assert senders(ingest) == {server.process.pid, *workers}

    def test_a_single_process_without_master(self, ingest: RecordingIngest) -> None:
        command = [part for part in uwsgi() if part not in ("--master", "--processes=2", *GRACEFUL)]
        with serving(ingest, command, BIND, CAPTURE_AT_IMPORT="1", FLUSH_INTERVAL="0.2") as server:
            server.get("/items/1")
            ingest.wait_until(lambda: len(delivered(ingest)) == 4, "a flush")
            assert server.get("/inside/process")["beacon"]["host"] == "thread"
        assert sorted(delivered(ingest)) == [*BOOT, "/items/1"]


class TestUwsgidecorators:
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_both_hooks_run(self, when: str, ingest: RecordingIngest) -> None:
        """Imported before the client is made, it is chained; after it, it replaces our hook."""
        env = {"DECORATORS": when, "CAPTURE_AT_IMPORT": "1"}
        with serving(ingest, uwsgi(THREADS, app="served_flask_uwsgi:app"), BIND, **env) as server:
            workers = server.workers(2)
            inside = server.get("/inside/postforks")
            assert inside["postforks"] == [inside["pid"]]
            for number in range(10):
                server.get(f"/items/{number}")
            server.end(signal.SIGTERM)
        assert sorted(delivered(ingest)) == sorted([*BOOT, *(f"/items/{number}" for number in range(10))])
        assert senders(ingest) == {server.process.pid, *workers}


class TestWithoutThreads:
    @pytest.mark.parametrize("options", [[], [LAZY]], ids=["plain", "lazy-apps"])
    def test_it_says_so_and_the_exit_hook_delivers(self, options: List[str], ingest: RecordingIngest) -> None:
        """More than a batch, and a cadence that is long past: still nothing is sent while workers serve."""
        command = uwsgi(*options, app="served_flask_threadless:app")
        asked = [f"/items/{number}" for number in range(250)]
        with serving(ingest, command, BIND, PRETEND="1", FLUSH_INTERVAL="0.1") as server:
            workers = server.workers(2)
            for path in asked:
                server.get(path)
            inside = server.get("/inside/process")
            assert inside["beacon"]["host"] is None
            assert inside["beacon"]["state"] == "idle"
            assert inside["beacon"]["last_error"].startswith("HostUnavailable: uWSGI runs without threads")
            assert inside["beacon"]["delivered"] == 0
            assert not inside["httpx"]
            assert ingest.posts == []
            output = server.end(signal.SIGTERM)
        assert sorted(delivered(ingest)) == sorted(asked)
        assert senders(ingest) == workers
        # Once by each process that loads the application.
        assert output.count(THREADS_ARE_OFF) == (2 if options else 1)

    def test_the_documentation_shows_the_warning(self) -> None:
        page = Path(__file__).parents[2] / "docs" / "how-to" / "servers.md"
        assert THREADS_ARE_OFF in page.read_text("utf-8")
