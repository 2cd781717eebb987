"""gevent: threads are greenlets, but the bridge's is not, and the application's hub never waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .children import FORKING, Ended, run_script

if TYPE_CHECKING:
    from .ingest_server import RecordingIngest

pytest.importorskip("gevent", reason="gevent has no wheel for this Python")
pytestmark = pytest.mark.process

PATCH = """
from gevent import monkey; monkey.patch_all()
import gevent, os, threading, time
"""
#: Measures for how long the hub was kept from its work.
WATCH = """
class Watch:
    longest = 0.0

    def __enter__(self):
        self.greenlet = gevent.spawn(self.run)
        gevent.sleep(0)
        return self

    def __exit__(self, *_):
        self.greenlet.kill()

    def run(self):
        while True:
            begun = time.monotonic()
            gevent.sleep(0.01)
            self.longest = max(self.longest, time.monotonic() - begun)

def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        gevent.sleep(0.01)
"""


def run(script: str, ingest: RecordingIngest, before: str = PATCH + WATCH) -> Ended:
    return run_script(script, ingest.url, before=before, flags=FORKING)


class TestLoading:
    def test_the_http_stack_is_loaded_when_the_client_is_made(self, ingest: RecordingIngest) -> None:
        """
        Not in a request, and not on the bridge's thread.

        With trio installed httpcore's import starts a process, which gevent refuses there.
        """
        script = """
            import subprocess

            assert "httpx" not in sys.modules
            client = make()
            modules = set(sys.modules)
            assert {"httpx", "httpcore", "anyio"} <= modules
            client.capture(event())
            assert client.flush_sync(20) == (1, 0, 0)
            print(sorted(set(sys.modules) - modules))
        """
        assert run(script, ingest) == (0, "[]\n", "")

    def test_importing_us_loads_nothing(self, ingest: RecordingIngest) -> None:
        script = """
            print("httpx" in sys.modules)
            make(enabled=False)
            print("httpx" in sys.modules)
        """
        assert run(script, ingest) == (0, "False\nFalse\n", "")

    def test_a_client_made_before_the_patching(self, ingest: RecordingIngest) -> None:
        """As with `gunicorn --preload`: the stack loads in a greenlet after the first capture."""
        script = """
            import warnings
            warnings.simplefilter("ignore")  # gevent's own, of late patching

            client = make(batch_size=1)
            assert "httpx" not in sys.modules
            from gevent import monkey; monkey.patch_all()
            import gevent
            client.capture(event())
            assert "httpx" not in sys.modules
            for _ in range(2000):
                gevent.sleep(0.01)
                if client.stats()["delivered"]:
                    break
            print(client.stats()["delivered"], client.stats()["last_error"])
        """
        assert run(script, ingest, before="") == (0, "1 None\n", "")


class TestHub:
    def test_it_goes_on_while_a_post_hangs(self, ingest: RecordingIngest) -> None:
        ingest.answering.clear()
        script = """
            client = make(batch_size=1, timeout=2, on_error=lambda error: None)
            client.capture(event())
            until(lambda: client.stats()["in_flight"])
            with Watch() as watch:
                until(lambda: client.stats()["requeued"])
            print(watch.longest < 1.0, client.stats()["pending"])
            client.shutdown()
            os._exit(0)
        """
        assert run(script, ingest) == (0, "True 1\n", "")

    def test_it_goes_on_while_a_greenlet_flushes(self, ingest: RecordingIngest) -> None:
        """`flush_sync` blocks the greenlet that calls it, no other."""
        ingest.delay = 1.5
        script = """
            client = make()
            client.capture(event())
            with Watch() as watch:
                print(client.flush_sync(20))
            print(watch.longest < 1.0)
        """
        ended = run(script, ingest)
        assert ended == (0, "FlushResult(delivered=1, dropped=0, pending=0)\nTrue\n", "")

    def test_a_flask_view_may_run_an_event_loop_of_its_own(self, ingest: RecordingIngest) -> None:
        """No loop of ours runs where `asyncio.run` would find it."""
        script = """
            import asyncio
            from flask import Flask
            from beaconhq import init_flask

            client = make(batch_size=1)
            app = Flask("app")
            init_flask(app, client)

            @app.get("/async/<number>")
            async def view(number):
                await asyncio.sleep(0.01)
                return number

            def ask(number):
                return app.test_client().get(f"/async/{number}").text

            # One after the other: without us, too, two greenlets cannot both run an event loop.
            print([ask(number) for number in range(10)] == [str(number) for number in range(10)])
            until(lambda: client.stats()["delivered"] == 10)
            print(ask(10), client.stats()["host"])
        """
        assert run(script, ingest) == (0, "True\n10 thread\n", "")
        assert sorted(ingest.paths) == sorted(f"/async/{number}" for number in range(11))


class TestFork:
    def test_a_child_delivers_its_own_and_the_parent_goes_on(self, ingest: RecordingIngest) -> None:
        script = """
            import gc

            client = make()
            client.capture(event("/parent-0"))
            assert client.flush_sync(20) == (1, 0, 0)
            client.capture(event("/parent-1"))
            pid = os.fork()
            if pid == 0:
                gc.collect()
                client.capture(event("/child"))
                print(client.flush_sync(20), flush=True)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            print(client.flush_sync(20))
        """
        ended = run(script, ingest)
        assert ended.out == "FlushResult(delivered=1, dropped=0, pending=0)\n" * 2
        assert ended.code == 0
        assert ingest.paths == ["/parent-0", "/child", "/parent-1"]
        assert ingest.connections == 2

    def test_a_child_that_does_nothing(self, ingest: RecordingIngest) -> None:
        script = """
            client = make()
            client.capture(event("/parent-0"))
            assert client.flush_sync(20) == (1, 0, 0)
            client.capture(event("/parent-1"))
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        """
        ended = run(script, ingest)
        assert ended.code == 0
        assert ingest.paths == ["/parent-0", "/parent-1"]
        assert ingest.connections == 1


class TestExit:
    def test_the_exit_hook_delivers(self, ingest: RecordingIngest) -> None:
        """To a host name, and with a bridge that has only just begun to load."""
        script = """
            client = make()
            client.capture(event("/a"))
            client.capture(event("/b"))
        """
        assert run(script, ingest) == (0, "", "")
        assert ingest.paths == ["/a", "/b"]
