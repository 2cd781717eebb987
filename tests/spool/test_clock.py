"""Time that has passed, although clocks are set."""

from __future__ import annotations

from beaconhq.spool import clock
from beaconhq.spool.clock import Reading

EARLIER = Reading("boot", uptime=100, wall=1_000_000)


def test_while_the_machine_is_up_the_wall_clock_does_not_count() -> None:
    assert clock.passed(EARLIER, Reading("boot", uptime=160, wall=5_000_000)) == 60
    assert clock.passed(EARLIER, Reading("boot", uptime=160, wall=10)) == 60


def test_over_a_restart_the_wall_clock_counts() -> None:
    assert clock.passed(EARLIER, Reading("next boot", uptime=5, wall=1_000_300)) == 300


def test_time_never_runs_backwards() -> None:
    assert clock.passed(EARLIER, Reading("next boot", uptime=5, wall=900_000)) == 0


def test_where_the_system_names_no_boot_a_smaller_uptime_is_a_restart() -> None:
    assert clock.passed(EARLIER._replace(boot=""), Reading("", uptime=5, wall=1_000_300)) == 300


def test_two_readings_follow_each_other() -> None:
    first = clock.read()
    second = clock.read()
    assert first.boot == second.boot
    assert 0 <= clock.passed(first, second) < 60
