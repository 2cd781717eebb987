"""
An asyncio worker that reports each job as one event, until SIGTERM or Ctrl-C.

    export BEACON_INGEST_URL=http://127.0.0.1:8787 BEACON_INGEST_KEY=dev   # `beaconhq local`
    python worker.py
"""

import asyncio
import signal
import time

from beaconhq import BeaconClient, BeaconEvent, utc_now_iso


async def work(job):
    """Stand in for the work; every fourth job fails."""
    await asyncio.sleep(0.05)
    if job % 4 == 3:
        raise ValueError(f"job {job} has no data")


async def report(beacon, job):
    """Do one job and capture what became of it."""
    started = time.perf_counter()
    status, error = 200, None
    try:
        await work(job)
    except ValueError as exc:
        status, error = 500, f"{type(exc).__name__}: {exc}"
    duration_ms = round((time.perf_counter() - started) * 1000)
    beacon.capture(
        BeaconEvent(utc_now_iso(), "JOB", "/jobs/{id}", f"/jobs/{job}", status, duration_ms, error=error)
    )


async def main():
    # Without a handler SIGTERM ends a Python process on the spot, and nothing could be delivered.
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)

    async with BeaconClient.from_env() as beacon:
        job = 0
        while not stop.is_set():
            await report(beacon, job)
            job += 1
    print(f"{job} jobs: {beacon.stats()['delivered']} delivered")


asyncio.run(main())
