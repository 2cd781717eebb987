from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, List

import httpx
import pytest

from beaconhq.local.ingest import show_until
from beaconhq.local.server import listen, resolve

from .processes import PATIENCE, Running, environment, run, running
from .samples import body, events, payload

if TYPE_CHECKING:
    from pathlib import Path

    from beaconhq.local.store import EventStore
    from beaconhq.local.summary import Summary

LOCAL = ("-m", "beaconhq", "local", "--port", "0")


def url_from(process: Running) -> str:
    url = process.wait_for(r"listens on (http://127\.0\.0\.1:[0-9]+)$")[1]
    process.wait_for("Ctrl-C")
    return url


def post(url: str, content: bytes, key: str = "dev") -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(trust_env=False) as client:
        return client.post(f"{url}/v1/ingest", content=content, headers=headers, timeout=PATIENCE)


@pytest.mark.process
class TestCommand:
    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
    def test_it_takes_events_and_ends_with_a_table(self, signum: int) -> None:
        with running(*LOCAL) as process:
            url = url_from(process)
            assert post(url, body(payload(), payload(route="/\x1b[2J\u202e"))).json() == {"stored": 2}
            assert post(url, body(payload(status=0))).status_code == 400
            assert process.stop(signum) == 0
        output = "".join(process.output)
        assert f"BEACON_INGEST_URL={url} BEACON_INGEST_KEY=dev" in output
        assert "stored 2 events, 1 batch, 2 routes, 1 refused batch" in output
        assert "last refused: 400: event 0, status: must be 100 to 599" in output
        assert re.search(r"^GET +/orders/\{order_id\} +1 +0\.0 +12 +12 +12 +1 ", output, re.MULTILINE)
        assert r"/\x1b[2J\u202e" in output
        assert "\x1b" not in output
        assert "Traceback" not in output

    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_body_that_is_too_large_is_answered_and_the_next_one_taken(self, chunked: bool) -> None:
        """The sender is still writing when the answer comes: it must read a 413, not a reset."""
        chunks = [b" " * 65536] * 160
        content = iter(chunks) if chunked else b"".join(chunks)
        headers = {"Authorization": "Bearer dev"}
        with running(*LOCAL) as process, httpx.Client(trust_env=False, timeout=PATIENCE) as client:
            ingest = f"{url_from(process)}/v1/ingest"
            assert client.post(ingest, content=content, headers=headers).status_code == 413
            assert client.post(ingest, content=body(payload()), headers=headers).json() == {"stored": 1}
            assert process.stop(signal.SIGTERM) == 0

    def test_a_database_file_is_kept_and_used_again(self, tmp_path: Path) -> None:
        path = tmp_path / "events.db"
        for stored in (1, 2):
            with running(*LOCAL, "--db", str(path)) as process:
                post(url_from(process), body(payload()))
                assert process.stop(signal.SIGTERM) == 0
            batches = "1 batch" if stored == 1 else "2 batches"
            table = process.output[-5:]
            assert re.match(f"stored {stored} events?, {batches}, 1 route", table[0]), table
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT COUNT(*) FROM events").fetchone() == (2,)
        assert [each.name for each in tmp_path.iterdir()] == ["events.db"]

    def test_without_a_file_nothing_is_left(self, tmp_path: Path) -> None:
        with running(*LOCAL, TMPDIR=str(tmp_path)) as process:
            url_from(process)
            assert [each.name[:9] for each in tmp_path.iterdir()] == ["beaconhq-"]
            assert process.stop(signal.SIGTERM) == 0
        assert list(tmp_path.iterdir()) == []

    def test_the_chosen_key_is_wanted_and_never_printed(self) -> None:
        with running(*LOCAL, "--key", "s3cret") as process:
            url = url_from(process)
            assert post(url, body()).status_code == 401
            assert post(url, body(), key="s3cret").status_code == 202
            assert process.stop(signal.SIGTERM) == 0
        assert "s3cret" not in "".join(process.output)

    def test_beyond_loopback_a_key_is_required(self) -> None:
        done = run(*LOCAL, "--host", "0.0.0.0")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "beaconhq local: 0.0.0.0 can be reached from other machines: choose a key with --key KEY\n"
        )

    def test_beyond_loopback_it_warns(self) -> None:
        with running(*LOCAL, "--host", "0.0.0.0", "--key", "k") as process:
            url_from(process)
            assert process.stop(signal.SIGTERM) == 0
        assert "WARNING: other machines can reach it" in process.output[1]

    def test_a_port_in_use_is_one_line(self) -> None:
        with listen(resolve("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = run("-m", "beaconhq", "local", "--port", str(port))
        assert (done.returncode, done.stdout) == (1, "")
        assert (
            done.stderr == f"beaconhq local: cannot listen on 127.0.0.1 port {port}: Address already in use\n"
        )

    def test_a_file_that_is_no_database_is_one_line(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text("not a database\n" * 100)
        done = run(*LOCAL, "--db", str(path))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"beaconhq local: cannot use {path} as the database: file is not a database\n"

    def test_on_a_terminal_hostile_text_does_not_drive_it(self) -> None:
        """What the terminal gets: rich's own colours and redrawing, and no other control character."""
        written = on_a_terminal(
            body(payload(route="/\x1b]0;owned\x07\x9b2J\u202e[red]", consumer="\x1b[31m"))
        )
        rest = re.sub(r"\x1b\[(?:[0-9;]*m|[0-9]*A|2K|\?25[lh])", "", written)
        assert not [c for c in rest if c not in "\r\n" and (ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0)]
        assert "\u202e" not in rest
        assert r"/\x1b]0;owned\x07" in rest
        assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1


def on_a_terminal(batch: bytes) -> str:
    """Run `beaconhq local` on a pseudo-terminal, POST a batch, wait for it to be drawn, stop it."""
    master, slave = pty.openpty()
    command = [sys.executable, *LOCAL]
    env = environment(TERM="xterm-256color", COLUMNS="100", LINES="30")
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    try:
        written = read_until(master, r"no events yet")
        found = re.search(r"listens on (http://[0-9.:]+)", written)
        assert found is not None
        assert post(found[1], batch).status_code == 202
        written += read_until(master, r"owned")
        process.send_signal(signal.SIGINT)
        written += read_until(master, r"\?25h")
        while process.poll() is None:
            written += read_some(master)
        assert process.returncode == 0
        return written + read_some(master)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(PATIENCE)
        os.close(master)


def read_until(master: int, pattern: str) -> str:
    written, deadline = "", time.monotonic() + PATIENCE
    while re.search(pattern, written) is None:
        assert time.monotonic() < deadline, f"no {pattern!r} in {written!r}"
        written += read_some(master)
    return written


def read_some(master: int) -> str:
    """Read what is there, waiting a little; the end of the other side is no error (Linux says EIO)."""
    if not select.select([master], [], [], 0.1)[0]:
        return ""
    try:
        return os.read(master, 65536).decode("utf-8", "replace")
    except OSError:
        return ""


class Recorder:
    """A display that remembers how many events it was shown."""

    def __init__(self) -> None:
        self.shown: List[int] = []
        self.changed = asyncio.Event()

    def update(self, summary: Summary) -> None:
        self.shown.append(summary.totals.stored)
        self.changed.set()

    def finish(self, summary: Summary) -> None:
        raise AssertionError("not its business")

    def close(self) -> None:
        raise AssertionError("not its business")


class TestShowUntil:
    async def test_it_shows_what_is_new_and_ends_at_the_stop(
        self, store: EventStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("beaconhq.local.ingest.REFRESH_INTERVAL", 0.01)
        stop, display = asyncio.Event(), Recorder()
        shows = asyncio.ensure_future(show_until(stop, store, display))
        for stored in range(1, 4):
            await asyncio.wait_for(display.changed.wait(), 30)
            display.changed.clear()
            assert display.shown == list(range(stored))
            store.add(events(payload()))
        await asyncio.wait_for(display.changed.wait(), 30)
        stop.set()
        await asyncio.wait_for(shows, 30)
        assert display.shown == [0, 1, 2, 3]
