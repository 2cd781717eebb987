"""
What an ingest that is down costs the application: the request rate with it down over the rate with it up.

    PYTHONPATH=tests python -m benchmarks.outage [--requests 10000] [--rounds 6]

An application in this process serves requests at concurrency 50; the ingest is a process of its own. Rounds
with the ingest up and down alternate, so that what else the machine does meets both. The ratio is that of the
medians: 0.95 is the least that is good enough.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from statistics import median
from typing import TYPE_CHECKING, Dict, List

from faults.ingest import KEY, fault_process
from support.hosts import HOSTS, deliver_all, hosted
from support.load import make_app, serve_all

from beaconhq import BeaconClient

if TYPE_CHECKING:
    from faults.ingest import FaultIngest

CONCURRENCY = 50


async def measure(ingest: FaultIngest, host: str, requests: int, *, up: bool) -> float:
    """Return the requests per second of one round; the delivery of the backlog is not in it."""
    if up:
        ingest.come_up()
    client = BeaconClient(KEY, ingest.get_url(), max_buffer_size=50_000, flush_interval=0.5)
    app = make_app(client)
    async with hosted(client, host):
        await serve_all(app, range(500), CONCURRENCY)
        await client.flush()  # everything is loaded
        began = time.perf_counter()
        await serve_all(app, range(requests), CONCURRENCY)
        rate = requests / (time.perf_counter() - began)
        if not up:
            ingest.come_up()
        await deliver_all(client)
    if len(ingest.stored()) != requests + 500:
        raise AssertionError(client.stats())
    return rate


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=10_000, help="requests per round")
    parser.add_argument(
        "--rounds", type=int, default=7, help="rounds with the ingest up, and as many with it down"
    )
    options = parser.parse_args()
    with fault_process() as process:
        for host in HOSTS:
            rates: Dict[bool, List[float]] = {True: [], False: []}
            for number in range(2 * options.rounds):
                # Up, down, down, up: a machine that gets slower or faster favours neither.
                up = number % 4 in (0, 3)
                ingest = process.FaultIngest()
                rates[up].append(asyncio.run(measure(ingest, host, options.requests, up=up)))
                ingest.close()
            with_it, without = median(rates[True]), median(rates[False])
            print(  # noqa: T201 - its output
                f"{host}: up {with_it:,.0f} requests/s, down {without:,.0f}, ratio {without / with_it:.3f}"
            )


if __name__ == "__main__":
    main()
