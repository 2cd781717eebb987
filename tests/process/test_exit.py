"""The interpreter's exit: what is pending is delivered, nothing is printed, nothing hangs."""

from __future__ import annotations

from typing import Dict, NamedTuple

import pytest

from .children import free_port, run_script
from .ingest_server import RecordingIngest

pytestmark = pytest.mark.process


class Program(NamedTuple):
    """A script that ends, and the exit code that it must keep."""

    script: str
    code: int = 0


#: Each captures the event "/a", and does not wait for its delivery.
PROGRAMS: Dict[str, Program] = {
    "the end of the script": Program("make().capture(event())"),
    "sys.exit": Program(
        """
        make().capture(event())
        sys.exit(3)
        """,
        code=3,
    ),
    "a program on asyncio.run that hosts nothing": Program(
        """
        import asyncio

        async def main():
            make().capture(event())

        asyncio.run(main())
        """
    ),
    "sys.exit inside asyncio.run": Program(
        """
        import asyncio

        async def main():
            async with make() as client:
                client.capture(event())
                sys.exit(4)

        asyncio.run(main())
        """,
        code=4,
    ),
    "async with": Program(
        """
        import asyncio

        async def main():
            async with make() as client:
                client.capture(event())

        asyncio.run(main())
        """
    ),
    "async with that is never left": Program(
        """
        import asyncio

        async def main():
            client = make()
            await client.__aenter__()
            client.capture(event())

        asyncio.run(main())
        """
    ),
    "async with that is never left, and whose drain is at work": Program(
        """
        import asyncio

        async def main():
            client = make()
            await client.__aenter__()
            while client._lifecycle.host.wakeup is None:
                await asyncio.sleep(0.01)
            client.capture(event())

        asyncio.run(main())
        """
    ),
    "a capture after async with": Program(
        """
        import asyncio

        client = make()

        async def main():
            async with client:
                pass

        asyncio.run(main())
        client.capture(event())
        """
    ),
    "a loop that is neither run to its end nor closed": Program(
        """
        import asyncio, warnings

        client = make()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(client.__aenter__())
        client.capture(event())
        # The script's own omission: asyncio complains about an open loop and its pending tasks.
        warnings.simplefilter("ignore", ResourceWarning)
        loop.set_exception_handler(lambda loop, context: None)
        """
    ),
    "with": Program(
        """
        with make() as client:
            client.capture(event())
        """
    ),
    "shutdown": Program(
        """
        client = make()
        client.capture(event())
        client.shutdown()
        client.shutdown()
        """
    ),
    "a thread that captures after main has ended": Program(
        """
        import threading, time

        def work():
            threading.main_thread().join()
            time.sleep(0.1)
            client.capture(event())

        client = make()
        threading.Thread(target=work).start()
        """
    ),
    "a daemon thread that captured": Program(
        """
        import threading

        client = make()
        thread = threading.Thread(target=client.capture, args=(event(),), daemon=True)
        thread.start()
        thread.join()
        """
    ),
    "another atexit handler": Program(
        """
        import atexit

        client = make()
        atexit.register(lambda: client.capture(event()))
        """
    ),
    "a forgotten client": Program(
        """
        import gc

        client = make()
        client.capture(event())
        del client
        gc.collect()
        """
    ),
    "a signal handler": Program(
        """
        import signal

        client = make()
        signal.signal(signal.SIGUSR1, lambda signum, frame: client.capture(event()))
        signal.raise_signal(signal.SIGUSR1)
        """
    ),
    "a custom batch size that starts the POST before the exit": Program(
        "make(batch_size=1).capture(event())"
    ),
}


