"""`beaconhq spool`: looking into a folder, and delivering what lies there by hand."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, List

import pytest
from process.children import environment
from process.ingest_server import RecordingIngest
from support.events import event
from support.transports import DOWN, ScriptedTransport

from beaconhq import BeaconClient
from beaconhq.cli import main
from beaconhq.spool.command import run_drain
from beaconhq.spool.store import open_store

if TYPE_CHECKING:
    from pathlib import Path

KEY = "a-secret-key"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def spool(folder: Path, url: str, count: int, key: str = KEY) -> None:
    """Leave events behind, as a process does that ends while the ingest is down."""
    client = BeaconClient(
        key,
        url,
        transport=ScriptedTransport(then=DOWN),
        spool=folder,
        flush_interval=60,
        register_atexit=False,
        max_batch_size=10,
        shutdown_timeout=10,
    )
    for number in range(count):
        client.capture(event(number))
    client.shutdown()
    assert client.stats()["spooled"] == count


def drain(folder: Path, url: str, key: str = KEY, **options: Any) -> tuple[int, str]:
    err = io.StringIO()
    options = {"retry_refused": False, "patience": 10, "timeout": 10, **options}
    return run_drain(folder, key, url, err=err, **options), err.getvalue()


# -- status -----------------------------------------------------------------------------


def test_status_says_what_waits_where_and_for_whom(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool(folder, "https://one.example", 25)
    spool(folder, "https://two.example", 1)
    assert main(["spool", "status", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "https://one.example/v1/ingest" in out
    assert "25 event(s) wait in 3 batch(es)" in out
    assert "https://two.example/v1/ingest" in out
    assert KEY not in out


def test_status_of_an_empty_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir()
    assert main(["spool", "status", str(folder)]) == 0
    assert "nothing is spooled" in capsys.readouterr().out


def test_status_of_no_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spool", "status", str(folder)]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_status_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool(folder, "https://one.example", 25)
    assert main(["spool", "status", "--json", str(folder)]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["events"], found["batches"], found["owned_by_running"]) == (25, 3, 0)
    assert found["trouble"] == ""


def test_status_names_a_file_that_cannot_be_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool(folder, "https://one.example", 1)
    (database,) = folder.glob("*/spool.db")
    database.write_bytes(b"garbage " * 1000)
    assert main(["spool", "status", str(folder)]) == 1
    assert "cannot be read: file is not a database" in capsys.readouterr().out


def test_the_folder_is_read_from_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir()
    monkeypatch.setenv("BEACON_SPOOL", str(folder))
    assert main(["spool", "status"]) == 0
    assert str(folder) in capsys.readouterr().out


@pytest.mark.parametrize("command", ["status", "drain"])
def test_without_a_folder_it_says_how_to_name_one(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BEACON_SPOOL", raising=False)
    assert main(["spool", command]) == 2
    assert "BEACON_SPOOL" in capsys.readouterr().err


# -- drain ------------------------------------------------------------------------------


def test_drain_delivers_in_order_and_says_how_much(folder: Path) -> None:
    with RecordingIngest() as ingest:
        spool(folder, ingest.url, 95)
        code, said = drain(folder, ingest.url)
        assert (code, ingest.paths) == (0, [f"/items/{number:05d}" for number in range(95)])
    assert "delivered 95 event(s)" in said
    assert drain(folder, ingest.url)[1] == "nothing is spooled\n"


def test_drain_goes_on_with_what_an_ingest_that_is_down_left(folder: Path) -> None:
    with RecordingIngest() as ingest:
        spool(folder, ingest.url, 20)
        ingest.status = 503
        code, said = drain(folder, ingest.url, patience=0.5)
        assert code == 1
        assert "20 event(s) are left in the spool" in said
        assert "(503)" in said
        ingest.status = 202
        assert drain(folder, ingest.url)[0] == 0
        assert ingest.accepted_paths == [f"/items/{number:05d}" for number in range(20)]


def test_drain_keeps_what_was_refused_and_retries_it_on_request(folder: Path) -> None:
    with RecordingIngest() as ingest:
        spool(folder, ingest.url, 5)
        ingest.status = 400
        code, said = drain(folder, ingest.url)
        assert code == 1
        assert "dropped 5 event(s): the ingest rejected the batch (400)" in said
        ingest.status = 202
        assert "delivered" not in drain(folder, ingest.url)[1]
        code, said = drain(folder, ingest.url, retry_refused=True)
        assert (code, len(ingest.accepted_paths)) == (0, 5)


def test_drain_under_another_key_says_that_there_is_another(folder: Path) -> None:
    spool(folder, "http://localhost:1", 5)
    code, said = drain(folder, "http://localhost:1", key="another-key")
    assert code == 1
    assert "events for another" in said


def test_drain_without_a_key_says_what_to_set(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BEACON_INGEST_KEY", raising=False)
    folder.mkdir()
    assert main(["spool", "drain", str(folder)]) == 2
    assert "BEACON_INGEST_KEY" in capsys.readouterr().err


def test_drain_can_be_interrupted_and_goes_on_where_it_was(folder: Path) -> None:
    with RecordingIngest() as ingest:
        spool(folder, ingest.url, 50)
        # Sealed batches of ten that were tried keep their size, so this takes several POSTs.
        store = open_store(str(folder), f"{ingest.url}/v1/ingest", KEY, 1 << 26, 3600)
        import sqlite3
        from contextlib import closing

        with closing(sqlite3.connect(store.partition.database)) as connection:
            connection.execute("UPDATE batch SET tried = 1")
            connection.commit()
        ingest.delay = 0.3
        command = [sys.executable, "-m", "beaconhq", "spool", "drain", str(folder)]
        env = environment(BEACON_INGEST_KEY=KEY, BEACON_INGEST_URL=ingest.url)
        with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
            ingest.wait_for_posts(2)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "interrupted" in said
        ingest.delay = 0
        done = time.monotonic() + 30
        while drain(folder, ingest.url)[1] != "nothing is spooled\n":
            assert time.monotonic() < done
        seen: dict[str, List[str]] = {post.key: post.paths for post in ingest.posts}
        assert [path for paths in seen.values() for path in paths] == [f"/items/{n:05d}" for n in range(50)]


def test_help_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["spool", "drain", "--help"])
    assert "BEACON_INGEST_KEY" in capsys.readouterr().out
