"""The spool in real processes: killed, forked, side by side, and on disks that fail."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Dict, Iterator, List, Set

import pytest

from beaconhq.spool.status import look

from .children import FORKING, LIFETIME, PRELUDE, free_port, run_script, running

if TYPE_CHECKING:
    from pathlib import Path

    from .ingest_server import RecordingIngest

pytestmark = pytest.mark.process

#: Before `PRELUDE`, whose `make` takes `spool=FOLDER` then.
FOLDER = "import sys; FOLDER = sys.argv[2]\n"


def nobody() -> str:
    """Return the URL of an ingest that is down."""
    return f"http://localhost:{free_port()}"


def run(script: str, url: str, folder: Path) -> List[str]:
    """Run a script to its end, which must be silent on stderr; returns the lines that it printed."""
    ended = run_script(script, url, str(folder), before=FOLDER, flags=FORKING)
    assert (ended.code, ended.err) == (0, "")
    return ended.lines


def deliver(ingest: RecordingIngest, folder: Path) -> None:
    """Start the next process, which finds what others left."""
    script = """
        import time
        client = make(spool=FOLDER, flush_interval=0.05)
        client.capture(event("/next"))
        deadline = time.monotonic() + 50
        while client.stats()["delivered"] - client.stats()["recovered"] < 1:
            assert time.monotonic() < deadline, client.stats()
            time.sleep(0.02)
    """
    # The address must be the one under which the events were spooled.
    assert run(script, ingest.url, folder) == []
    assert [each for each in look(folder) if each.events and not each.owned_by_running] == []


@contextlib.contextmanager
def going_up_and_down(ingest: RecordingIngest, seed: int = 1) -> Iterator[None]:
    """Let the ingest refuse and accept by turns; it accepts in the end."""
    done = threading.Event()
    chance = random.Random(seed)

    def flap() -> None:
        while not done.wait(chance.uniform(0.01, 0.15)):
            ingest.status = 503 if ingest.status == 202 else 202

    thread = threading.Thread(target=flap)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        ingest.status = 202


def arrived(ingest: RecordingIngest) -> List[str]:
    """Return what an ingest stores that drops what comes again under a key, in order of arrival."""
    seen: Dict[str, List[str]] = {}
    for post in ingest.posts:
        if post.answered == 202:
            assert seen.setdefault(post.key, post.paths) == post.paths, "one key, two sets of events"
    return [path for paths in seen.values() for path in paths]


def numbers_by_process(ingest: RecordingIngest) -> Dict[int, List[int]]:
    """Sort out paths such as /PROCESS/NUMBER, in the order of their arrival."""
    found: Dict[int, List[int]] = defaultdict(list)
    for path in arrived(ingest):
        if path != "/next":
            _, process, number = path.split("/")
            found[int(process)].append(int(number))
    return found


def assert_no_event_went_under_two_keys(ingest: RecordingIngest) -> None:
    keys: Dict[str, Set[str]] = defaultdict(set)
    for post in ingest.posts:
        for path in post.paths:
            keys[path].add(post.key)
    assert [path for path, under in keys.items() if len(under) > 1] == []


class TestDeploy:
    def test_what_the_old_process_could_not_deliver_the_new_one_does(
        self, ingest: RecordingIngest, tmp_path: Path
    ) -> None:
        ingest.status = 503
        script = """
            client = make(spool=FOLDER, shutdown_timeout=2)
            for number in range(30):
                client.capture(event(f"/{number}"))
        """
        assert run(script, ingest.url, tmp_path) == []
        ingest.status = 202
        deliver(ingest, tmp_path)
        assert arrived(ingest) == [*(f"/{number}" for number in range(30)), "/next"]
        assert_no_event_went_under_two_keys(ingest)

    def test_over_several_generations(self, ingest: RecordingIngest, tmp_path: Path) -> None:
        """Each finds what the one before left, adds its own and cannot deliver either."""
        ingest.status = 503
        for generation in range(4):
            script = f"""
                client = make(spool=FOLDER, shutdown_timeout=1, flush_interval=0.05)
                for number in range(10):
                    client.capture(event(f"/{generation}/{{number}}"))
                client.flush_sync(10)
                print(client.stats()["dropped"])
            """
            assert run(script, ingest.url, tmp_path) == ["{}"]
        ingest.status = 202
        deliver(ingest, tmp_path)
        assert arrived(ingest) == [*(f"/{g}/{n}" for g in range(4) for n in range(10)), "/next"]
        assert_no_event_went_under_two_keys(ingest)

    def test_an_exit_that_just_failed_saves_what_came_after(
        self, ingest: RecordingIngest, tmp_path: Path
    ) -> None:
        ingest.status = 503
        script = """
            import atexit

            client = make(spool=FOLDER)
            client.capture(event("/before"))
            client.flush_sync(10)
            client.shutdown()
            client.capture(event("/after"))
        """
        assert run(script, ingest.url, tmp_path) == []
        ingest.status = 202
        deliver(ingest, tmp_path)
        assert arrived(ingest) == ["/before", "/after", "/next"]

    def test_without_a_spool_the_same_is_lost(self, ingest: RecordingIngest, tmp_path: Path) -> None:
        ingest.status = 503
        assert run('make().capture(event("/lost"))', ingest.url, tmp_path) == []
        ingest.status = 202
        deliver(ingest, tmp_path)
        assert arrived(ingest) == ["/next"]


class TestFork:
    def test_parent_and_child_own_what_is_theirs(self, ingest: RecordingIngest, tmp_path: Path) -> None:
        """A fork while the parent holds a claim, and events in the spool: neither touches the other's."""
        ingest.status = 503
        script = """
            import os, time

            def spooled(count):
                deadline = time.monotonic() + 30
                while client.stats()["spooled"] != count and time.monotonic() < deadline:
                    time.sleep(0.01)
                assert client.stats()["spooled"] == count, client.stats()

            client = make(spool=FOLDER, flush_interval=0.1, shutdown_timeout=1)
            for number in range(5):
                client.capture(event(f"/parent/{number}"))
            spooled(5)
            pid = os.fork()
            if pid == 0:
                assert client.stats()["spooled"] == 0
                client.capture(event("/child/0"))
                spooled(1)
                os._exit(0)  # leaves its own in the folder
            assert os.waitpid(pid, 0)[1] == 0
            client.capture(event("/parent/5"))
            spooled(6)
        """
        assert run(script, ingest.url, tmp_path) == []
        ingest.status = 202
        deliver(ingest, tmp_path)
        paths = arrived(ingest)
        assert sorted(paths) == sorted([*(f"/parent/{n}" for n in range(6)), "/child/0", "/next"])
        assert [path for path in paths if path.startswith("/parent")] == [f"/parent/{n}" for n in range(6)]

    def test_a_parent_s_death_is_seen_although_its_child_lives(
        self, ingest: RecordingIngest, tmp_path: Path
    ) -> None:
        ingest.status = 503
        script = """
            import os, signal, time
            client = make(spool=FOLDER, flush_interval=0.1)
            client.capture(event("/parent"))
            while client.stats()["spooled"] != 1:
                time.sleep(0.01)
            if os.fork() == 0:
                print("ready", flush=True)
                time.sleep(60)
                os._exit(0)
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)
        """
        source = FOLDER + PRELUDE + textwrap.dedent(script)
        with running([*FORKING, "-c", source, ingest.url, str(tmp_path)]) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.wait(LIFETIME)
            ingest.status = 202
            deliver(ingest, tmp_path)
        assert arrived(ingest) == ["/parent", "/next"]


