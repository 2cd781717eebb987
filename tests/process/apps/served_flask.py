"""
The Flask application behind the server tests.

The consumer of each event is the process that answered. With `CAPTURE_AT_IMPORT` three
events are captured while the application is loaded, in whichever process does that.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import warnings
from typing import Any, Dict, List

from flask import Flask

from beaconhq import BeaconClient, init_flask

#: What was warned of, by anybody, and what `on_error` received.
warned: List[str] = []
reported: List[str] = []


def note_warning(message: object, category: type, filename: str, *_: object) -> None:
    warned.append(f"{filename}: {category.__name__}: {message}")


warnings.simplefilter("always")
# gunicorn leaves its listeners, which have no peer, to the interpreter's end.
warnings.filterwarnings("ignore", r"unclosed <\S*socket (?!.*raddr)", ResourceWarning)
# Python 3.12 and later warn at a fork in a process with threads, such as gevent's resolver.
warnings.filterwarnings("ignore", "This process ", DeprecationWarning)
warnings.showwarning = note_warning  # type: ignore[assignment]

beacon = BeaconClient(
    ingest_key="test-key",
    ingest_url=os.environ["INGEST_URL"],
    flush_interval=float(os.environ.get("FLUSH_INTERVAL", "600")),
    shutdown_timeout=30,
    on_error=lambda error: reported.append(repr(error)),
)
app = Flask(__name__)
init_flask(app, beacon, consumer_resolver=lambda request: str(os.getpid()))
loaded_by = os.getpid()

if "CAPTURE_AT_IMPORT" in os.environ:
    for number in range(3):
        beacon.capture((time.time(), ("GET", "/boot", 200, None), f"/boot/{number}", 0, str(loaded_by)))


@app.get("/items/<item>")
def read_item(item: str) -> Any:
    return f'"{item}"'


@app.get("/slow/<item>")
def read_slowly(item: str) -> Any:
    time.sleep(1)
    return f'"{item}"'


@app.get("/async/<item>")
async def read_async(item: str) -> Any:
    await asyncio.sleep(0.01)
    return f'"{item}"'


@app.get("/inside/process")
def look_at_process() -> Dict[str, Any]:
    return {
        "pid": os.getpid(),
        "loaded_by": loaded_by,
        "beacon": beacon.stats(),
        "warned": warned,
        "reported": reported,
        "httpx": "httpx" in sys.modules,
    }
