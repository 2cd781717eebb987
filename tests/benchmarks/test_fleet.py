"""The fleet simulation in small: what docs/scale.md says of 10,000 clients holds for 60, with wide room."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest
from docs.pages import DOCS, Page
from support.fleet import CurrentClient, Report, simulate
from support.fleet_ingest import Ingest, Overload, Scenario
from support.virtual_time import run_virtual

CLIENTS = 60
OUTAGE = Scenario(start_spread=5, before=10, outage=25, after=200)
DEPLOY = Scenario(start_spread=0, before=0, outage=0, after=15)


def run(policy: str = "this version", scenario: Scenario = OUTAGE, **changes: Any) -> Report:
    return simulate(scenario._replace(**changes), policy, CLIENTS)


def test_processes_that_start_together_do_not_knock_together() -> None:
    ours, published = run(scenario=DEPLOY), run("0.2.0", DEPLOY)
    assert ours.peak_posts < 2
    assert ours.refused == 0
    assert published.peak_posts == pytest.approx(5.0), "everybody in the same second"
    assert published.refused > 0


@pytest.mark.parametrize("overload", Overload)
def test_a_fleet_recovers_without_a_stampede_and_loses_nothing(overload: Overload) -> None:
    ours, published = run(overload=overload), run("0.2.0", overload=overload)
    assert ours.lost == ours.duplicates == 0
    assert ours.drained is not None
    assert ours.waiting < 10 * CLIENTS, "no more than a steady fleet holds"
    assert ours.peak_posts < 4
    assert ours.peak_posts_down < 4
    assert ours.peak_events < 0.8 * published.peak_events
    if overload is Overload.REFUSE_429:
        assert published.lost > 0
    elif overload is Overload.QUEUE:
        assert published.timed_out > ours.timed_out
        assert published.duplicates > 0
    elif overload is not Overload.BOOKED_RETRY_AFTER:  # it spreads the same POSTs over more refusals
        assert ours.refused < published.refused


def test_the_same_seed_gives_the_same_figures() -> None:
    assert run(scenario=DEPLOY) == run(scenario=DEPLOY)


SCALE = Page(DOCS / "scale.md")


@pytest.mark.parametrize("row", SCALE.table("events/s of a process", "its POSTs/s"), ids=str)
def test_the_posts_of_one_process_are_those_of_the_page(row: Dict[str, str]) -> None:
    rate = float(row["events/s of a process"].replace(",", ""))
    assert posts_per_second(rate) == pytest.approx(float(row["its POSTs/s"]), rel=0.1)


def posts_per_second(rate: float, seconds: int = 100) -> float:
    """Count the POSTs of one client that captures `rate` events a second, evenly."""

    async def main() -> float:
        clock = asyncio.get_running_loop().time
        ingest = Ingest(Scenario(0, 0, 0, 0, capacity=1e9), 1, random.Random(1))
        client = CurrentClient(0, ingest, random.Random(1))
        await client.start()
        captured = 0
        while clock() < ingest.start + seconds:
            while captured < rate * (clock() - ingest.start):
                client.capture((clock(), ("GET", "/", 200, None), f"/{captured}", 10, None))
                captured += 1
            await asyncio.sleep(0.01)
        return sum(ingest.posts.values()) / seconds

    return run_virtual(main)


def test_the_command_prints_figures_and_progress() -> None:
    command = [sys.executable, str(Path(__file__).with_name("fleet.py")), "--clients=20", "--scenario=deploy"]
    table = subprocess.run([*command, "--jobs=1"], capture_output=True, text=True, timeout=100, check=True)
    assert "| deploy | this version |" in table.stdout
    assert "deploy, 0.2.0: 20 s" in table.stderr
    found = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=100, check=True)
    entries = json.loads(found.stdout)
    assert [entry["policy"] for entry in entries] == ["this version", "0.2.0"]
    assert all(entry["report"]["lost"] == 0 for entry in entries)