# -- killed -----------------------------------------------------------------------------

#: Forks children that capture and spool, and kills each in the middle of it. Prints what each
#: had got out of its memory by then.
KILLER = """
import json, os, random, select, signal, sys, time

import beaconhq.http, beaconhq.spool.overflow, beaconhq.spool.spool, httpx  # once, not in every child

rounds, seed = int(sys.argv[3]), int(sys.argv[4])
chance = random.Random(seed)

def work(number, tell):
    client = make(spool=FOLDER, flush_interval=0.01, batch_size=20)
    count = 0
    while True:
        for _ in range(chance.randrange(1, 40)):
            client.capture(event(f"/{number}/{count}"))
            count += 1
        stats = client.stats()
        assert not stats["dropped"], stats
        while client.stats()["pending"] > 5000:  # the disk is slower than this loop
            time.sleep(0.01)
        os.write(tell, b"%d\\n" % (stats["captured"] - stats["pending"] - stats["in_flight"]))
        time.sleep(0.001)

safe = []
for number in range(rounds):
    listen, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        chance.seed(seed * 1000 + number)
        work(number, tell)
    os.close(tell)
    told = b""
    deadline = time.monotonic() + 20
    began = False
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        if select.select([listen], [], [], left)[0]:
            told += os.read(listen, 65536)
            if not began and told.replace(b"0\\n", b""):
                began = True
                deadline = time.monotonic() + chance.uniform(0, 0.3)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while True:
        more = os.read(listen, 65536)
        if not more:
            break
        told += more
    os.close(listen)
    safe.append(max([0, *map(int, told.split(b"\\n")[:-1])]))
print(json.dumps(safe))
"""


