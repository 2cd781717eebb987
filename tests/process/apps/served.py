"""The application behind the server tests: the quickstart's one line, and what looks inside."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import Any, Dict, List, Set

from fastapi import FastAPI

from beaconhq import BeaconASGIMiddleware, BeaconClient

beacon = BeaconClient(
    ingest_key="test-key",
    ingest_url=os.environ["INGEST_URL"],
    flush_interval=float(os.environ.get("FLUSH_INTERVAL", "600")),
    shutdown_timeout=30,
)
app = FastAPI()
app.add_middleware(BeaconASGIMiddleware, client=beacon, consumer_resolver=lambda scope: str(os.getpid()))

#: The threads of ours that were seen during a request. The one that loads the HTTP stack
#: in the first moments is let pass: it ends by itself.
threads_seen: Set[str] = set()


def threads() -> List[str]:
    return [thread.name for thread in threading.enumerate() if "beacon" in thread.name]


@app.get("/items/{item}")
async def read_item(item: str) -> str:
    threads_seen.update(name for name in threads() if name != "beaconhq-prepare")
    return item


@app.get("/slow/{item}")
async def read_slowly(item: str) -> str:
    await asyncio.sleep(1)
    return item


@app.get("/inside/process")
async def look_at_process() -> Dict[str, Any]:
    return {
        "pid": os.getpid(),
        "threads": threads(),
        "threads_seen": sorted(threads_seen),
        "beacon": beacon.stats(),
    }


@app.get("/inside/modules")
async def look_at_modules() -> List[str]:
    return sorted(sys.modules)
