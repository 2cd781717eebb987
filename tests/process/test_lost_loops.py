"""An event loop that is closed under the drain loses nothing: the next capture starts the bridge."""

from __future__ import annotations

import textwrap
import threading
from typing import TYPE_CHECKING

import pytest

from .children import run_script

if TYPE_CHECKING:
    from pathlib import Path

    from .ingest_server import RecordingIngest

pytestmark = pytest.mark.process

#: Hosts the drain in a loop, captures "/before", and closes the loop without leaving the client.
ABANDON = """
import asyncio, time

client = make(timeout=20)
loop = asyncio.new_event_loop()
loop.set_exception_handler(lambda loop, context: None)  # "Task was destroyed": the program's own doing
loop.run_until_complete(client.__aenter__())

def run_until(condition):
    async def poll():
        while not condition():
            await asyncio.sleep(0.01)

    loop.run_until_complete(poll())

run_until(lambda: client._lifecycle.host.wakeup is not None)
"""


class TestClosedLoop:
    def test_idle(self, ingest: RecordingIngest) -> None:
        """One capture is enough; nothing else looks at the host."""
        script = """
            client.capture(event("/before"))
            loop.close()
            client.capture(event("/after"))
            deadline = time.monotonic() + 20
            while client.stats()["delivered"] < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            print(client.stats()["pending"], client.stats()["host"])
        """
        often = ABANDON.replace("timeout=20", "timeout=20, flush_interval=0.05")
        ended = run_script(often + textwrap.dedent(script), ingest.url)
        assert ended == (0, "0 thread\n", "")
        assert ingest.paths == ["/before", "/after"]

    def test_without_a_later_capture_the_exit_hook_delivers(self, ingest: RecordingIngest) -> None:
        script = """
            client.capture(event("/before"))
            loop.close()
        """
        ended = run_script(ABANDON + textwrap.dedent(script), ingest.url)
        assert ended == (0, "", "")
        assert ingest.paths == ["/before"]

    def test_never_run_again_nor_closed(self, ingest: RecordingIngest) -> None:
        """A loop that nobody runs looks alive to everybody else; the exit hook knows better."""
        script = """
            client.capture(event("/before"))
            client.capture(event("/after"))
            import warnings
            warnings.simplefilter("ignore", ResourceWarning)  # "unclosed event loop": the program's own
        """
        ended = run_script(ABANDON + textwrap.dedent(script), ingest.url)
        assert ended == (0, "", "")
        assert ingest.paths == ["/before", "/after"]

    def test_with_a_post_in_flight(self, tmp_path: Path, ingest: RecordingIngest) -> None:
        """The batch goes again, under the same key: an ingest can tell that it is the same."""
        ingest.answering.clear()
        script = """
            import os, warnings

            client.capture(event("/before"))
            loop.create_task(client.flush())
            run_until(lambda: os.path.exists(sys.argv[2]))
            warnings.simplefilter("ignore", ResourceWarning)  # its socket dies with the loop
            loop.close()
            print("closed", flush=True)
            client.capture(event("/after"))
            print(client.flush_sync(20).pending, client.stats()["host"])
        """

        arrived = tmp_path / "arrived"

        def release() -> None:
            ingest.wait_for_posts(1)
            arrived.touch()
            ingest.wait_for_posts(2)
            ingest.answering.set()

        thread = threading.Thread(target=release)
        thread.start()
        ended = run_script(ABANDON + textwrap.dedent(script), ingest.url, str(arrived))
        thread.join()
        assert ended == (0, "closed\n0 thread\n", "")
        assert ingest.paths == ["/before", "/before", "/after"]
        assert ingest.posts[0].key == ingest.posts[1].key
        assert ingest.accepted_paths == ["/before", "/after"]

    def test_the_next_loop_takes_over(self, ingest: RecordingIngest) -> None:
        script = """
            client.capture(event("/before"))
            loop.close()

            async def main():
                async with client:
                    client.capture(event("/after"))
                    print((await client.flush(20)).pending, client.stats()["host"])

            asyncio.run(main())
        """
        ended = run_script(ABANDON + textwrap.dedent(script), ingest.url)
        assert ended == (0, "0 event_loop\n", "")
        assert ingest.paths == ["/before", "/after"]

    def test_thirty_times(self, ingest: RecordingIngest) -> None:
        """One client, thirty loops that are closed under it: every event arrives once."""
        script = """
            loop.close()
            for number in range(30):
                loop = asyncio.new_event_loop()
                loop.set_exception_handler(lambda loop, context: None)
                loop.run_until_complete(client.__aenter__())
                client.capture(event(f"/{number}"))
                if number % 2:
                    run_until(lambda: client._lifecycle.host.wakeup is not None)
                loop.close()
            print(client.flush_sync(20).pending)
        """
        ended = run_script(ABANDON + textwrap.dedent(script), ingest.url)
        assert ended == (0, "0\n", "")
        assert ingest.paths == [f"/{number}" for number in range(30)]
