"""The real `beaconhq local` in a process: whatever happens to answers and to the ingest, stored once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import urllib.request
from typing import TYPE_CHECKING, Any, Callable, Iterator, List

import pytest
from local.processes import Running, running
from process.children import free_port
from support.events import event
from support.hosts import HOSTS, hosted, until

from .ingest import KEY, Fault

if TYPE_CHECKING:
    from pathlib import Path

    from beaconhq import BeaconClient

    from .ingest import FaultIngest

pytestmark = pytest.mark.process

MakeClient = Callable[..., "BeaconClient"]


@contextlib.contextmanager
def local_ingest(db: Path, port: int) -> Iterator[Running]:
    command = ("-m", "beaconhq", "local", "--port", str(port), "--db", str(db), "--key", KEY)
    with running(*command) as process:
        process.wait_for(r"listens on http://")
        yield process


def stored_in(db: Path) -> List[str]:
    with contextlib.closing(sqlite3.connect(str(db))) as connection:
        return [path for (path,) in connection.execute("SELECT path FROM events ORDER BY id")]


def totals(url: str) -> Any:
    request = urllib.request.Request(f"{url}/v1/summary", headers={"authorization": f"Bearer {KEY}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return json.load(answer)["totals"]


def test_it_drops_what_comes_twice_because_an_answer_was_lost(
    make_ingest: Callable[..., FaultIngest], make_client: MakeClient, tmp_path: Path
) -> None:
    """Between the two sits something that hands every POST on, and loses the answer in four ways."""
    port = free_port()
    url = f"http://localhost:{port}"

    async def main(host: str, first: int) -> None:
        between.script([Fault("reset"), Fault("hang"), Fault(status=502), Fault("reset_in_head")])
        client = make_client(ingest_url=between.get_url(), ingest_key=KEY, flush_interval=0.1, timeout=2)
        async with hosted(client, host):
            for number in range(first, first + 10):
                client.capture(event(number))
            await until(lambda: client.stats()["delivered"] == 10)

    with local_ingest(tmp_path / "events.db", port) as process:
        between = make_ingest(url)
        between.come_up()
        for number, host in enumerate(HOSTS):
            asyncio.run(main(host, 10 * number))
        assert stored_in(tmp_path / "events.db") == [event(number).path for number in range(20)]
        assert (totals(url)["stored"], totals(url)["duplicates"]) == (20, 8)
        assert totals(url)["rejected"] == 0
        assert process.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("host", HOSTS)
async def test_an_ingest_that_is_killed_and_started_again_has_everything_once(
    make_client: MakeClient, tmp_path: Path, host: str
) -> None:
    """SIGKILL, three times, in the middle of the traffic: also between a commit and its answer."""
    port = free_port()
    db = tmp_path / "events.db"
    options = {"flush_interval": 0.1, "batch_size": 10, "max_batch_size": 20}
    client = make_client(ingest_url=f"http://localhost:{port}", ingest_key=KEY, **options)
    captured = 0
    async with hosted(client, host):
        for round_ in range(3):
            with local_ingest(db, port) as process:
                before = client.stats()["delivered"]
                while client.stats()["delivered"] < before + 100:
                    client.capture(event(captured))
                    captured += 1
                    await asyncio.sleep(0.001)
                process.process.send_signal(signal.SIGKILL)
                process.finish()
            client.capture(event(captured))
            captured += 1
            assert client.stats()["dropped"] == {}, round_
        with local_ingest(db, port):
            await until(lambda: client.stats()["pending"] == client.stats()["in_flight"] == 0, timeout=60)
            assert client.stats()["delivered"] == captured
    assert stored_in(db) == [event(number).path for number in range(captured)]
