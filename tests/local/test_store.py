from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from beaconhq.local.store import EventStore, Stored, StoreError

from .samples import events, payload

if TYPE_CHECKING:
    from pathlib import Path


def rows(path: Path) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT ts, ts_ms, method, route, path, status, duration_ms, consumer, error"
            " FROM events ORDER BY id"
        ).fetchall()


class TestAdd:
    def test_every_field_of_a_batch_is_in_the_database_in_order(self, store: EventStore) -> None:
        batch = events(
            payload(), payload(path="/\U0001f600", consumer=None, error="ValueError: no", status=500)
        )
        assert store.add(batch) == Stored(2, duplicate=False)
        assert rows(store.path) == [tuple(event) for event in batch]

    def test_a_batch_under_a_known_key_is_stored_once(self, store: EventStore) -> None:
        batch = events(payload(), payload())
        assert store.add(batch, "key-1") == Stored(2, duplicate=False)
        assert store.add(batch, "key-1") == Stored(2, duplicate=True)
        assert store.add(batch, "key-2") == Stored(2, duplicate=False)
        assert len(rows(store.path)) == 4
        totals = store.summary().totals
        assert (totals.stored, totals.batches, totals.duplicates) == (4, 2, 1)

    def test_batches_without_a_key_are_never_duplicates(self, store: EventStore) -> None:
        batch = events(payload())
        assert store.add(batch) == store.add(batch) == Stored(1, duplicate=False)
        assert store.summary().totals.stored == 2

    def test_a_batch_that_fails_leaves_nothing_and_not_its_key(self, store: EventStore) -> None:
        good = events(payload(), payload())
        broken = [*good, good[0]._replace(method=None)]  # type: ignore[arg-type]
        with pytest.raises(StoreError, match="NOT NULL"):
            store.add(broken, "key")
        assert rows(store.path) == []
        assert store.add(good, "key") == Stored(2, duplicate=False)

    def test_an_empty_batch_counts_as_a_batch(self, store: EventStore) -> None:
        assert store.add([], "key") == Stored(0, duplicate=False)
        assert store.add([], "key") == Stored(0, duplicate=True)
        assert store.summary().totals.batches == 1

    def test_from_many_threads_every_batch_is_stored_exactly_once(self, store: EventStore) -> None:
        """Each batch is sent twice under one key, while summaries are read."""
        batch = events(*[payload() for _ in range(20)])

        def post(number: int) -> Stored:
            store.summary()
            return store.add(batch, f"key-{number % 50}")

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(post, range(100)))
        assert sorted(answer.duplicate for answer in answers) == [False] * 50 + [True] * 50
        totals = store.summary().totals
        assert (totals.stored, totals.batches, totals.duplicates) == (1000, 50, 50)

    def test_a_reader_does_not_wait_for_a_writer(self, store: EventStore) -> None:
        store.add(events(payload()))
        with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("DELETE FROM events")
            assert store.summary().totals.stored == 1

    def test_revision_changes_with_everything_there_is_to_show(self, store: EventStore) -> None:
        seen = [store.revision]
        store.add(events(payload()), "key")
        seen.append(store.revision)
        store.add(events(payload()), "key")
        seen.append(store.revision)
        store.reject("401: no")
        seen.append(store.revision)
        store.summary()
        assert store.revision == seen[-1]
        assert seen == sorted(set(seen))


class TestReject:
    def test_refusals_are_counted_and_the_last_reason_kept(self, store: EventStore) -> None:
        store.reject("401: first")
        store.reject("400: second")
        totals = store.summary().totals
        assert (totals.rejected, totals.last_rejection, totals.stored) == (2, "400: second", 0)


class TestOpen:
    def test_a_file_keeps_events_keys_and_totals(self, tmp_path: Path) -> None:
        path = tmp_path / "events.db"
        batch = events(payload())
        with contextlib.closing(EventStore(path)) as first:
            first.add(batch, "key")
            first.reject("400: no")
            before = first.summary()
        with contextlib.closing(EventStore(path)) as second:
            assert second.summary() == before
            assert second.add(batch, "key") == Stored(1, duplicate=True)

    def test_it_is_in_wal_mode(self, store: EventStore) -> None:
        with contextlib.closing(sqlite3.connect(store.path)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_two_stores_share_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "events.db"
        with contextlib.closing(EventStore(path)) as one, contextlib.closing(EventStore(path)) as other:
            one.add(events(payload()), "key")
            assert other.add(events(payload()), "key") == Stored(1, duplicate=True)
            assert other.summary().totals.stored == 1

    def test_a_temporary_database_is_removed(self) -> None:
        store = EventStore()
        store.add(events(payload()))
        assert store.path.exists()
        store.close()
        assert not store.path.parent.exists()

    def test_a_closed_store_says_so_and_closes_again(self, store: EventStore) -> None:
        store.close()
        store.close()
        with pytest.raises(StoreError, match="closed"):
            store.add(events(payload()))
        with pytest.raises(StoreError, match="closed"):
            store.summary()

    def test_a_directory_that_is_not_there_is_one_line(self, tmp_path: Path) -> None:
        path = tmp_path / "missing" / "events.db"
        with pytest.raises(StoreError) as refused:
            EventStore(path)
        assert str(refused.value) == f"cannot use {path} as the database: unable to open database file"

    def test_a_text_file_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text("not a database, but long enough to have a header" * 10)
        with pytest.raises(StoreError, match=r"notes\.txt as the database: file is not a database"):
            EventStore(path)
        assert path.read_text().startswith("not a database")

    def test_another_programs_database_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "app.sqlite3"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE users (name TEXT)")
            connection.commit()
        before = path.read_bytes()
        with pytest.raises(StoreError, match="belongs to another program"):
            EventStore(path)
        assert path.read_bytes() == before
        assert [each.name for each in tmp_path.iterdir()] == ["app.sqlite3"]

    def test_another_schema_version_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "events.db"
        EventStore(path).close()
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 99")
        with pytest.raises(StoreError, match="another beaconhq version"):
            EventStore(path)

    @pytest.mark.process
    def test_neither_closing_nor_a_failed_opening_leaves_a_connection(self, tmp_path: Path) -> None:
        """3.13 warns of every connection that is not closed."""
        (tmp_path / "bad").write_text("x" * 4096)
        script = """
import gc, pathlib, sys
from beaconhq.local.store import EventStore, StoreError
EventStore().close()
try:
    EventStore(pathlib.Path(sys.argv[1]))
except StoreError:
    pass
gc.collect()
"""
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", script, str(tmp_path / "bad")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
