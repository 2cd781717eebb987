"""Fork: events stay their process's own, a child starts afresh, and the parent is not deafened."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Iterator, List

import pytest

from .children import FORKING, PRELUDE, Ended, run_script

if TYPE_CHECKING:
    from pathlib import Path

    from .ingest_server import RecordingIngest

pytestmark = pytest.mark.process

#: `child(work)` forks, runs `work` in the child, and returns once the child has ended well.
FORK = """
import os

def fork(work, leave=os._exit):
    pid = os.fork()
    if pid == 0:
        work()
        leave(0)
    return pid

def ended(pid):
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0, code

def child(work, leave=os._exit):
    ended(fork(work, leave))
"""


def run(script: str, ingest: RecordingIngest) -> Ended:
    return run_script(script, ingest.url, before=FORK, flags=FORKING)


class TestBufferedEvents:
    @pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
    def test_they_are_the_parents(self, leave: str, ingest: RecordingIngest) -> None:
        """A child that ends, by its exit hook or without, sends none of them."""
        script = f"""
            client = make()
            for number in range(3):
                client.capture(event(f"/{{number}}"))
            child(lambda: print(client.stats()["captured"]), leave={leave})
        """
        assert run(script, ingest) == (0, "0\n", "")
        assert ingest.paths == ["/0", "/1", "/2"]

    def test_losses_that_were_kept_back_are_the_parents_to_report(self, ingest: RecordingIngest) -> None:
        script = """
            client = make(on_error=lambda error: print(error.count, flush=True))
            for _ in range(3):
                client.capture(None)
                client.flush_sync(20)

            def work():
                print(client.stats()["last_error"], flush=True)
                client.capture(event("/child"))
                client.flush_sync(20)

            child(work, leave=sys.exit)
            print("parent", flush=True)
        """
        assert run(script, ingest) == (0, "1\nNone\nparent\n2\n", "")
        assert ingest.paths == ["/child"]

    def test_a_child_that_flushes_sends_its_own_only(self, ingest: RecordingIngest) -> None:
        script = """
            def work():
                client.capture(event("/child"))
                print(client.flush_sync(20))
                print(client.stats()["captured"])

            client = make()
            client.capture(event("/parent"))
            child(work)
        """
        ended = run(script, ingest)
        assert ended == (0, "FlushResult(delivered=1, dropped=0, pending=0)\n1\n", "")
        assert ingest.paths == ["/child", "/parent"]

    def test_a_child_delivers_at_its_exit(self, ingest: RecordingIngest) -> None:
        """One event each, by the exit hook of each."""
        script = """
            client = make()
            client.capture(event("/parent"))
            child(lambda: client.capture(event("/child")), leave=sys.exit)
        """
        assert run(script, ingest) == (0, "", "")
        assert ingest.paths == ["/child", "/parent"]

    def test_a_child_hosts_the_drain_in_its_own_loop(self, ingest: RecordingIngest) -> None:
        """The parent's bridge is up; the child runs an asyncio program, and then another."""
        script = """
            import asyncio

            async def serve(path):
                async with client:
                    client.capture(event(path))
                    assert (await client.flush(20)).pending == 0
                    assert client.stats()["host"] == "event_loop"

            def work():
                asyncio.run(serve("/child"))
                asyncio.run(serve("/child-again"))

            client = make()
            client.capture(event("/parent"))
            assert client.flush_sync(20) == (1, 0, 0)
            child(work, leave=sys.exit)
            asyncio.run(serve("/parent-again"))
        """
        assert run(script, ingest) == (0, "", "")
        assert ingest.paths == ["/parent", "/child", "/child-again", "/parent-again"]

    def test_a_grandchild_delivers_too(self, ingest: RecordingIngest) -> None:
        script = """
            def work():
                client.capture(event("/child"))
                child(lambda: client.capture(event("/grandchild")), leave=sys.exit)

            client = make()
            client.capture(event("/parent"))
            child(work, leave=sys.exit)
        """
        assert run(script, ingest) == (0, "", "")
        assert ingest.paths == ["/grandchild", "/child", "/parent"]

    def test_a_client_of_the_master_serves_its_workers(self, ingest: RecordingIngest) -> None:
        """Preloading: the client is made before the fork and used after it."""
        script = """
            client = make(shutdown_timeout=30)  # four that load the HTTP stack at the same time
            pids = [
                fork(lambda: client.capture(event(f"/{number}")), leave=sys.exit) for number in range(4)
            ]
            for pid in pids:
                ended(pid)
        """
        assert run(script, ingest) == (0, "", "")
        assert sorted(ingest.paths) == ["/0", "/1", "/2", "/3"]

    def test_after_the_exit_hook_of_a_child_the_parent_goes_on(self, ingest: RecordingIngest) -> None:
        script = """
            client = make()
            child(lambda: client.capture(event("/child")), leave=sys.exit)
            client.capture(event("/parent"))
            print(client.stats()["state"])
        """
        assert run(script, ingest) == (0, "running\n", "")
        assert ingest.paths == ["/child", "/parent"]