class TestDelivery:
    @pytest.mark.parametrize("name", PROGRAMS)
    def test_an_event_is_delivered(self, name: str, ingest: RecordingIngest) -> None:
        """One event, captured once, arrives once, and the process ends as it would without us."""
        program = PROGRAMS[name]
        ended = run_script(program.script, ingest.url)
        assert ended == (program.code, "", "")
        assert ingest.paths == ["/a"]
        assert ingest.posts[0].headers["authorization"] == "Bearer test-key"

    def test_after_an_unhandled_exception(self, ingest: RecordingIngest) -> None:
        """The traceback and the exit code are the program's own."""
        ended = run_script("make().capture(event())\nraise LookupError('as planned')", ingest.url)
        assert ended.code == 1
        assert ended.err.startswith("Traceback (most recent call last):\n")
        assert ended.err.endswith("\nLookupError: as planned\n")
        assert ended.err.count("Traceback") == 1
        assert ingest.paths == ["/a"]

    def test_after_ctrl_c(self, ingest: RecordingIngest) -> None:
        script = """
            import signal
            make().capture(event())
            signal.raise_signal(signal.SIGINT)
        """
        ended = run_script(script, ingest.url)
        assert ended.err.endswith("\nKeyboardInterrupt\n")
        assert ended.err.count("Traceback") == 1
        assert ingest.paths == ["/a"]

    def test_everything_in_order(self, ingest: RecordingIngest) -> None:
        script = """
            client = make(batch_size=10_000)
            for number in range(2_500):
                client.capture(event(f"/{number}"))
        """
        assert run_script(script, ingest.url) == (0, "", "")
        assert ingest.paths == [f"/{number}" for number in range(2_500)]
        assert [len(post.events) for post in ingest.posts] == [1000, 1000, 500]

    def test_a_post_that_is_under_way_is_waited_for(self, ingest: RecordingIngest) -> None:
        """What is in flight arrives once, and what was captured behind it too."""
        ingest.delay = 0.5
        script = """
            import time

            client = make(batch_size=1)
            client.capture(event("/first"))
            while client.stats()["in_flight"] == 0:
                time.sleep(0.01)
            client.capture(event("/second"))
        """
        assert run_script(script, ingest.url) == (0, "", "")
        assert ingest.paths == ["/first", "/second"]

    def test_a_capture_while_the_drain_ends(self, ingest: RecordingIngest) -> None:
        """It starts no thread, which may not live to see its first step; the exit hook sends it."""
        script = """
            def capture_and_end():
                client.capture(event("/last"))
                end()

            client = make()
            client.capture(event("/first"))
            client.flush_sync(20)
            host = client._lifecycle.host
            end, host.end = host.end, capture_and_end
        """
        assert run_script(script, ingest.url) == (0, "", "")
        assert ingest.paths == ["/first", "/last"]

    def test_two_clients(self, ingest: RecordingIngest) -> None:
        """Both are delivered, one from a bridge that is up and one that never had a host."""
        script = """
            client, other = make(batch_size=1), make()
            client.capture(event("/1"))
            client.flush_sync()
            client.capture(event("/2"))
            other.capture(event("/3"))
        """
        assert run_script(script, ingest.url) == (0, "", "")
        assert sorted(ingest.paths) == ["/1", "/2", "/3"]

    def test_where_one_more_thread_is_all_there_is(self, ingest: RecordingIngest) -> None:
        """At a limit, and at exit (3.12), the thread that was to start the bridge's runs the drain."""
        script = """
            import threading

            def refuse(thread):
                raise RuntimeError("can't start new thread")

            threading.Thread.start = refuse
            client = make()
            client.capture(event("/1"))
            assert client.flush_sync(20) == (1, 0, 0)
            client.capture(event("/2"))
        """
        assert run_script(script, ingest.url) == (0, "", "")
        assert ingest.paths == ["/1", "/2"]

    def test_where_no_thread_can_be_started(self, ingest: RecordingIngest) -> None:
        """The caller of `flush_sync` drains, and so does the exit hook."""
        script = """
            import _thread

            def refuse(*args):
                raise RuntimeError("can't start new thread")

            _thread.start_new_thread = refuse
            client = make(on_error=print)
            client.capture(event("/1"))
            assert client.flush_sync(20) == (1, 0, 0)
            client.capture(event("/2"))
        """
        reported = "no thread can be started; events wait for the exit hook\n"
        assert run_script(script, ingest.url) == (0, reported, "")
        assert ingest.paths == ["/1", "/2"]

    def test_a_forgotten_client_whose_drain_has_ended(self, ingest: RecordingIngest) -> None:
        """Its last POST failed, nothing refers to it, and yet it delivers at exit."""
        ingest.statuses = [503]
        script = """
            import gc

            with make() as client:
                client.capture(event())
            print(client.stats()["pending"], client.stats()["host"])
            del client
            gc.collect()
        """
        assert run_script(script, ingest.url) == (0, "1 None\n", "")
        assert ingest.paths == ["/a", "/a"]
        assert ingest.accepted_paths == ["/a"]

    def test_register_atexit_false_leaves_the_rest(self, ingest: RecordingIngest) -> None:
        """And does not crash Python 3.9 and 3.10, which it did now and then: hence five times."""
        script = """
            client = make(register_atexit=False)
            client.capture(event())
        """
        for _ in range(5):
            assert run_script(script, ingest.url) == (0, "", "")
        assert ingest.paths == []


