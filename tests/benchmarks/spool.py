"""
What a spool costs while the ingest is up: CPU time per event, with one and without.

    PYTHONPATH=tests python -m benchmarks.spool

Both clients capture, drain and ship the same events over HTTP to a stand-in of the ingest in
a process of its own, by turns in the order of a coin; the difference is taken within a round.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import List, Tuple

from beaconhq import BeaconClient

ROUNDS = 40
EVENTS = 5000
RECORD = (1780488000.0, ("GET", "/items/{id}", 200, None), "/items/00007", 12, "acme")


async def measure(client: BeaconClient) -> Tuple[float, float]:
    """Return the CPU time of one capture and of one event shipped, in microseconds."""
    begin = time.process_time()
    for _ in range(EVENTS):
        client.capture(RECORD)
    captured = time.process_time()
    result = await client.flush()
    assert result.delivered == EVENTS, result
    return (captured - begin) / EVENTS * 1e6, (time.process_time() - begin) / EVENTS * 1e6


def _files(folder: str) -> List[Path]:
    return list(Path(folder).iterdir())


async def main(url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clients = [
            BeaconClient("key", url, flush_interval=3600, batch_size=10_000, register_atexit=False),
            BeaconClient(
                "key", url, flush_interval=3600, batch_size=10_000, register_atexit=False, spool=folder
            ),
        ]
        figures: List[List[Tuple[float, float]]] = [[], []]
        async with clients[0], clients[1]:
            for round_number in range(ROUNDS + 2):
                for which in random.sample([0, 1], 2):
                    figure = await measure(clients[which])
                    if round_number >= 2:  # the first ones warm up
                        figures[which].append(figure)
        assert not _files(folder), "nothing was to be spooled"
    for index, name in enumerate(("capture()", "capture, clean, encode and ship")):
        without, with_one = ([each[index] for each in of] for of in figures)
        differences = [b - a for a, b in zip(without, with_one)]
        low, middle, high = statistics.quantiles(differences, n=4)
        sys.stdout.write(
            f"{name}: {statistics.median(without):.2f} us per event without a spool, "
            f"{statistics.median(with_one):.2f} with one; difference {middle:+.3f} us "
            f"(quartiles {low:+.3f} to {high:+.3f})\n"
        )


if __name__ == "__main__":
    command = [sys.executable, "-m", "benchmarks.sink"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ingest:
        assert ingest.stdout is not None
        try:
            asyncio.run(main(f"http://127.0.0.1:{int(ingest.stdout.readline())}"))
        finally:
            ingest.kill()
