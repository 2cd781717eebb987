"""Batches on disk: order, limits of a POST, bounds, owners, and files that are not what they were."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, List

import pytest
from support.events import numbers

from beaconhq.spool import database
from beaconhq.spool.database import StoreDamaged, StoreUnavailable
from beaconhq.spool.store import DAMAGED, EXPIRED, FULL

from .batches import Clocks, batch, make_store, take_all

if TYPE_CHECKING:
    from pathlib import Path

    from beaconhq.wire import Batch


def numbers_of(batches: List[Batch]) -> List[int]:
    return [number for each in batches for number in numbers(each)]


# -- order and the limits of a POST -----------------------------------------------------


def test_what_is_taken_is_what_was_written(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    written = batch(0, 3, consumer="café \U0001f600")
    written.tried = True
    with store.session() as session:
        session.append("me", written)
    with store.session() as session:
        taken = session.take("me", 1000, 1 << 20)
    assert taken is not None
    assert list(taken) == list(written)
    assert taken.body == written.body
    assert taken.idempotency_key == written.idempotency_key
    assert taken.is_spooled


def test_a_batch_stays_until_it_is_settled(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with store.session() as session:
        session.append("me", batch(0, 2))
        first = session.take("me", 1000, 1 << 20)
        again = session.take("me", 1000, 1 << 20)
        assert first is not None
        assert again is not None
        assert first.idempotency_key == again.idempotency_key
        session.settle([first.idempotency_key], [])
        assert session.take("me", 1000, 1 << 20) is None
        assert session.held_by("me") == 0


def test_what_never_went_out_is_joined_up_to_the_size_of_a_post(tmp_path: Path) -> None:
    with make_store(tmp_path).session() as session:
        for first in range(0, 50, 5):
            session.append("me", batch(first, 5))
        taken = take_all(session, "me", most_events=20)
    assert [len(each) for each in taken] == [20, 20, 10]
    assert numbers_of(taken) == list(range(50))
    assert len({each.idempotency_key for each in taken}) == 3


def test_what_went_out_is_never_joined(tmp_path: Path) -> None:
    with make_store(tmp_path).session() as session:
        tried = batch(0, 5)
        tried.tried = True
        session.append("me", tried)
        session.append("me", batch(5, 5))
        session.append("me", batch(10, 5))
        taken = take_all(session, "me")
    assert [numbers(each) for each in taken] == [list(range(5)), list(range(5, 15))]
    assert taken[0].idempotency_key == tried.idempotency_key


def test_the_body_of_a_joined_batch_is_within_the_limit(tmp_path: Path) -> None:
    size = len(batch(0, 5).body)
    with make_store(tmp_path).session() as session:
        for first in range(0, 50, 5):
            session.append("me", batch(first, 5))
        taken = take_all(session, "me", most_bytes=3 * size)
    assert [len(each) for each in taken] == [15, 15, 15, 5]
    assert all(len(each.body) <= 3 * size for each in taken)


def test_what_is_too_large_for_a_post_goes_in_halves(tmp_path: Path) -> None:
    with make_store(tmp_path).session() as session:
        session.append("me", batch(0, 7))
        session.append("me", batch(7, 7))
        taken = take_all(session, "me", most_bytes=len(batch(0, 3).body))
    assert numbers_of(taken) == list(range(14))
    assert max(map(len, taken)) <= 3


def test_an_event_that_alone_is_too_large_is_handed_out(tmp_path: Path) -> None:
    """What becomes of it is the drain's decision."""
    with make_store(tmp_path).session() as session:
        session.append("me", batch(0, 1))
        (taken,) = take_all(session, "me", most_bytes=10)
    assert len(taken) == 1


def test_a_writer_s_order_is_kept_although_a_later_batch_was_written_first(tmp_path: Path) -> None:
    """A POST fails after newer events had to be written beside it."""
    with make_store(tmp_path).session() as session:
        session.append("me", batch(5, 5))
        session.append("me", batch(0, 5))
        taken = take_all(session, "me", most_events=5)
    assert numbers_of(taken) == list(range(10))


def test_what_the_ingest_refused_is_kept_out_of_the_way(tmp_path: Path) -> None:
    with make_store(tmp_path).session() as session:
        session.append("me", batch(0, 2))
        refused = session.take("me", 1000, 1 << 20)
        assert refused is not None
        session.settle([], [(refused.idempotency_key, "HTTP 400")])
        assert session.take("me", 1000, 1 << 20) is None
        assert session.held_by("me") == 0
        session.restore_refused("me")
        assert numbers_of(take_all(session, "me")) == [0, 1]


# -- bounds -----------------------------------------------------------------------------


def test_past_the_size_the_oldest_are_lost_and_counted_once(tmp_path: Path) -> None:
    size = len(batch(0, 5).body)
    with make_store(tmp_path, max_bytes=3 * size).session() as session:
        lost = [session.append("me", batch(first, 5)) for first in range(0, 25, 5)]
        assert lost == [[], [], [], [(FULL, 5)], [(FULL, 5)]]
        assert session.count_lost("me") == []
        assert numbers_of(take_all(session, "me")) == list(range(10, 25))


