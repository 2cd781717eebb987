"""The host sees nothing of ours: no log line, no context, no stall."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, List

import pytest

from .children import run_script

if TYPE_CHECKING:
    from .ingest_server import RecordingIngest

pytestmark = pytest.mark.process

#: Records what is logged from here on. asyncio's own lines about the program's loop come before.
RECORD = """
import asyncio, json, logging

records = []

class Recorder(logging.Handler):
    def emit(self, record):
        records.append(f"{record.name}: {record.getMessage()}")

logging.basicConfig(level=logging.DEBUG, handlers=[Recorder()])
"""


class TestLog:
    def test_the_bridge_logs_nothing(self, ingest: RecordingIngest) -> None:
        """Connecting, posting, reusing the connection, failing and closing, at level DEBUG."""
        script = """
            with make(batch_size=1) as client:
                client.capture(event())
                client.flush_sync()
                client.capture(event())
                client.flush_sync()
            with BeaconClient("test-key", "http://localhost:1") as client:
                client.capture(event())
                client.flush_sync()
            make().capture(event())  # delivered by the exit hook, from the main thread
            atexit.register(lambda: print(records))
        """
        before = "import atexit" + RECORD + "atexit.register(lambda: print(records))\n"
        ended = run_script(script, ingest.url, before=before)
        assert ended == (0, "[]\n[]\n", "")
        assert len(ingest.posts) == 3

    def test_an_event_loop_hosts_in_silence(self, ingest: RecordingIngest) -> None:
        """The program's own use of httpx in the same loop, at the same time, still logs."""
        script = """
            import httpx

            async def main():
                records.clear()
                async with httpx.AsyncClient() as http:
                    own = asyncio.create_task(talk(http))
                    async with make() as client:
                        for _ in range(20):
                            client.capture(event())
                            await client.flush()
                    await own
                    print(json.dumps(records))

            async def talk(http):
                for _ in range(20):
                    await http.post(sys.argv[1], json={"events": []})

            asyncio.run(main())
        """
        ended = run_script(script, ingest.url, before=RECORD)
        assert (ended.code, ended.err) == (0, "")
        assert len(ingest.posts) == 40
        records = json.loads(ended.out)
        own = [record for record in records if record.startswith("httpx: HTTP Request: POST")]
        assert len(own) == 20
        assert not [record for record in own if "/v1/ingest" in record]
        # 20 requests over one connection: what httpcore says about them is theirs.
        sent = [record for record in records if "httpcore.http11: send_request_headers.started" in record]
        assert len(sent) == 20
        assert sum("connect_tcp.started" in record for record in records) == 1

    def test_levels_and_handlers_stay(self, ingest: RecordingIngest) -> None:
        script = """
            import logging

            with make() as client:
                client.capture(event())
            for name in ("", "httpx", "httpcore", "httpcore.http11", "asyncio", "beaconhq"):
                logger = logging.getLogger(name)
                print(logger.level, logger.handlers, logger.propagate, logger.disabled)
        """
        ended = run_script(script, ingest.url)
        assert ended.lines == ["30 [] True False", *["0 [] True False"] * 5]


class TestStall:
    @pytest.mark.parametrize("framework", ["", "starlette.applications"], ids=["script", "starlette"])
    def test_the_http_stack_is_not_loaded_on_the_loops_thread(
        self, framework: str, ingest: RecordingIngest
    ) -> None:
        """Loading takes 200 to 330 ms of a worker thread. Told by who looks for a module."""
        script = f"""
            import asyncio, importlib, threading

            if {framework!r}:
                importlib.import_module({framework!r})
            main_thread = threading.get_ident()
            stalling, elsewhere = set(), set()

            class Watch:
                def find_spec(self, name, path, target=None):
                    (stalling if threading.get_ident() == main_thread else elsewhere).add(name)

            async def main():
                client = make()
                sys.meta_path.insert(0, Watch())
                async with client:
                    client.capture(event())
                    while client._lifecycle.host.wakeup is None:
                        await asyncio.sleep(0.01)
                    await client.flush()

            asyncio.run(main())
            print(sorted(name for name in stalling if name.startswith("beaconhq.")))
            heavy = {{"httpx", "httpcore", "h11", "ssl", "certifi", "email", "json", "encodings.idna"}}
            backends = {{"anyio._backends._asyncio", "httpcore._backends.anyio"}}
            print(sorted(stalling & (heavy | backends)))
            print(sorted(elsewhere & {{"httpx", "httpcore._async.http11", "beaconhq.http"}}))
        """
        ended = run_script(script, ingest.url)
        assert ended.err == ""
        assert ended.lines == [
            "['beaconhq.loops', 'beaconhq.quiet']",
            "[]",
            "['beaconhq.http', 'httpcore._async.http11', 'httpx']",
        ]

    def test_asyncio_does_not_call_our_task_slow(self, ingest: RecordingIngest) -> None:
        """
        `-X dev` warns "Executing <Task ...> took" from 100 ms on.

        A busy machine can stop any task for that long: once in three runs must be without.
        """
        script = """
            import asyncio

            async def main():
                async with make() as client:
                    client.capture(event())
                    await client.flush()

            asyncio.run(main())
        """
        runs: List[str] = []
        while len(runs) < 3 and "" not in runs:
            ended = run_script(script, ingest.url, timed=True)
            assert ended.code == 0
            assert "Traceback" not in ended.err
            runs.append(ended.err)
        assert "" in runs


class TestContext:
    @pytest.mark.parametrize("kind", ["async def", "def"])
    def test_a_requests_context_does_not_reach_the_drain(self, kind: str, ingest: RecordingIngest) -> None:
        """Whoever starts the drain, and whoever wakes it: a transport sees an empty context."""
        script = f"""
            import asyncio, contextvars

            trace = contextvars.ContextVar("trace", default="empty")
            seen = []

            class Looking:
                {kind} send(self, events):
                    seen.append(trace.get())
                    return SendResult(True, 200)

            async def main():
                from_loop = make(transport=Looking(), batch_size=1)
                trace.set("a request's")
                await from_loop.__aenter__()
                for _ in range(3):
                    from_loop.capture(event())
                    await from_loop.flush()
                await from_loop.aclose()
                from_thread = make(transport=Looking(), batch_size=1)
                from_thread.capture(event())
                await from_thread.flush()
                await from_thread.aclose()

            from beaconhq import SendResult
            trace.set("a program's")
            asyncio.run(main())
            print(len(seen), set(seen))
        """
        ended = run_script(script, ingest.url)
        assert ended == (0, "4 {'empty'}\n", "")
