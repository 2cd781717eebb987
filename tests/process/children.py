"""Running other Pythons: scripts that end by themselves, and servers that are told to."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import textwrap
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence

#: Longest life of a script, in seconds: whatever takes longer hangs.
LIFETIME = 60.0
#: What every script runs under: it must not warn, and asyncio's debug mode is on.
STRICT = ("-X", "dev", "-W", "error")
#: Python 3.12 and later warn at a fork in a process with threads, whatever the threads do.
FORKING = (*STRICT, "-W", "ignore:This process:DeprecationWarning")

SLOW_TASK = re.compile(r"^Executing <.*> took \d+\.\d+ seconds\n", re.MULTILINE)

#: What every script begins with. The cadence is out of reach, so that it delivers nothing by chance;
#: and so is the budget of the exit, as loading the HTTP stack may take a busy machine seconds.
PRELUDE = """
import sys
from beaconhq import BeaconClient, BeaconEvent, utc_now_iso

def event(path="/a"):
    return BeaconEvent(utc_now_iso(), "GET", path, path, 200, 1)

def make(**options):
    options = {"flush_interval": 600, "shutdown_timeout": options.get("timeout", 30), **options}
    return BeaconClient("test-key", sys.argv[1], **options)
"""


class Ended(NamedTuple):
    """A process that has ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> List[str]:
        return self.out.splitlines()


def environment(**extra: str) -> Dict[str, str]:
    """Return this process's environment without what would steer the child's HTTP or warnings."""
    steering = ("proxy", "pythonwarnings", "pythonasynciodebug", "pythondevmode", "beacon_")
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith(steering[0])}
    kept = {name: value for name, value in kept.items() if not name.lower().startswith(steering[1:])}
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


def run_script(
    script: str, *args: str, before: str = "", flags: Sequence[str] = STRICT, timed: bool = False
) -> Ended:
    """
    Run `before`, `PRELUDE` and a script to its end.

    What asyncio's debug mode says about the time that a task took is left out, unless the
    test is `timed`: a busy machine can stop any task for 100 ms.
    """
    source = before + PRELUDE + textwrap.dedent(script)
    command = [sys.executable, *flags, "-c", source, *args]
    # A session of its own: descendants of a script that hangs are ended with it.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    with process:
        try:
            out, err = process.communicate(timeout=LIFETIME)
        except BaseException:
            _kill_group(process)
            out, err = process.communicate()
            print(out, err, sep="\n")  # noqa: T201 - pytest shows it with the failure
            raise
    return Ended(process.returncode, out, err if timed else SLOW_TASK.sub("", err))


@contextlib.contextmanager
def running(command: Sequence[str], **env: str) -> Iterator[subprocess.Popen[str]]:
    """Start a Python with these arguments that ends when it is told to; at the end it is gone."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(**env),
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            _kill_group(process)
            process.wait(LIFETIME)


def _kill_group(process: subprocess.Popen[str]) -> None:
    """Kill what is left of the process and its descendants: the group that it was started in."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)


def wait_until(condition: Callable[[], Any], what: str, patience: float = LIFETIME) -> None:
    """Poll until `condition` holds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)


def free_port() -> int:
    """Return a port of localhost on which nobody listens."""
    with socket.create_server(("localhost", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