class TestKill:
    def test_what_was_written_survives(self, ingest: RecordingIngest, tmp_path: Path) -> None:
        self.kill(ingest, tmp_path, rounds=8)

    @pytest.mark.torture
    @pytest.mark.timeout(1500)
    def test_what_was_written_survives_200_kills(self, ingest: RecordingIngest, tmp_path: Path) -> None:
        self.kill(ingest, tmp_path, rounds=200)

    def kill(self, ingest: RecordingIngest, folder: Path, rounds: int) -> None:
        """Every event that left the memory of a killed process arrives, in order, under one key."""
        command = [sys.executable, *FORKING, "-c", FOLDER + PRELUDE + KILLER]
        with going_up_and_down(ingest):
            ended = subprocess.run(
                [*command, ingest.url, str(folder), str(rounds), "7"],
                stdout=subprocess.PIPE,
                text=True,
                timeout=LIFETIME + 5 * rounds,
                check=True,
            )
        deliver(ingest, folder)
        safe: List[int] = json.loads(ended.stdout)
        assert sum(safe) > 10 * rounds
        by_process = numbers_by_process(ingest)
        missing = {
            process: lost
            for process, count in enumerate(safe)
            if (lost := set(range(count)) - set(by_process[process]))
        }
        assert missing == {}, "written, and so delivered"
        for process in range(rounds):
            assert by_process[process] == sorted(set(by_process[process])), "order, and each once"
        assert_no_event_went_under_two_keys(ingest)
        print(f"{rounds} kills: {sum(safe)} events were safe, {len(ingest.paths)} arrived")  # noqa: T201


# -- side by side -----------------------------------------------------------------------


