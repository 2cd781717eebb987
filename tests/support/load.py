"""Requests to an application in this process, many at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Iterable, Iterator

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from beaconhq.integrations.asgi import BeaconASGIMiddleware

if TYPE_CHECKING:
    from starlette.requests import Request

    from beaconhq import BeaconClient


def make_app(client: BeaconClient) -> BeaconASGIMiddleware:
    """Return an application that answers `/items/NUMBER`, after a turn of the event loop."""

    async def item(request: Request) -> PlainTextResponse:
        await asyncio.sleep(0)
        return PlainTextResponse(request.path_params["number"])

    return BeaconASGIMiddleware(Starlette(routes=[Route("/items/{number}", item)]), client)


async def serve_all(app: BeaconASGIMiddleware, numbers: Iterable[int], concurrency: int = 50) -> None:
    """Serve one request for each number, `concurrency` at a time."""
    left = iter(numbers)
    await asyncio.gather(*(_serve_some(app, left) for _ in range(concurrency)))


async def _serve_some(app: BeaconASGIMiddleware, numbers: Iterator[int]) -> None:
    for number in numbers:
        path = f"/items/{number:05d}"
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await app(scope, _receive, _send)


async def _receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    """Take the answer and forget it."""