class TestTooLate:
    """Captures after the exit hook ran: counted, never sent, and never a reason to hang or to print."""

    def test_in_an_atexit_handler_that_runs_after_ours(self, ingest: RecordingIngest) -> None:
        """Handlers run last in, first out: one that was there before us comes after us."""
        script = """
            client = make()
            client.capture(event("/in-time"))
        """
        before = """
import atexit

def late():
    client.capture(event("/late"))
    print(client.stats()["dropped"], client.stats()["state"])

atexit.register(late)
"""
        ended = run_script(script, ingest.url, before=before)
        assert ended == (0, "{'closed': 1} closed\n", "")
        assert ingest.paths == ["/in-time"]

    def test_in_a_finalizer_at_the_interpreters_end(self, ingest: RecordingIngest) -> None:
        script = """
            class Late:
                def __init__(self, client):
                    self.capture, self.event = client.capture, event("/late")

                def __del__(self):
                    for _ in range(300):
                        self.capture(self.event)

            client = make()
            client.capture(event("/in-time"))
            late = Late(client)
            import builtins
            builtins.late_too = Late(make(batch_size=1))  # freed among the very last
        """
        assert run_script(script, ingest.url) == (0, "", "")
        assert ingest.paths == ["/in-time"]

    def test_in_a_daemon_thread_that_never_stops(self, ingest: RecordingIngest) -> None:
        """A thread that captures on and on cannot keep the interpreter."""
        script = """
            import threading, time

            def work():
                while True:
                    client.capture(event())
                    time.sleep(0.005)

            client = make(shutdown_timeout=10)
            threading.Thread(target=work, daemon=True).start()
            time.sleep(0.2)
        """
        assert run_script(script, ingest.url) == (0, "", "")
        assert ingest.paths


#: Prints how long our exit hook took: handlers run last in, first out.
HELD = """
import atexit, sys, time

began = []
atexit.register(lambda: print("held", time.monotonic() - began[0]))
"""
#: Seconds of `shutdown_timeout`, and by how much exit may exceed it.
BUDGET, EXCESS = 1.0, 1.0
#: Seconds that a busy machine may add; far less than a time-out that was forgotten (30).
NOISE = 2.0