class TestForkDuringAPost:
    @pytest.fixture
    def released(self, ingest: RecordingIngest) -> Iterator[None]:
        """Answer nothing until the child's POST has arrived as well."""

        def release() -> None:
            ingest.wait_for_posts(2)
            ingest.answering.set()

        ingest.answering.clear()
        thread = threading.Thread(target=release)
        thread.start()
        yield
        thread.join()

    def test_of_the_bridge(self, released: None, ingest: RecordingIngest) -> None:
        script = """
            import time

            def work():
                client.capture(event("/child"))
                assert client.flush_sync(20) == (1, 0, 0)

            client = make(batch_size=1, timeout=20)
            client.capture(event("/parent"))
            while client.stats()["in_flight"] == 0:
                time.sleep(0.01)
            client.capture(event("/behind"))
            child(work)
            print(client.flush_sync(20).pending, client.stats()["delivered"])
        """
        assert run(script, ingest) == (0, "0 2\n", "")
        # The parent's POST had begun; on a busy machine the child's may arrive before it.
        assert sorted(ingest.paths[:2]) == ["/child", "/parent"]
        assert ingest.paths[2:] == ["/behind"]

    def test_of_the_programs_own_loop(self, released: None, ingest: RecordingIngest) -> None:
        """The child leaves the parent's epoll set alone, and hosts its own drain in a thread."""
        script = """
            import asyncio

            def work():
                client.capture(event("/child"))
                assert client.flush_sync(20) == (1, 0, 0)
                assert client.stats()["host"] == "thread"

            async def main():
                async with client:
                    client.capture(event("/parent"))
                    while client.stats()["in_flight"] == 0:
                        await asyncio.sleep(0.01)
                    await asyncio.to_thread(ended, fork(work))
                    client.capture(event("/behind"))
                    print((await client.flush(20)).pending)

            client = make(batch_size=1, timeout=20)
            asyncio.run(main())
        """
        assert run(script, ingest) == (0, "0\n", "")
        # The parent's POST had begun; on a busy machine the child's may arrive before it.
        assert sorted(ingest.paths[:2]) == ["/child", "/parent"]
        assert ingest.paths[2:] == ["/behind"]


class TestParent:
    def test_the_bridges_connection_survives_a_child(self, ingest: RecordingIngest) -> None:
        """The child collects what it inherited and exits; the parent goes on over the same connection."""
        script = """
            import gc

            def work():
                global client
                del client
                gc.collect()

            client = make()
            for number in range(4):
                client.capture(event(f"/{number}"))
                assert client.flush_sync(20) == (1, 0, 0)
                child(work, leave=sys.exit if number % 2 else os._exit)
        """
        assert run(script, ingest) == (0, "", "")
        assert ingest.paths == ["/0", "/1", "/2", "/3"]
        assert ingest.connections == 1

    def test_the_loops_connection_survives_a_child(self, ingest: RecordingIngest) -> None:
        script = """
            import asyncio, gc

            async def main():
                async with client:
                    for number in range(4):
                        client.capture(event(f"/{number}"))
                        assert await client.flush(20) == (1, 0, 0)
                        await asyncio.to_thread(ended, fork(gc.collect))

            client = make()
            asyncio.run(main())
        """
        assert run(script, ingest) == (0, "", "")
        assert ingest.paths == ["/0", "/1", "/2", "/3"]
        assert ingest.connections == 1

    def test_it_survives_a_child_that_replaces_the_drain(self, ingest: RecordingIngest) -> None:
        """A child with a drain of its own closes that at its exit, not the parent's."""
        script = """
            import gc

            def work():
                client.capture(event("/child"))
                assert client.flush_sync(20) == (1, 0, 0)
                client.shutdown()
                gc.collect()

            client = make()
            for _ in range(3):
                client.capture(event("/parent"))
                assert client.flush_sync(20) == (1, 0, 0)
                child(work, leave=sys.exit)
        """
        assert run(script, ingest) == (0, "", "")
        assert ingest.paths == ["/parent", "/child"] * 3
        assert ingest.connections == 4


