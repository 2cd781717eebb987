"""A newcomer follows each tutorial, command by command and file by file, and sees what it says."""

from __future__ import annotations

import re
import shlex
import signal
from contextlib import ExitStack
from importlib.metadata import metadata
from typing import TYPE_CHECKING, Callable, Dict, List, Optional

import httpx
import pytest
from local.processes import PATIENCE, Running, run, running

from .conftest import KEY, Ingest
from .pages import DOCS, Block, Page
from .servers import with_port

if TYPE_CHECKING:
    from pathlib import Path


TUTORIALS = sorted((DOCS / "tutorial").glob("*.md"))
#: What a server says by Ctrl-C: uvicorn ends by the signal, Python by 130 or 1 (the same, uncaught).
INTERRUPTED = (0, 1, 130, -signal.SIGINT)
#: How each server is told the port, `{port}` being a free one; one says by itself which one it took.
PORT = {"uvicorn": ("--port=0",), "flask": ("--port={port}",), "python": ("{port}", "--noreload")}
#: The tests have an environment already.
DONE_ALREADY = ("python3 -m venv ", ". .venv/bin/activate")

pytestmark = pytest.mark.process


class Newcomer:
    """Types what the page says."""

    def __init__(self, ingest: Ingest, folder: Path, stack: ExitStack) -> None:
        self._ingest = ingest
        self._folder = folder
        self._stack = stack
        self._environment: Dict[str, str] = {}
        self._app: Optional[Running] = None
        self._url = ""
        self._commands: Dict[str, Callable[[List[str]], None]] = {
            "pip": self._pip,
            "django-admin": self._start_project,
            "beaconhq": self._beaconhq,
            "export": self._export,
            "uvicorn": self._serve,
            "flask": self._serve,
            "python": self._serve,
        }

    def save(self, block: Block) -> None:
        """Write the file that the first line names, or add to its end."""
        name, _, place = block.source.partition("\n")[0].lstrip("# ").partition(", ")
        assert place in ("", "at the end")
        file = self._folder / name
        before = file.read_text("utf-8") if place else ""
        file.write_text(before + block.source, "utf-8")

    def type(self, block: Block) -> None:
        """Run each line; lines after one with a prompt are what it must print."""
        lines = block.source.splitlines()
        for number, line in enumerate(lines):
            command = line.removeprefix("$ ")
            if command.startswith("curl "):
                answer = self._curl(shlex.split(command)[1:])
                assert not line.startswith("$ ") or answer.strip() == lines[number + 1]
            elif not line.startswith("{") and not command.startswith(DONE_ALREADY):
                words = shlex.split(command)
                self._commands[words[0]](words)

    def stop(self) -> None:
        """Press Ctrl-C in the app's terminal."""
        if self._app is not None:
            assert self._app.stop(signal.SIGINT) in INTERRUPTED, self._app.output
            self._app = None

    def ask_the_doctor(self, command: str) -> None:
        done = run("-m", *shlex.split(command), **self._environment)
        assert done.returncode == 0, done.stdout + done.stderr

    def _pip(self, words: List[str]) -> None:
        """Look whether the extras are there; the tests have them installed."""
        (extras,) = re.findall(r"beaconhq\[([\w,]+)\]", " ".join(words))
        assert set(extras.split(",")) <= set(metadata("beaconhq").get_all("Provides-Extra") or [])

    def _start_project(self, words: List[str]) -> None:
        done = run("-m", "django", *words[1:])
        assert done.returncode == 0, done.stderr

    def _beaconhq(self, words: List[str]) -> None:
        """The ingest of the tests is such a one, on another port."""
        assert words == ["beaconhq", "local"]
        page = httpx.get(f"{self._ingest.url}/", auth=("docs", KEY), trust_env=False)
        assert page.status_code == 200

    def _export(self, words: List[str]) -> None:
        variables = dict(word.split("=", 1) for word in words[1:])
        assert variables == {"BEACON_INGEST_URL": "http://127.0.0.1:8787", "BEACON_INGEST_KEY": "dev"}
        self._environment = self._ingest.environment

    def _serve(self, words: List[str]) -> None:
        self.stop()
        command = words[1:] if words[0] == "python" else ["-m", *words]
        options = with_port(PORT[words[0]])
        self._app = self._stack.enter_context(running(*command, *options, **self._environment))
        self._url = self._app.wait_for(r"(http://127\.0\.0\.1:[0-9]+)")[1]

    def _curl(self, words: List[str]) -> str:
        headers = {}
        if words[0] == "-H":
            name, _, value = words[1].partition(": ")
            headers[name] = value
        url = re.sub(r"http://127\.0\.0\.1:[58]000", self._url, words[-1])
        # Some servers name their address before they listen.
        transport = httpx.HTTPTransport(retries=5)
        with httpx.Client(transport=transport, headers=headers, timeout=PATIENCE) as visitor:
            return visitor.get(url).text


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_newcomer_gets_there(
    path: Path, ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = Page(path)
    with ExitStack() as stack:
        newcomer = Newcomer(ingest, tmp_path, stack)
        for block in page.blocks:
            if block.language == "python":
                newcomer.save(block)
            else:
                assert block.language == "console", block.name
                newcomer.type(block)
        newcomer.stop()
    events = ingest.events()
    counted = [f"{event.method} {event.route}" for event in events[:-1]]
    shown = {row["route"]: int(row["requests"]) for row in page.table("route", "requests", "why")}
    assert {route: counted.count(route) for route in shown} == shown
    assert len(counted) == sum(shown.values())
    assert [event.consumer for event in events] == [*[None] * len(counted), "acme"]
    (command,) = re.findall(r"`(beaconhq doctor [^`]+)`", path.read_text("utf-8"))
    newcomer.ask_the_doctor(command)


def test_the_tutorials_are_those_of_the_frameworks() -> None:
    assert [path.stem for path in TUTORIALS] == ["django", "fastapi", "flask"]
