"""What is loaded when: nothing at import, nothing in a request, nothing after the first flush."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .children import STRICT, environment, run_script

if TYPE_CHECKING:
    from .ingest_server import RecordingIngest

pytestmark = pytest.mark.process

#: Heavy or none of our business: what `import beaconhq` must not load.
LATER = ("asyncio", "httpx", "httpcore", "anyio", "logging", "inspect", "importlib.metadata", "ssl", "json")
FRAMEWORKS = ("starlette", "fastapi", "flask", "django", "uvicorn", "pydantic")


def test_import_loads_nothing_heavy() -> None:
    script = f"import sys, beaconhq; print([name for name in {LATER + FRAMEWORKS!r} if name in sys.modules])"
    ended = subprocess.run(
        [sys.executable, *STRICT, "-c", script],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[]\n", "")


class TestLaterFlushes:
    """`sys.modules` stays what it was after the second flush: the first one may have a first time."""

    def test_of_the_bridge(self, ingest: RecordingIngest) -> None:
        script = """
            with make() as client:
                for number in range(5):
                    client.capture(event())
                    assert client.flush_sync(20) == (1, 0, 0)
                    if number == 1:
                        modules = set(sys.modules)
                print(sorted(set(sys.modules) - modules))
        """
        assert run_script(script, ingest.url) == (0, "[]\n", "")
        assert ingest.connections == 1

    def test_of_an_event_loop(self, ingest: RecordingIngest) -> None:
        script = """
            import asyncio

            async def main():
                async with make() as client:
                    for number in range(5):
                        client.capture(event())
                        assert await client.flush(20) == (1, 0, 0)
                        if number == 1:
                            modules = set(sys.modules)
                    print(sorted(set(sys.modules) - modules))

            asyncio.run(main())
        """
        assert run_script(script, ingest.url) == (0, "[]\n", "")
        assert ingest.connections == 1


class TestRequestPath:
    @pytest.mark.parametrize("hosted", [True, False], ids=["event_loop", "thread"])
    def test_a_request_imports_nothing(self, hosted: bool, ingest: RecordingIngest) -> None:
        """The first request included: told by the thread that looks for a module."""
        script = f"""
            import asyncio, threading
            from beaconhq import BeaconASGIMiddleware

            async def app(scope, receive, send):
                await send({{"type": "http.response.start", "status": 200, "headers": []}})
                await send({{"type": "http.response.body", "body": b""}})

            async def receive():
                return {{"type": "http.request", "body": b""}}

            async def send(message):
                pass

            async def request(number):
                global serving
                scope = {{"type": "http", "method": "GET", "path": f"/{{number}}", "headers": []}}
                serving = True
                await wrapped(scope, receive, send)
                serving = False

            class Watch:
                def find_spec(self, name, path, target=None):
                    if serving and threading.get_ident() == loop_thread:
                        print("imports", name)

            async def main():
                if {hosted}:
                    await client.__aenter__()
                sys.meta_path.insert(0, Watch())
                for number in range(3):
                    await request(number)
                await client.flush(20)
                await request(3)
                await client.aclose()

            serving = False
            loop_thread = threading.get_ident()
            client = make()
            wrapped = BeaconASGIMiddleware(app, client=client, consumer_header="x-api-key")
            asyncio.run(main())
        """
        assert run_script(script, ingest.url) == (0, "", "")
        assert ingest.paths == ["/0", "/1", "/2", "/3"]