class TestAnyMoment:
    def test_while_the_http_stack_is_loaded(self, ingest: RecordingIngest) -> None:
        """A fork in the middle of an import leaves no lock behind that would hang the child."""
        script = """
            import time

            def round(number):
                client.capture(event(f"/{number}-parent"))  # the bridge begins to load httpx
                time.sleep(number * 0.015)
                child(lambda: grandchild(number))
                assert client.flush_sync(20) == (1, 0, 0)

            def grandchild(number):
                client.capture(event(f"/{number}-child"))
                assert client.flush_sync(20) == (1, 0, 0)

            client = make()
            for number in range(0, 20, 2):
                pids = [fork(lambda: round(number + more)) for more in (0, 1)]
                for pid in pids:
                    ended(pid)
            assert "httpx" not in sys.modules
        """
        assert run(script, ingest) == (0, "", "")
        expected = [f"/{number}-{who}" for number in range(20) for who in ("parent", "child")]
        assert sorted(ingest.paths) == sorted(expected)

    def test_right_after_the_bridge_has_ended(self, ingest: RecordingIngest) -> None:
        """OpenSSL holds a lock of its own while its thread leaves, after Python is through with it."""
        script = """
            def work():
                client.capture(event("/child"))
                assert client.flush_sync(20) == (1, 0, 0)

            client = make()
            for number in range(40):
                client.capture(event("/parent"))
                client.shutdown()
                child(work)
        """
        assert run(script, ingest) == (0, "", "")
        assert (ingest.paths.count("/parent"), ingest.paths.count("/child")) == (40, 40)

    def test_while_a_host_name_is_looked_up(self, ingest: RecordingIngest) -> None:
        """The C library's locks are not made for that: a fork waits for the look-up."""
        script = """
            import socket, threading, time

            lock = threading.Lock()  # stands for the C library's: a child inherits it as it is
            looking = threading.Event()
            look_up = socket.getaddrinfo

            def look_up_slowly(*args, **options):
                with lock:
                    looking.set()
                    time.sleep(0.3)
                    return look_up(*args, **options)

            def work():
                client.capture(event("/child"))
                assert client.flush_sync(20) == (1, 0, 0)

            socket.getaddrinfo = look_up_slowly
            client = make(batch_size=1)
            client.capture(event("/parent"))
            assert looking.wait(20)
            child(work)
            assert client.flush_sync(20).pending == 0
        """
        assert run(script, ingest) == (0, "", "")
        assert sorted(ingest.paths) == ["/child", "/parent"]

    def test_while_every_lock_is_held(self, ingest: RecordingIngest) -> None:
        script = """
            import contextlib

            def work():
                client.capture(event("/child"))
                assert client.flush_sync(20) == (1, 0, 0)
                assert client.stats()["captured"] == 1

            client = make()
            client.capture(event("/parent"))
            assert client.flush_sync(20) == (1, 0, 0)
            lifecycle = client._lifecycle
            with contextlib.ExitStack() as stack:
                for lock in (lifecycle._lock, lifecycle._making, lifecycle.host._lock, lifecycle.queue._lock):
                    stack.enter_context(lock)
                child(work, leave=sys.exit)
        """
        assert run(script, ingest) == (0, "", "")
        assert ingest.paths == ["/parent", "/child"]

    def test_while_threads_are_at_it(self, ingest: RecordingIngest) -> None:
        """Locks are inherited in any state; the child has its own."""
        script = """
            import threading

            def hammer(work):
                while not over.wait(0.0005):
                    work()

            def work():
                client.capture(event("/child"))
                assert client.flush_sync(20) == (1, 0, 0)
                client.stats()

            client = make(max_buffer_size=50, batch_size=10)
            over = threading.Event()
            busy = [client.stats, client.flush_sync, lambda: client.capture(event("/parent"))]
            threads = [threading.Thread(target=hammer, args=(work,)) for work in busy]
            for thread in threads:
                thread.start()
            for _ in range(20):
                child(work)
            over.set()
            for thread in threads:
                thread.join()
        """
        assert run(script, ingest) == (0, "", "")
        assert ingest.paths.count("/child") == 20

    @pytest.mark.parametrize("goes_on", [False, True])
    @pytest.mark.parametrize("awake", [False, pytest.param(True, marks=pytest.mark.torture)])
    def test_at_every_line_of_a_capture(self, awake: bool, goes_on: bool, ingest: RecordingIngest) -> None:
        """
        As a signal handler may, that forks wherever it finds the main thread.

        A child that ends in there has only its own event. One that goes on also makes the
        capture that it was forked in, if the event was not the parent's yet.
        """
        script = f"""
            import beaconhq

            home = os.path.dirname(beaconhq.__file__)

            def work():
                client.capture(event("/child"))
                assert client.flush_sync(30).pending == 0
                assert client.stats()["delivered"] == client.stats()["captured"] <= {1 + goes_on}

            def capture_and_fork_at(number):
                pids = []
                lines = 0

                def trace(frame, kind, _):
                    nonlocal lines
                    if kind == "line":
                        lines += 1
                        if lines == number + 1:
                            sys.settrace(None)
                            pids.append(os.fork() if {goes_on} else fork(work))
                    return trace if frame.f_code.co_filename.startswith(home) else None

                made = event(f"/{{number}}")
                sys.settrace(trace)
                client.capture(made)
                sys.settrace(None)
                if pids == [0]:
                    work()
                    os._exit(0)
                for pid in pids:
                    ended(pid)
                assert client.flush_sync(30).pending == 0
                return pids

            client = make(batch_size=1, timeout=30)
            number = 0
            while True:
                if {awake}:
                    client.capture(event("/awake"))
                    assert client.flush_sync(30).pending == 0
                forked = capture_and_fork_at(number)
                client.shutdown()
                if not forked:
                    break
                number += 1
            print(number)
        """
        ended = run(script, ingest)
        assert (ended.code, ended.err) == (0, "")
        lines = int(ended.out)
        assert lines >= 10
        assert ingest.paths.count("/child") == lines
        assert ingest.paths.count("/awake") == (lines + 1) * awake
        of_parent = [path for path in ingest.paths if path not in ("/child", "/awake")]
        assert set(of_parent) == {f"/{number}" for number in range(lines + 1)}
        assert goes_on or len(of_parent) == lines + 1


