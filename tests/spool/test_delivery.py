"""
What a client with a spool delivers, over both hosts: nothing is lost but what never reached the disk.

Real files and real loops; the ingest is a transport that answers what the test says.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Callable, Iterator, List

import pytest
from support.events import event, numbers
from support.hosts import HOSTS, hosted, until
from support.transports import DOWN, GatedTransport, ScriptedTransport, answer

from beaconhq.errors import BatchRejected, InvalidEvent, SpoolDamaged, SpoolFull, SpoolUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from beaconhq import BeaconClient
    from beaconhq.errors import BeaconError

MakeClient = Callable[..., "BeaconClient"]

every_host = pytest.mark.parametrize("host", HOSTS)


@pytest.fixture
def make(make_client: MakeClient, tmp_path: Path) -> Iterator[MakeClient]:
    """Make clients with one spool; the sum of each holds at the end."""
    made: List[BeaconClient] = []

    def make(transport: Any, **options: Any) -> BeaconClient:
        client = make_client(transport=transport, **{"spool": tmp_path, "flush_interval": 0.05, **options})
        made.append(client)
        return client

    yield make
    for client in made:
        assert_sum_holds(client)


def assert_sum_holds(client: BeaconClient) -> None:
    now = client.stats()
    there = (
        now["delivered"] + sum(now["dropped"].values()) + now["in_flight"] + now["pending"] + now["spooled"]
    )
    assert now["captured"] + now["recovered"] == there
    assert min(now["captured"], now["recovered"], now["pending"], now["spooled"]) >= 0


def capture(client: BeaconClient, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        client.capture(event(number))


def files(folder: Path, pattern: str = "*") -> List[Path]:
    return list(folder.rglob(pattern))


def database(folder: Path) -> Path:
    (found,) = files(folder, "spool.db")
    return found


# -- going there, and coming back -------------------------------------------------------


@every_host
async def test_while_the_ingest_is_up_nothing_touches_the_disk(
    host: str, make: MakeClient, tmp_path: Path
) -> None:
    transport = ScriptedTransport()
    client = make(transport)
    async with hosted(client, host):
        capture(client, 250)
        assert await client.flush() == (250, 0, 0)
    assert files(tmp_path) == []


@every_host
async def test_while_the_drain_backs_off_events_go_to_the_disk_and_come_back_in_order(
    host: str, make: MakeClient
) -> None:
    transport = ScriptedTransport(then=DOWN)
    client = make(transport)
    async with hosted(client, host):
        capture(client, 30)
        await until(lambda: client.stats()["spooled"] == 30)
        capture(client, 30, start=30)
        await until(lambda: client.stats()["spooled"] == 60)
        assert client.stats()["pending"] == 0
        transport.then = answer(202)
        await until(lambda: client.stats()["delivered"] == 60)
        capture(client, 1, start=60)
        await until(lambda: client.stats()["delivered"] == 61)
    assert numbers(transport.delivered) == list(range(61))


@every_host
async def test_a_batch_that_was_tried_goes_again_under_its_key(host: str, make: MakeClient) -> None:
    transport = ScriptedTransport(DOWN)
    client = make(transport)
    async with hosted(client, host):
        capture(client, 3)
        await until(lambda: client.stats()["delivered"] == 3)
    first, second = transport.attempts
    assert first.key == second.key
    assert first.body == second.body


@every_host
async def test_what_a_stop_cannot_deliver_the_next_client_does(host: str, make: MakeClient) -> None:
    down = ScriptedTransport(then=DOWN)
    before = make(down, flush_interval=60)
    async with hosted(before, host):
        capture(before, 20)
    assert before.stats()["spooled"] == 20
    assert before.stats()["pending"] == 0

    up = ScriptedTransport()
    after = make(up)
    async with hosted(after, host):
        capture(after, 5, start=20)
        await until(lambda: after.stats()["delivered"] == 25)
        assert after.stats()["captured"] == 5
        assert after.stats()["recovered"] == 20
    assert numbers(up.delivered) == list(range(25))
    assert up.attempts[0].key == down.attempts[0].key


@every_host
async def test_a_stop_without_captures_leaves_no_claim_behind(
    host: str, make: MakeClient, tmp_path: Path
) -> None:
    down = make(ScriptedTransport(then=DOWN), flush_interval=60)
    async with hosted(down, host):
        capture(down, 1)
    up = make(ScriptedTransport())
    async with hosted(up, host):
        capture(up, 1, start=1)
        await until(lambda: up.stats()["delivered"] == 2)
    assert files(tmp_path, "*.lock") == []


@every_host
async def test_two_clients_share_a_folder_and_each_delivers_its_own(host: str, make: MakeClient) -> None:
    transports = [ScriptedTransport(then=DOWN), ScriptedTransport(then=DOWN)]
    clients = [make(transport) for transport in transports]
    async with hosted(clients[0], host), hosted(clients[1], host):
        for number, client in enumerate(clients):
            capture(client, 10, start=100 * number)
        await until(lambda: all(client.stats()["spooled"] == 10 for client in clients))
        for transport in transports:
            transport.then = answer(202)
        await until(lambda: all(client.stats()["delivered"] == 10 for client in clients))
    assert [numbers(transport.delivered) for transport in transports] == [
        list(range(10)),
        list(range(100, 110)),
    ]


@every_host
async def test_another_project_s_events_are_left_alone(host: str, make: MakeClient) -> None:
    theirs = make(ScriptedTransport(then=DOWN), ingest_key="their-key", flush_interval=60)
    async with hosted(theirs, host):
        capture(theirs, 3)
    transport = ScriptedTransport()
    ours = make(transport, ingest_key="our-key")
    async with hosted(ours, host):
        capture(ours, 1, start=7)
        await until(lambda: ours.stats()["delivered"] == 1)
    assert numbers(transport.delivered) == [7]
    assert ours.stats()["recovered"] == 0


@every_host
async def test_events_beyond_repair_are_dropped_alone_on_their_way_to_the_disk(
    host: str, make: MakeClient, reported: List[BeaconError]
) -> None:
    transport = ScriptedTransport(then=DOWN)
    client = make(transport)
    async with hosted(client, host):
        capture(client, 1)
        await until(lambda: client.stats()["spooled"] == 1)
        capture(client, 2, start=1)
        client.capture("no event")  # type: ignore[arg-type]
        await until(lambda: client.stats()["spooled"] == 3)
        assert client.stats()["dropped"] == {"invalid": 1}
        transport.then = answer(202)
        await until(lambda: client.stats()["delivered"] == 3)
    assert [type(error) for error in reported if isinstance(error, InvalidEvent)] == [InvalidEvent]


# -- what the ingest says ---------------------------------------------------------------


@every_host
async def test_a_spooled_batch_that_the_ingest_refuses_is_dropped_and_reported(
    host: str, make: MakeClient, reported: List[BeaconError]
) -> None:
    transport = ScriptedTransport(DOWN, answer(400))
    client = make(transport)
    async with hosted(client, host):
        capture(client, 3)
        await until(lambda: client.stats()["dropped"] == {"rejected": 3})
        capture(client, 1, start=3)
        await until(lambda: client.stats()["delivered"] == 1)
        assert client.stats()["spooled"] == 0
    assert sum(isinstance(error, BatchRejected) for error in reported) == 1


@every_host
async def test_a_spooled_batch_that_is_too_large_goes_in_halves(host: str, make: MakeClient) -> None:
    transport = ScriptedTransport(DOWN, answer(413), answer(413))
    client = make(transport)
    async with hosted(client, host):
        capture(client, 8)
        await until(lambda: client.stats()["delivered"] == 8)
    assert [len(attempt.events) for attempt in transport.attempts] == [8, 8, 4, 2, 2, 2, 2]
    assert numbers(transport.delivered) == list(range(8))
    assert len({attempt.key for attempt in transport.attempts[-4:]}) == 4


@every_host
async def test_a_flush_covers_what_was_spooled(host: str, make: MakeClient) -> None:
    transport = ScriptedTransport(DOWN)
    client = make(transport, flush_interval=60)
    async with hosted(client, host):
        capture(client, 10)
        await client.flush()
        await until(lambda: client.stats()["spooled"] == 10)
        capture(client, 10, start=10)
        await asyncio.sleep(1.1)  # a flush forces an attempt once a second while backing off
        assert await client.flush() == (20, 0, 0)
    assert numbers(transport.delivered) == list(range(20))


# -- memory that fills up ---------------------------------------------------------------


@every_host
async def test_a_buffer_that_fills_up_during_a_post_overflows_to_the_disk(
    host: str, make: MakeClient
) -> None:
    transport = GatedTransport()
    client = make(transport, max_buffer_size=400, batch_size=10, flush_interval=0.2)
    async with hosted(client, host):
        capture(client, 10)
        await until(transport.begun.is_set)
        for start in range(10, 2010, 100):
            capture(client, 100, start)
            await until(lambda: client.stats()["pending"] <= 320)
        assert client.stats()["spooled"] > 1500
        assert client.stats()["dropped"] == {}
        transport.gate.set()
        await until(lambda: client.stats()["delivered"] == 2010)
    assert numbers(transport.delivered) == list(range(2010))


@every_host
async def test_a_full_spool_drops_its_oldest_and_says_so(
    host: str, make: MakeClient, reported: List[BeaconError]
) -> None:
    transport = ScriptedTransport(then=DOWN)
    client = make(transport, spool_max_bytes=3000, max_batch_size=10)
    async with hosted(client, host):
        capture(client, 10)
        await until(lambda: client.stats()["spooled"] == 10)
        capture(client, 10, start=10)
        await until(lambda: client.stats()["dropped"].get("spool_full", 0) > 0)
        assert client.stats()["captured"] == 20
        transport.then = answer(202)
        await until(lambda: client.stats()["spooled"] + client.stats()["pending"] == 0)
    lost = sum(error.count for error in reported if isinstance(error, SpoolFull))
    assert lost == client.stats()["dropped"]["spool_full"]
    assert numbers(transport.delivered) == list(range(lost, 20))


# -- a disk that fails ------------------------------------------------------------------


@every_host
async def test_a_folder_that_cannot_be_used_costs_nothing_but_the_spool(
    host: str, make: MakeClient, tmp_path: Path, reported: List[BeaconError]
) -> None:
    (tmp_path / "file").write_text("in the way")
    transport = ScriptedTransport(DOWN, DOWN, DOWN)
    client = make(transport, spool=tmp_path / "file")
    async with hosted(client, host):
        capture(client, 10)
        await until(lambda: client.stats()["delivered"] == 10)
    assert sum(isinstance(error, SpoolUnavailable) for error in reported) == 1
    assert client.stats()["dropped"] == {}
    assert numbers(transport.delivered) == list(range(10))


@every_host
async def test_a_file_that_was_damaged_is_set_aside_and_what_it_held_is_counted(
    host: str, make: MakeClient, tmp_path: Path, reported: List[BeaconError]
) -> None:
    transport = ScriptedTransport(then=DOWN)
    client = make(transport, flush_interval=0.2)
    async with hosted(client, host):
        capture(client, 10)
        await until(lambda: client.stats()["spooled"] == 10)
        database(tmp_path).write_bytes(b"garbage " * 4096)
        capture(client, 10, start=10)
        await until(lambda: client.stats()["dropped"] == {"spool_damaged": 10})
        transport.then = answer(202)
        await until(lambda: client.stats()["delivered"] == 10)
    assert sum(error.count for error in reported if isinstance(error, SpoolDamaged)) == 10
    assert numbers(transport.delivered) == list(range(10, 20))
    assert files(tmp_path, "damaged.db")


@every_host
async def test_a_file_that_was_emptied_is_noticed(host: str, make: MakeClient, tmp_path: Path) -> None:
    transport = ScriptedTransport(then=DOWN)
    client = make(transport, flush_interval=0.2)
    async with hosted(client, host):
        capture(client, 10)
        await until(lambda: client.stats()["spooled"] == 10)
        database(tmp_path).write_bytes(b"")
        transport.then = answer(202)
        await until(lambda: client.stats()["dropped"] == {"spool_damaged": 10})
        capture(client, 1)
        await until(lambda: client.stats()["delivered"] == 1)


# -- the request path and the loop ------------------------------------------------------


async def test_an_application_s_loop_never_touches_the_disk(
    make: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    threads = set()
    connect = sqlite3.connect

    def watched(*args: Any, **kwargs: Any) -> Any:
        threads.add(threading.get_ident())
        return connect(*args, **kwargs)

    monkeypatch.setattr(sqlite3, "connect", watched)
    transport = ScriptedTransport(DOWN)
    client = make(transport)
    async with client:
        capture(client, 100)
        await until(lambda: client.stats()["delivered"] == 100)
    assert threads
    assert threading.get_ident() not in threads


@every_host
async def test_a_dry_run_takes_nothing_from_the_spool(
    host: str, make: MakeClient, make_client: MakeClient, tmp_path: Path
) -> None:
    down = make(ScriptedTransport(then=DOWN), flush_interval=60)
    async with hosted(down, host):
        capture(down, 3)
    dry = make_client(dry_run=True, spool=tmp_path, flush_interval=0.05)
    async with hosted(dry, host):
        capture(dry, 1, start=3)
        await until(lambda: dry.stats()["delivered"] == 1)
        assert await dry.flush() == (0, 0, 0)
    assert dry.stats()["recovered"] == 0
    up = make(ScriptedTransport())
    async with hosted(up, host):
        capture(up, 1, start=4)
        await until(lambda: up.stats()["delivered"] == 4)
