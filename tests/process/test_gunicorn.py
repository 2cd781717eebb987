"""gunicorn, every kind of worker: whatever a worker answered is delivered once, however it ends."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, Any, List

import pytest

from .children import wait_until
from .servers import SLOW, Load, assert_delivered_once, delivered, senders, serving

if TYPE_CHECKING:
    from .ingest_server import RecordingIngest

pytestmark = pytest.mark.process

BOOT = ["/boot/0", "/boot/1", "/boot/2"]
SYNC = ("served_flask:app", "--worker-class=sync")
THREADS = ("served_flask:app", "--worker-class=gthread", "--threads=4")
GEVENT = ("served_flask:app", "--worker-class=gevent")
UVICORN = ("served:app", "--worker-class=uvicorn_worker.UvicornWorker")
DJANGO = ("served_django:wsgi", "--worker-class=gthread", "--threads=4")


#: gunicorn 23 says so of a worker that ends as uvicorn does: by the signal that it was sent.
SENT_SIGTERM = re.compile(r"^.*Worker \(pid:\d+\) was sent SIGTERM!\n", re.MULTILINE)


def gunicorn(app: str, *options: str) -> List[str]:
    return ["-m", "gunicorn", app, "--log-level=error", "--graceful-timeout=50", *options]


def case(kind: Any, *options: str, often: bool) -> Any:
    """One row; what adds no more than another combination is left to `nox -s torture`."""
    name = " ".join(option.rpartition("=")[2].lstrip("-") for option in (*kind[:2], *options))
    return pytest.param([*kind, *options], id=name, marks=() if often else pytest.mark.torture)


EVERY_WORKER = [
    case(SYNC, often=False),
    case(SYNC, "--preload", often=True),
    case(THREADS, often=True),
    case(THREADS, "--preload", often=False),
    case(GEVENT, often=True),
    case(GEVENT, "--preload", often=True),
    case(UVICORN, often=True),
    case(UVICORN, "--preload", often=False),
    case(DJANGO, "--preload", often=True),
    case(DJANGO, often=False),
]


class TestShutdownUnderLoad:
    @pytest.mark.parametrize("options", EVERY_WORKER)
    def test_what_was_answered_is_delivered_once_from_every_worker(
        self, options: List[str], ingest: RecordingIngest
    ) -> None:
        """The cadence is out of reach: the exit hook or the lifespan of each worker delivers."""
        with serving(ingest, gunicorn(*options, "--workers=2")) as server:
            workers = server.workers(2)
            with Load(server) as load:
                output = server.end(signal.SIGTERM)
        assert SENT_SIGTERM.sub("", output) == ""
        assert server.process.returncode == 0
        assert_delivered_once(load, ingest)
        assert senders(ingest) == workers
        assert set(load.answered) & set(SLOW)


class TestRecycling:
    @pytest.mark.parametrize(
        "options",
        [
            case(SYNC, "--preload", often=True),
            case(THREADS, often=False),
            case(GEVENT, often=False),
            case(UVICORN, often=False),
        ],
    )
    def test_workers_that_end_under_load_lose_nothing(
        self, options: List[str], ingest: RecordingIngest
    ) -> None:
        recycling = ["--workers=2", "--max-requests=150", "--max-requests-jitter=50"]
        with serving(ingest, gunicorn(*options, *recycling)) as server, Load(server, slow=()) as load:
            wait_until(lambda: len(senders(ingest)) >= 3, "three workers that ended")
            server.end(signal.SIGTERM)
        assert_delivered_once(load, ingest)


class TestPreloading:
    @pytest.mark.parametrize("kind", [SYNC, GEVENT], ids=["sync", "gevent"])
    def test_what_the_parent_captured_is_sent_once_in_all(self, kind: Any, ingest: RecordingIngest) -> None:
        with serving(ingest, gunicorn(*kind, "--preload", "--workers=2"), CAPTURE_AT_IMPORT="1") as server:
            workers = server.workers(2)
            assert server.process.pid not in workers
            server.get("/items/1")
            assert server.end(signal.SIGTERM) == ""
        assert sorted(delivered(ingest)) == [*BOOT, "/items/1"]
        by_parent = [post for post in ingest.posts if post.paths[0] == "/boot/0"]
        assert [post.paths for post in by_parent] == [BOOT]
        assert senders(ingest) == {server.process.pid, *workers}

    def test_a_worker_that_is_killed_takes_nothing_of_the_others_along(self, ingest: RecordingIngest) -> None:
        """What the killed one had not sent is lost with it: `flush_interval` bounds that."""
        with serving(ingest, gunicorn(*SYNC, "--preload", "--workers=2"), FLUSH_INTERVAL="0.2") as server:
            victim, _other = server.workers(2)
            asked = [f"/items/{number}" for number in range(20)]
            for path in asked:
                server.get(path)
            ingest.wait_until(lambda: set(asked) <= set(delivered(ingest)), "all, by the cadence")
            os.kill(victim, signal.SIGKILL)
            server.workers(2)
            server.get("/items/after")
            server.end(signal.SIGTERM)
        assert sorted(delivered(ingest)) == sorted([*asked, "/items/after"])


class TestBridge:
    @pytest.mark.parametrize("kind", [THREADS, GEVENT], ids=["gthread", "gevent"])
    def test_a_worker_delivers_by_the_cadence_and_warns_of_nothing(
        self, kind: Any, ingest: RecordingIngest
    ) -> None:
        with serving(ingest, gunicorn(*kind, "--preload"), FLUSH_INTERVAL="0.1") as server:
            server.get("/items/1")
            ingest.wait_until(lambda: delivered(ingest) == ["/items/1"], "a flush")
            inside = server.get("/inside/process")
            assert inside["beacon"]["host"] == "thread"
            assert inside["beacon"]["dropped"] == {}
            assert (inside["warned"], inside["reported"]) == ([], [])
            assert server.end(signal.SIGTERM) == ""