class TestBadIngest:
    """An ingest that cannot be reached holds exit for no longer than `shutdown_timeout` + 1 s."""

    SCRIPT = f"""
        def report(error):
            print(type(error).__name__, getattr(error, "count", ""))

        client = make(on_error=report, timeout=30, shutdown_timeout={BUDGET})
        client.capture(event("/1"))
        client.capture(event("/2"))
        atexit.register(lambda: began.append(time.monotonic()))
    """
    #: The same with a POST under way at exit.
    UNDER_WAY = (
        SCRIPT
        + """
        import threading
        threading.Thread(target=client.flush_sync, daemon=True).start()
        while client.stats()["in_flight"] == 0:
            time.sleep(0.01)
    """
    )

    def held(self, script: str, url: str) -> tuple[float, list[str]]:
        """Return for how long exit was held, in seconds, and what was reported."""
        ended = run_script(script, url, before=HELD)
        assert (ended.code, ended.err) == (0, "")
        *reported, held = ended.lines
        return float(held.split()[1]), reported

    @pytest.fixture
    def at_most(self) -> float:
        """Return the bound, measured against an ingest that answers."""
        with RecordingIngest() as fast:
            # With a budget that no busy machine uses up: this one must deliver.
            generous = self.SCRIPT.replace(f"shutdown_timeout={BUDGET}", "shutdown_timeout=30")
            held, reported = self.held(generous, fast.url)
        assert reported == []
        return held + BUDGET + EXCESS + NOISE

    def test_a_dead_one(self, at_most: float) -> None:
        held, reported = self.held(self.SCRIPT, f"http://localhost:{free_port()}")
        assert held < at_most
        assert reported == ["NetworkError ", "ClientClosed 2"]

    @pytest.mark.parametrize("script", [SCRIPT, UNDER_WAY], ids=["first POST at exit", "POST under way"])
    def test_a_hanging_one(self, script: str, at_most: float, ingest: RecordingIngest) -> None:
        ingest.answering.clear()
        held, reported = self.held(script, ingest.url)
        assert held < at_most
        assert reported == ["ExportTimeout ", "ClientClosed 2"]

    def test_a_flush_that_shutdown_cuts_short_is_not_tried_again(self, ingest: RecordingIngest) -> None:
        """Even where its thread comes to it only when the drain has ended."""
        ingest.answering.clear()
        script = """
            import threading, time
            from beaconhq import loops

            def wait_until_the_drain_has_ended(future, timeout):
                done = wait_in_thread(future, timeout)
                while threading.current_thread() is thread and client.stats()["host"]:
                    time.sleep(0.01)
                return done

            wait_in_thread, loops.wait_in_thread = loops.wait_in_thread, wait_until_the_drain_has_ended
            client = make(timeout=30, shutdown_timeout=0.5, register_atexit=False)
            client.capture(event())
            thread = threading.Thread(target=client.flush_sync)
            thread.start()
            while client.stats()["in_flight"] == 0:
                time.sleep(0.01)
            client.shutdown()
            thread.join(10)
            print(thread.is_alive(), client.stats()["pending"])
        """
        assert run_script(script, ingest.url) == (0, "False 1\n", "")
        assert len(ingest.posts) == 1

    def test_a_transport_that_blocks(self) -> None:
        """A plain `send` cannot be cancelled; what it holds is reported as lost, too."""
        script = f"""
            from threading import Event

            class Blocking:
                def send(self, events):
                    Event().wait(30)

            def report(error):
                print(type(error).__name__, getattr(error, "count", ""))

            client = make(transport=Blocking(), on_error=report, shutdown_timeout={BUDGET})
            client.capture(event("/1"))
            atexit.register(lambda: began.append(time.monotonic()))
        """
        held, reported = self.held(script, "http://localhost:9")
        assert held < BUDGET + EXCESS + NOISE
        assert reported == ["ClientClosed 1"]

    def test_one_whose_answer_drips(self, at_most: float, ingest: RecordingIngest) -> None:
        ingest.drip = "head"
        held, reported = self.held(self.SCRIPT, ingest.url)
        assert held < at_most
        assert reported == ["ExportTimeout ", "ClientClosed 2"]

    def test_one_whose_body_drips(self, at_most: float, ingest: RecordingIngest) -> None:
        """The status decides: what follows it can hold exit, for no longer, but loses nothing."""
        ingest.drip = "body"
        held, reported = self.held(self.SCRIPT, ingest.url)
        assert held < at_most
        assert reported == []

    def test_one_without_a_name(self, at_most: float) -> None:
        """A name that does not resolve; `.invalid` never does (RFC 2606)."""
        held, reported = self.held(self.SCRIPT, "http://beacon.invalid:9")
        assert held < at_most
        assert reported == ["InsecureUrl ", "NetworkError ", "ClientClosed 2"]

    def test_one_that_says_later(self, at_most: float, ingest: RecordingIngest) -> None:
        ingest.status = 503
        held, reported = self.held(self.SCRIPT, ingest.url)
        assert held < at_most
        assert reported == ["IngestUnavailable ", "ClientClosed 2"]
        assert len(ingest.posts) == 1

    def test_thirty_clients_of_a_hanging_one_share_the_time(
        self, at_most: float, ingest: RecordingIngest
    ) -> None:
        ingest.answering.clear()
        script = self.SCRIPT + "\n        clients = [make(shutdown_timeout=1) for _ in range(30)]"
        script += "\n        for client in clients: client.capture(event())"
        held, _ = self.held(script, ingest.url)
        assert held < at_most + NOISE
