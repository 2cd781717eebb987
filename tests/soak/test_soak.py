"""
An hour of faults in a good minute, in both hosts: nothing grows, and every event is accounted for.

Run by `nox -s soak`, which prints the figures. The time-scale is `served.TIME_SCALE`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any, Dict, Iterator, List, NamedTuple

import pytest
from process.children import LIFETIME, free_port, running, wait_until

from .faulty_ingest import Mode
from .served import TIME_SCALE

pytestmark = [pytest.mark.soak, pytest.mark.process]

TESTS = str(Path(__file__).parents[1])
#: Real seconds of one soak without what comes before and after; an hour at `TIME_SCALE`.
DURATION = 3600 / TIME_SCALE
#: Seconds of each fault, and of the ingest being well after it.
FAULT, WELL = 0.6, 0.4
#: Threads that send requests, and seconds between two of each.
CLIENTS, PAUSE = 3, 0.008
#: Rounds of faults whose growth is the warm-up's: modules, caches, arenas of the allocator.
WARM_UP = 2


class Ingest:
    """The faulty ingest's process, and the line to it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self.url = f"http://127.0.0.1:{int(self._out.readline())}"

    def turn(self, mode: Mode) -> None:
        assert self._ask(mode.value) == mode.value

    def report(self) -> Dict[str, int]:
        found: Dict[str, int] = self._ask("report")
        return found

    def _ask(self, word: str) -> Any:
        self._in.write(f"{word}\n")
        self._in.flush()
        return json.loads(self._out.readline())


class Load:
    """Threads that send request after request, each over a connection that it keeps."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._going = threading.Event()
        self._ended = threading.Event()
        self._resting = threading.Semaphore(0)
        self.answered = [0] * CLIENTS
        self.failures: List[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(CLIENTS)]

    def __enter__(self) -> Load:  # noqa: PYI034 - Self is 3.11's
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._going.set()
        for thread in self._threads:
            thread.join(LIFETIME)

    @contextlib.contextmanager
    def flowing(self) -> Iterator[None]:
        """Send while the block runs; when it ends, no request is under way and no connection open."""
        self._going.set()
        try:
            yield
        finally:
            self._going.clear()
            for _ in range(CLIENTS):
                assert self._resting.acquire(timeout=LIFETIME), self.failures

    def _run(self, number: int) -> None:
        try:
            while self._going.wait(LIFETIME) and not self._ended.is_set():
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=LIFETIME)
                with contextlib.closing(connection):
                    while self._going.is_set() and not self._ended.is_set():
                        self._ask(connection, number)
                        time.sleep(PAUSE)
                self._resting.release()
        except BaseException as error:
            self.failures.append(error)
            raise

    def _ask(self, connection: http.client.HTTPConnection, number: int) -> None:
        connection.request("GET", f"/items/{number}-{self.answered[number]}")
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
        self.answered[number] += 1


class Usage(NamedTuple):
    """What the application's process held at the end of a round, at rest."""

    rss: int
    #: Blocks of Python's allocator and objects that its garbage collector knows: exact counts.
    blocks: int
    objects: int
    threads: int
    descriptors: int
    tasks: int


@contextlib.contextmanager
def faulty_ingest() -> Iterator[Ingest]:
    command = [sys.executable, "-m", "soak.faulty_ingest"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=TESTS)
    with process:
        try:
            yield Ingest(process)
        finally:
            process.kill()


def look_inside(port: int) -> Dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIFETIME)
    with contextlib.closing(connection):
        connection.request("GET", "/inside", headers={"connection": "close"})
        found: Dict[str, Any] = json.load(connection.getresponse())
        return found


def is_up(port: int) -> bool:
    with contextlib.suppress(OSError):
        return bool(look_inside(port))
    return False