def test_the_file_does_not_stay_large(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with store.session() as session:
        for first in range(0, 2000, 100):
            session.append("me", batch(first, 100, error="x" * 1000))
    large = store.partition.database.stat().st_size
    with store.session() as session:
        take_all(session, "me")
    assert store.partition.database.stat().st_size < large / 10


def test_what_a_bound_cost_another_owner_is_left_for_that_owner_to_count(tmp_path: Path) -> None:
    size = len(batch(0, 5).body)
    store = make_store(tmp_path, max_bytes=size)
    with store.session() as session:
        session.append("other", batch(0, 5))
        assert session.append("me", batch(5, 5)) == []
        assert session.count_lost("other") == [(FULL, 5)]


def test_no_bound_takes_the_batch_in_flight(tmp_path: Path) -> None:
    size = len(batch(0, 5).body)
    clocks = Clocks()
    store = make_store(tmp_path, max_bytes=2 * size, max_age=10, read_clock=clocks)
    with store.session() as session:
        session.append("me", batch(0, 5))
        in_flight = session.take("me", 5, 1 << 20)
    clocks.pass_time(11)
    with store.session(in_flight) as session:
        assert session.count_lost("me") == []
        session.append("me", batch(5, 5))
        assert session.append("me", batch(10, 5)) == [(FULL, 5)]
        assert numbers_of(take_all(session, "me", 5)) == [*range(5), *range(10, 15)]


def test_what_is_too_old_is_lost(tmp_path: Path) -> None:
    clocks = Clocks()
    store = make_store(tmp_path, max_age=60, read_clock=clocks)
    with store.session() as session:
        session.append("me", batch(0, 3))
    clocks.pass_time(50)
    with store.session() as session:
        session.append("me", batch(3, 3))
        assert session.count_lost("me") == []
    clocks.pass_time(20)
    with store.session() as session:
        assert session.count_lost("me") == [(EXPIRED, 3)]
        assert numbers_of(take_all(session, "me")) == [3, 4, 5]


@pytest.mark.parametrize("step", [-(10**8), 10**8])
def test_a_clock_that_is_set_makes_nothing_old(tmp_path: Path, step: float) -> None:
    clocks = Clocks()
    store = make_store(tmp_path, max_age=60, read_clock=clocks)
    with store.session() as session:
        session.append("me", batch(0, 3))
    clocks.wall += step
    clocks.pass_time(30)
    with store.session() as session:
        assert session.count_lost("me") == []
    clocks.pass_time(40)
    with store.session() as session:
        assert session.count_lost("me") == [(EXPIRED, 3)]


def test_a_restart_of_the_machine_counts_by_the_wall_clock(tmp_path: Path) -> None:
    clocks = Clocks()
    store = make_store(tmp_path, max_age=60, read_clock=clocks)
    with store.session() as session:
        session.append("me", batch(0, 3))
    clocks.restart(down_for=50)
    with store.session() as session:
        assert session.count_lost("me") == []
    clocks.pass_time(20)
    with store.session() as session:
        assert session.count_lost("me") == [(EXPIRED, 3)]


# -- owners -----------------------------------------------------------------------------


def test_each_owner_takes_only_what_is_its_own(tmp_path: Path) -> None:
    with make_store(tmp_path).session() as session:
        session.append("me", batch(0, 2))
        session.append("other", batch(2, 2))
        assert numbers_of(take_all(session, "me")) == [0, 1]
        assert numbers_of(take_all(session, "other")) == [2, 3]


def test_a_dead_owner_s_batches_are_adopted_each_writer_in_its_order(tmp_path: Path) -> None:
    with make_store(tmp_path).session() as session:
        session.append("dead", batch(5, 5))
        session.append("me", batch(100, 5))
        session.append("dead", batch(0, 5))
        assert session.adopt("me", "dead") == 10
        assert session.owners() == ["me"]
        assert session.held_by("me") == 15
        assert numbers_of(take_all(session, "me", 5)) == [*range(10), *range(100, 105)]


# -- files that are not what they were --------------------------------------------------


def test_a_file_that_is_no_database_is_damaged_and_set_aside(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.partition.make()
    store.partition.database.write_bytes(b"not a database " * 1000)
    with pytest.raises(StoreDamaged), store.session():
        pass
    assert store.set_aside_if_damaged()
    assert store.partition.path.joinpath("damaged.db").read_bytes().startswith(b"not a database")
    with store.session() as session:
        session.append("me", batch(0, 1))


def test_a_sound_file_is_not_set_aside(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with store.session() as session:
        session.append("me", batch(0, 1))
    assert not store.set_aside_if_damaged()
    with store.session() as session:
        assert session.held_by("me") == 1


def test_another_program_s_database_is_not_written_to(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.partition.make()
    with closing(sqlite3.connect(store.partition.database)) as other:
        other.execute("PRAGMA application_id = 7")
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StoreDamaged, match="another program"), store.session():
        pass


def test_a_newer_version_s_database_is_left_alone(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with store.session() as session:
        session.append("me", batch(0, 1))
    with closing(sqlite3.connect(store.partition.database)) as newer:
        newer.execute(f"PRAGMA user_version = {database.SCHEMA_VERSION + 1}")
    with pytest.raises(StoreUnavailable, match="newer version"), store.session():
        pass


def test_a_row_that_cannot_be_read_is_lost_alone(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with store.session() as session:
        session.append("me", batch(0, 2))
        session.append("me", batch(2, 2))
        session.append("me", batch(4, 2))
    with closing(sqlite3.connect(store.partition.database)) as connection:
        connection.execute("UPDATE batch SET body = x'00ff' WHERE position = 2")
        connection.commit()
    with store.session() as session:
        assert numbers_of(take_all(session, "me")) == [0, 1, 4, 5]
        assert session.count_lost("me") == [(DAMAGED, 2)]


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable), make_store(tmp_path / "file").session():
        pass


def test_the_key_is_nowhere_in_the_folder(tmp_path: Path) -> None:
    key = "sk-live-0815-4711"
    with make_store(tmp_path, key=key).session() as session:
        session.append("me", batch(0, 10))
        for path in tmp_path.rglob("*"):
            assert key not in path.name
            assert path.is_dir() or key.encode() not in path.read_bytes()
