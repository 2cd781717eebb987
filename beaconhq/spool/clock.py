"""
How old a batch is, although clocks are set and machines restart.

A store keeps a clock of its own: seconds that have passed since it was made. While the
machine is up they are counted by the system's boot clock, which nobody can set and all
processes share; over a restart by the wall clock, never backwards.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Reading(NamedTuple):
    """What the clocks say at one moment."""

    #: Names this run of the machine; "" where the system does not tell.
    boot: str
    #: Seconds since the machine started, sleep included.
    uptime: float
    #: Seconds since the epoch.
    wall: float


def read() -> Reading:
    """Read the clocks."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # Linux
    uptime = time.monotonic() if clock is None else time.clock_gettime(clock)
    try:
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        boot = ""
    return Reading(boot, uptime, time.time())


def passed(earlier: Reading, now: Reading) -> float:
    """Return the seconds between two readings, 0 or more."""
    if now.boot == earlier.boot and now.uptime >= earlier.uptime:
        return now.uptime - earlier.uptime
    return max(0.0, now.wall - earlier.wall)
