"""
The page over HTTP: its files, one view as JSON, and a stream of views.

Owns the URLs of the page, the reading of their filters and the pace of the stream. What a view holds is
`view`'s; who may see it is `guard`'s.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, AsyncIterator, Dict, List, Optional

from anyio import CapacityLimiter, to_thread
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from .coverage import read_coverage
from .server import stopping_of
from .store import EventStore, StoreError
from .view import DEFAULT_WINDOW, WINDOWS, Question, read_view

if TYPE_CHECKING:
    from starlette.requests import Request

    from .app_routes import AppRoutes

#: Seconds between two looks at the store for a page that is open.
REFRESH_INTERVAL = 1.0
#: Seconds after which a view is sent although nothing arrived: the window has moved on.
SLIDE_INTERVAL = 5.0
#: Pages that are kept up to date at once; what is opened beyond them reads each view itself.
MAX_STREAMS = 32

# The next look waits this many times as long as the last view took: at most a fifth of one core.
_REST_FACTOR = 4
_STATIC = Path(__file__).parent / "static"


def page_routes(store: EventStore, app_routes: Optional[AppRoutes] = None) -> List[BaseRoute]:
    """Return the routes of the page over an open store, and over the routes of the app it belongs to."""
    page = _Page(store, app_routes)
    return [
        Route("/", page.index, methods=["GET"]),
        Route("/v1/view", page.view, methods=["GET"]),
        Route("/v1/stream", page.stream, methods=["GET"]),
        Route("/static/plotly.js", page.plotly, methods=["GET"]),
        Mount("/static", _Files(directory=_STATIC)),
    ]


class _Files(StaticFiles):
    """The page's own files: asked for anew each time, answered with 304 where nothing changed."""

    def file_response(self, *arguments: object, **options: object) -> Response:
        response = super().file_response(*arguments, **options)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response


class _Page:
    def __init__(self, store: EventStore, app_routes: Optional[AppRoutes]) -> None:
        self._store = store
        self._app_routes = app_routes
        self._reader = CapacityLimiter(1)
        self._streams = 0

    async def index(self, _request: Request) -> Response:
        return FileResponse(_STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    async def plotly(self, _request: Request) -> Response:
        # Found, not imported: the package takes a while to load, and only its script is wanted.
        found = importlib.util.find_spec("plotly")
        if found is None or found.origin is None:
            raise HTTPException(404)
        script = Path(found.origin).parent / "package_data" / "plotly.min.js"
        return FileResponse(script, media_type="text/javascript", headers={"Cache-Control": "no-cache"})

    async def view(self, request: Request) -> Response:
        question = _question(request)
        try:
            return JSONResponse(await self._read(question))
        except StoreError as error:
            return JSONResponse({"error": "store_unavailable", "reason": str(error)}, status_code=503)

    async def stream(self, request: Request) -> Response:
        if self._streams >= MAX_STREAMS:
            raise HTTPException(503, "too many pages are open")
        question = _question(request)
        return StreamingResponse(
            self._views(question, stopping_of(request.scope)), media_type="text/event-stream"
        )

    async def _views(self, question: Question, stopping: asyncio.Event) -> AsyncIterator[str]:
        """Yield a view at once, for what arrives and as time passes, until the server stops."""
        self._streams += 1
        try:
            seen, sent_at = None, 0.0
            while not stopping.is_set():
                pause = REFRESH_INTERVAL
                if self._store.revision != seen or time.monotonic() - sent_at >= SLIDE_INTERVAL:
                    seen, sent_at = self._store.revision, time.monotonic()
                    yield _message(await self._read(question))
                    pause = max(pause, _REST_FACTOR * (time.monotonic() - sent_at))
                await _wait(stopping, pause)
            # The browser shows it, and tries again until there is a server once more.
            yield "event: stopped\ndata: {}\n\n"
        except StoreError as error:
            yield f"event: failed\ndata: {json.dumps({'reason': str(error)})}\n\n"
        finally:
            self._streams -= 1

    async def _read(self, question: Question) -> Dict[str, object]:
        return await to_thread.run_sync(self._read_now, question, limiter=self._reader)

    def _read_now(self, question: Question) -> Dict[str, object]:
        view = self._store.read(lambda connection: read_view(connection, question))
        answer = dataclasses.asdict(view)
        if self._app_routes is not None:
            declared = self._app_routes
            coverage = self._store.read(lambda connection: read_coverage(connection, declared))
            answer["coverage"] = dataclasses.asdict(coverage)
        return answer


def _message(view: Dict[str, object]) -> str:
    return f"data: {json.dumps(view, separators=(',', ':'))}\n\n"


async def _wait(stopping: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except asyncio.TimeoutError:
        return


def _question(request: Request) -> Question:
    """Read the filters of a URL; raise `HTTPException` (400) where they make no sense."""
    query = request.query_params
    window = query.get("window", DEFAULT_WINDOW)
    if window not in WINDOWS:
        raise HTTPException(400, f"window must be one of {', '.join(WINDOWS)}")
    status = query.get("status")
    if status not in (None, "1", "2", "3", "4", "5"):
        raise HTTPException(400, "status must be 1 to 5")
    method, route = query.get("method"), query.get("route")
    return Question(
        window=window,
        status_class=None if status is None else int(status),
        consumer=query.get("consumer"),
        route=None if method is None or route is None else (method, route),
    )