class TestForkThatCallsNoHook:
    """
    What forks in C, such as uWSGI, may not tell Python: the process's id does.

    The parent's drain runs in its own event loop, so that it has no second thread: Python
    itself does not survive such a fork where another thread was about to run.
    """

    @pytest.mark.parametrize(
        ("work", "expected"),
        [
            ("client.capture(event('/child')); client.flush_sync(20)", ["/child"]),
            ("client.capture(event('/child')); client.shutdown()", ["/child"]),
            ("client.capture(event('/child')); atexit._run_exitfuncs()", ["/child"]),
            ("client.flush_sync(20)", []),
            ("client.shutdown()", []),
            ("atexit._run_exitfuncs()", []),
        ],
    )
    def test_the_parents_events_stay_with_it(
        self, work: str, expected: List[str], ingest: RecordingIngest
    ) -> None:
        script = f"""
            import asyncio, atexit, ctypes, traceback

            async def main():
                async with client:
                    client.capture(event("/parent-0"))
                    assert await client.flush(20) == (1, 0, 0)
                    client.capture(event("/parent-1"))
                    pid = ctypes.PyDLL(None).fork()  # keeps the interpreter's lock, as os.fork does
                    if pid == 0:
                        try:
                            {work}
                            os._exit(0)
                        except BaseException:
                            traceback.print_exc()
                            os._exit(1)
                    await asyncio.to_thread(ended, pid)
                    assert await client.flush(20) == (1, 0, 0)

            client = make(batch_size=2)
            asyncio.run(main())
        """
        assert run(script, ingest) == (0, "", "")
        assert ingest.paths == ["/parent-0", *expected, "/parent-1"]


class TestMultiprocessing:
    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    @pytest.mark.parametrize("end", ["client.flush_sync()", "pass"], ids=["flushed", "left to the exit"])
    def test_children_deliver(self, method: str, end: str, tmp_path: Path, ingest: RecordingIngest) -> None:
        """`multiprocessing` ends forked children without atexit; our exit hook runs all the same."""
        program = tmp_path / "program.py"
        program.write_text(
            PRELUDE
            + f"""
import multiprocessing

client = make()

def work(number):
    client.capture(event(f"/{{number}}"))
    {end}

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    client.capture(event("/parent"))
    children = [context.Process(target=work, args=(number,)) for number in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
"""
        )
        script = (
            f"import runpy; sys.argv[0] = {str(program)!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        assert run(script, ingest) == (0, "", "")
        assert sorted(ingest.paths) == ["/0", "/1", "/2", "/parent"]
