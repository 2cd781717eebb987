"""
A script without an event loop that reports what it did as one event.

    export BEACON_INGEST_URL=http://127.0.0.1:8787 BEACON_INGEST_KEY=dev   # `beaconhq local`
    python script.py
"""

import time

from beaconhq import BeaconClient, BeaconEvent, utc_now_iso


def import_orders():
    """Stand in for the work."""


with BeaconClient.from_env() as beacon:
    started = time.perf_counter()
    import_orders()
    duration_ms = round((time.perf_counter() - started) * 1000)
    beacon.capture(
        BeaconEvent(
            ts=utc_now_iso(),
            method="JOB",
            route="/imports/{name}",
            path="/imports/orders",
            status=200,
            duration_ms=duration_ms,
            consumer="cron",
        )
    )
    result = beacon.flush_sync(timeout=10)

print(f"delivered {result.delivered}, dropped {result.dropped}, pending {result.pending}")