class TestSharing:
    def test_eight_processes_on_one_folder(self, ingest: RecordingIngest, tmp_path: Path) -> None:
        """The ingest goes up and down; nothing is lost, and what comes twice comes under its key."""
        script = """
            import os, sys, time

            import beaconhq.http, beaconhq.spool.overflow, beaconhq.spool.spool, httpx  # once, not in each

            def work(name):
                client = make(spool=FOLDER, flush_interval=0.05, shutdown_timeout=30)
                for number in range(300):
                    client.capture(event(f"/{name}/{number}"))
                    time.sleep(0.004)
                client.shutdown()
                assert client.stats()["dropped"] == {}, client.stats()
                assert client.stats()["pending"] == 0, client.stats()

            children = []
            for name in range(8):
                pid = os.fork()
                if pid == 0:
                    work(name)
                    os._exit(0)
                children.append(pid)
            for pid in children:
                assert os.waitpid(pid, 0)[1] == 0
        """
        with going_up_and_down(ingest, seed=2):
            assert run(script, ingest.url, tmp_path) == []
        deliver(ingest, tmp_path)
        assert numbers_by_process(ingest) == {name: list(range(300)) for name in range(8)}
        assert_no_event_went_under_two_keys(ingest)

    def test_a_living_process_s_events_are_left_to_it(self, ingest: RecordingIngest, tmp_path: Path) -> None:
        ingest.status = 503
        script = """
            import time
            client = make(spool=FOLDER, flush_interval=0.1)
            client.capture(event("/living"))
            while client.stats()["spooled"] != 1:
                time.sleep(0.01)
            print("spooled", flush=True)
            sys.stdin.read()
            import os
            os._exit(0)
        """
        source = FOLDER + PRELUDE + textwrap.dedent(script)
        command = [sys.executable, *FORKING, "-c", source, ingest.url, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as living:
            try:
                assert living.stdout is not None
                assert living.stdout.readline() == "spooled\n"
                os.kill(living.pid, signal.SIGSTOP)  # alive, but sends nothing
                ingest.status = 202
                deliver(ingest, tmp_path)
                assert arrived(ingest) == ["/next"]
            finally:
                living.kill()
        deliver(ingest, tmp_path)
        assert arrived(ingest) == ["/next", "/living", "/next"]


# -- disks that fail --------------------------------------------------------------------


class TestDisk:
    def test_a_full_disk_is_reported_once_and_costs_no_event(
        self, ingest: RecordingIngest, tmp_path: Path
    ) -> None:
        """A limit on the size of files stands for the disk: writes fail in the middle of it."""
        ingest.status = 503
        script = """
            import resource, signal, time
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
            reported = []
            client = make(spool=FOLDER, flush_interval=0.05, on_error=reported.append, shutdown_timeout=20)
            for number in range(2000):
                client.capture(event(f"/{number}"))
            deadline = time.monotonic() + 30
            while not any("Spool" in type(e).__name__ for e in reported) and time.monotonic() < deadline:
                time.sleep(0.02)
            print([type(e).__name__ for e in reported if "Spool" in type(e).__name__])
            print("ready", flush=True)
            sys.stdin.readline()
            client.flush_sync(20)
            client.shutdown()
            print(client.stats()["dropped"], client.stats()["pending"], client.stats()["spooled"])
        """
        source = FOLDER + PRELUDE + textwrap.dedent(script)
        command = [sys.executable, *FORKING, "-c", source, ingest.url, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "['SpoolUnavailable']\n"
            assert process.stdout.readline() == "ready\n"
            ingest.status = 202
            out, _ = process.communicate("\n", timeout=LIFETIME)
        assert out == "{} 0 0\n"
        assert sorted(arrived(ingest)) == sorted(f"/{number}" for number in range(2000))

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
    def test_a_full_file_system(self, ingest: RecordingIngest, tmp_path: Path) -> None:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(tmp_path)],
            capture_output=True,
            check=False,
        )
        if mounted.returncode:
            pytest.skip("file systems cannot be mounted here")
        try:
            self.test_a_full_disk_is_reported_once_and_costs_no_event(ingest, tmp_path)
        finally:
            subprocess.run(["umount", str(tmp_path)], check=True)

    def test_a_folder_that_cannot_be_written_to(self, ingest: RecordingIngest, tmp_path: Path) -> None:
        """As root anything can be, so the process becomes somebody else."""
        tmp_path.chmod(0o555)
        script = """
            import os
            import beaconhq.spool.overflow, beaconhq.spool.spool

            warm = make()  # loads what nobody else may read
            warm.capture(event())
            warm.flush_sync(10)
            warm.shutdown()
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            reported = []
            client = make(spool=FOLDER, flush_interval=0.05, on_error=reported.append)
            client.capture(event("/a"))
            client.flush_sync(10)
            client.shutdown()
            print([type(e).__name__ for e in reported].count("SpoolUnavailable"), client.stats()["pending"])
        """
        assert run(script, nobody(), tmp_path) == ["1 1"]
