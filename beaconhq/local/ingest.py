"""
The command `beaconhq local`: the ingest on a port, its table in the terminal, until it is told to stop.

Owns the order of things (check, open, listen, serve, show, close) and the words to the user. The parts are
`store`, `app`, `server` and `terminal`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING, List, Optional

import anyio
from anyio import to_thread

from . import app_routes
from .app import create_app
from .server import ServerError, listen, resolve, serving, stop_signals, url_of
from .store import EventStore, Retention, StoreError
from .terminal import Display, make_console, make_display, say

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from rich.console import Console
    from starlette.types import ASGIApp

    from .summary import Summary

#: The most routes that the terminal shows; the JSON summary has them all.
MAX_ROUTES = 200
#: Seconds between two looks at the store.
REFRESH_INTERVAL = 0.5

# The next look waits this many times as long as the last summary took: at most a fifth of one core.
_REST_FACTOR = 4
_EXPOSED = "  WARNING: other machines can reach it; whoever has the key can send events and read them"


def run(
    *,
    host: str,
    port: int,
    db: Optional[Path],
    key: Optional[str],
    retention: Retention,
    app: Optional[str] = None,
) -> int:
    """
    Run the local ingest until Ctrl-C or SIGTERM; return the exit code.

    0 after a stop, 1 where the port, the database or the app cannot be used, 2 where a key is missing. `db`
    None keeps the events in a temporary file; `app` ("module:attr") is compared with what was called.
    """
    console = make_console()
    try:
        address = resolve(host, port)
        if key is None and not address.is_loopback:
            return _complain(
                f"{host} can be reached from other machines: choose a key with --key KEY", code=2
            )
        declared = None if app is None else app_routes.load(app)
        with contextlib.closing(EventStore(db, retention)) as store, listen(address) as listener:
            introduction = _introduction(url_of(listener), db, key)
            if not address.is_loopback:
                introduction.insert(1, _EXPOSED)
            ingest = create_app(store, key=key, hosts=[host], app_routes=declared)
            asyncio.run(_serve(store, ingest, listener, console, introduction))
    except (app_routes.AppRoutesError, ServerError, StoreError) as error:
        return _complain(str(error), code=1)
    return 0


async def show_until(stop: asyncio.Event, store: EventStore, display: Display) -> None:
    """Show what is new in the store every `REFRESH_INTERVAL`, until `stop` is set. Raises `StoreError`."""
    shown = None
    while not stop.is_set():
        pause = REFRESH_INTERVAL
        if store.revision != shown:
            shown = store.revision
            began = time.monotonic()
            display.update(await to_thread.run_sync(read, store))
            pause = max(pause, _REST_FACTOR * (time.monotonic() - began))
        with anyio.move_on_after(pause):
            await stop.wait()


def read(store: EventStore) -> Summary:
    """Read what the terminal shows of the store. Raises `StoreError`."""
    return store.summary(max_routes=MAX_ROUTES)


async def _serve(
    store: EventStore, ingest: ASGIApp, listener: socket.socket, console: Console, introduction: List[str]
) -> None:
    with contextlib.closing(make_display(console)) as display, stop_signals() as stop:
        async with serving(ingest, listener):
            # Only now: who reads these lines may send requests, and signals.
            for line in introduction:
                say(console, line)
            await show_until(stop, store, display)
        display.finish(read(store))


def _introduction(url: str, db: Optional[Path], key: Optional[str]) -> List[str]:
    return [
        f"beaconhq local listens on {url}",
        # A key that was chosen is not repeated: it would stay in the scroll-back and in logs.
        f"  an app:   BEACON_INGEST_URL={url} BEACON_INGEST_KEY={'dev' if key is None else '<the key>'}",
        f"  page:     {url}/{'' if key is None else ' (any user name, the key as the password)'}",
        f"  summary:  {url}/v1/summary",
        f"  events:   {'in a temporary file (--db FILE keeps them)' if db is None else db}",
        "Ctrl-C stops it.",
    ]


def _complain(reason: str, *, code: int) -> int:
    sys.stderr.write(f"beaconhq local: {reason}\n")
    return code