def rest(port: int) -> Usage:
    """Wait until everything is delivered, and say what is held then."""
    wait_until(lambda: _is_through(look_inside(port)["beacon"]), "an empty queue")
    # The threads and connections of the last requests end in their own time.
    lowest = look_inside(port)
    for _ in range(10):
        time.sleep(0.05)
        found = look_inside(port)
        lowest = {**found, **{name: min(found[name], lowest[name]) for name in _COUNTS}}
    return Usage(
        lowest["rss"],
        lowest["blocks"],
        lowest["objects"],
        lowest["threads"],
        lowest["descriptors"],
        lowest.get("tasks", 0),
    )


_COUNTS = ("rss", "blocks", "objects", "threads", "descriptors")


def _is_through(stats: Dict[str, Any]) -> bool:
    return not stats["pending"] and not stats["in_flight"]


def one_round(ingest: Ingest, load: Load) -> None:
    with load.flowing():
        for mode in Mode:
            ingest.turn(mode)
            time.sleep(FAULT)
            ingest.turn(Mode.OK)
            time.sleep(WELL)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("host", ["asgi", "flask"])
def test_an_hour_of_faults_leaves_nothing_behind(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    with faulty_ingest() as ingest, contextlib.ExitStack() as stack:
        command = ["-m", "soak.served", host, str(port), ingest.url]
        process = stack.enter_context(running(command, PYTHONPATH=TESTS))
        wait_until(lambda: process.poll() is not None or is_up(port), "the application")
        load = stack.enter_context(Load(port))
        usages: List[Usage] = []
        end = time.monotonic() + DURATION
        while time.monotonic() < end or len(usages) < WARM_UP + 2:
            one_round(ingest, load)
            usages.append(rest(port))
        inside, report = look_inside(port)["beacon"], ingest.report()
    with capsys.disabled():
        show(host, usages, inside, report)
    accounted_for(load, inside, report)
    nothing_grew(usages[WARM_UP:], inside["captured"] * (len(usages) - WARM_UP) // len(usages))


def accounted_for(load: Load, inside: Dict[str, Any], report: Dict[str, int]) -> None:
    """Every answered request is one event; every event was stored once or is counted as lost."""
    assert load.failures == []
    assert inside["captured"] == sum(load.answered)
    assert inside["captured"] == inside["delivered"] + sum(inside["dropped"].values())
    assert report["stored"] == inside["delivered"]
    assert report["twice"] == 0
    assert inside["dropped"] == {}, "the faults were short, and the buffer large enough for them"
    assert inside["requeued"] > 0, "no fault was met"


def nothing_grew(usages: List[Usage], events: int) -> None:
    """Compare the two halves of the rounds after the warm-up, in which `events` were captured."""
    half = len(usages) // 2
    first, last = (
        Usage(*(int(median(values)) for values in zip(*part))) for part in (usages[:half], usages[-half:])
    )
    assert last.threads <= first.threads
    assert last.descriptors <= first.descriptors
    assert last.tasks <= first.tasks
    # Exact: one container that stays per POST would be hundreds.
    assert last.objects - first.objects <= 20
    # Strings and numbers. They go on growing for a while (docs/scale.md, "Soak"), by some 100
    # blocks a round and ever slower; one that stays per event would be four times this room.
    assert last.blocks - first.blocks <= max(500, events // 8)
    assert last.rss - first.rss <= 4 << 20


def show(host: str, usages: List[Usage], inside: Dict[str, Any], report: Dict[str, int]) -> None:
    counts = ", ".join(f"{inside[name]:,} {name}" for name in ("captured", "delivered", "requeued"))
    lines = [
        f"\n{host}: {counts}, {report['posts']:,} POSTs, {report['twice']} stored twice",
        "round  RSS (KiB)   blocks  objects  threads  descriptors  tasks",
    ]
    row = "{:5}  {:9}  {:7}  {:7}  {:7}  {:11}  {:5}"
    lines += [row.format(number, rss >> 10, *rest) for number, (rss, *rest) in enumerate(usages, 1)]
    sys.stdout.write("\n".join([*lines, ""]))
