"""
What the soak serves: one route, in an event loop (`asgi`) or on threads (`flask`), and a look inside.

    python -m soak.served asgi PORT INGEST_URL

The time-scale is 1/60: a flush every 0.08 s instead of every 5.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterable

from beaconhq import BeaconClient, wire

TIME_SCALE = 60


def make_client(ingest_url: str) -> BeaconClient:
    return BeaconClient(
        "soak-key",
        ingest_url,
        flush_interval=5.0 / TIME_SCALE,
        timeout=0.5,
        max_buffer_size=100_000,
        batch_size=50,
    )


def usage(beacon: BeaconClient) -> Dict[str, Any]:
    """Return what the process holds, garbage excluded."""
    gc.collect()
    pages = Path("/proc/self/statm").read_text().split()[1]
    return {
        "rss": int(pages) * resource.getpagesize(),
        "blocks": sys.getallocatedblocks(),
        "objects": len(gc.get_objects()),
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - the iterator would count itself
        "beacon": beacon.stats(),
    }


def serve_asgi(port: int, beacon: BeaconClient) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from beaconhq import BeaconASGIMiddleware

    async def read_item(request: Any) -> PlainTextResponse:
        return PlainTextResponse(request.path_params["item"])

    observed = BeaconASGIMiddleware(Starlette(routes=[Route("/items/{item}", read_item)]), client=beacon)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/inside":
            inside = {**usage(beacon), "tasks": len(asyncio.all_tasks())}
            await PlainTextResponse(json.dumps(inside))(scope, receive, send)
        else:
            await observed(scope, receive, send)

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


def serve_flask(port: int, beacon: BeaconClient) -> None:
    import logging

    from flask import Flask
    from werkzeug.serving import make_server

    from beaconhq import init_flask

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    flask = Flask("soak")
    init_flask(flask, beacon)

    @flask.get("/items/<item>")
    def read_item(item: str) -> str:
        return item

    def app(environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/inside":
            return flask(environ, start_response)
        body = json.dumps(usage(beacon)).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    make_server("127.0.0.1", port, app, threaded=True).serve_forever()


def fill_caches() -> None:
    """Fill what is bounded, but would still grow while the soak looks: the seconds that were formatted."""
    for second in range(wire._format_second.cache_info().maxsize or 0):
        wire._format_second(second)


if __name__ == "__main__":
    fill_caches()
    kind, port, url = sys.argv[1:]
    {"asgi": serve_asgi, "flask": serve_flask}[kind](int(port), make_client(url))
