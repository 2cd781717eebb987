"""
The applications that are measured, and calling them in this process.

Every application answers 200 with a few bytes at `/r<number>/{item_id}`; requests go to
its last route.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Awaitable, Callable, Dict, List

BODY = b'{"ok":true}'
HEADERS = [
    (b"host", b"api.example.com"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"cookie", b"session=6b86b273ff34fce19d6b804eff5a3f57"),
    (b"x-api-key", b"customer-7"),
    (b"connection", b"keep-alive"),
]


#: What one unit of work took, in nanoseconds: `wall` time, CPU time of the `thread` that did
#: it and of the whole `process`, background threads included. Or `bytes`.
Reading = Dict[str, float]


class Stopwatch:
    """Measures from its making to `stop`."""

    def __init__(self) -> None:
        self._process = time.process_time_ns()
        self._thread = time.thread_time_ns()
        self._wall = time.perf_counter_ns()

    def stop(self, units: int) -> Reading:
        wall, thread, process = time.perf_counter_ns(), time.thread_time_ns(), time.process_time_ns()
        return {
            "wall": (wall - self._wall) / units,
            "thread": (thread - self._thread) / units,
            "process": (process - self._process) / units,
        }


#: Does that many units of work.
Call = Callable[[int], Reading]


# -- calling ----------------------------------------------------------------------------


class AsgiCaller:
    """Calls an ASGI application in an event loop of its own, one request after the other."""

    def __init__(self, routes: int) -> None:
        self.loop = asyncio.new_event_loop()
        self._path = f"/r{routes - 1}/17"

    def call(self, app: Any) -> Call:
        return lambda count: self.loop.run_until_complete(self._serve(app, count))

    async def _serve(self, app: Any, count: int) -> Reading:
        requests = [(self.scope(), _make_receive()) for _ in range(count)]
        watch = Stopwatch()
        for scope, receive in requests:
            await app(scope, receive, _ignore)
        return watch.stop(count)

    def scope(self) -> Dict[str, Any]:
        """Return a scope as uvicorn makes it."""
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 50000),
            "scheme": "http",
            "method": "GET",
            "root_path": "",
            "path": self._path,
            "raw_path": self._path.encode(),
            "query_string": b"",
            "headers": list(HEADERS),
            "state": {},
        }


def _make_receive() -> Callable[[], Awaitable[Dict[str, Any]]]:
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()  # until the request is over: nobody disconnects
        return messages.pop()

    return receive


async def _ignore(message: Any) -> None:
    pass


def wsgi_call(app: Any, routes: int) -> Call:
    """Call a WSGI application as a server does: start, iterate, close."""
    environ = _environ(f"/r{routes - 1}/17")

    def start_response(status: str, headers: List[Any], exc_info: Any = None) -> Any:
        return None

    def serve(count: int) -> Reading:
        environs = [{**environ} for _ in range(count)]
        watch = Stopwatch()
        for one in environs:
            body = app(one, start_response)
            for _ in body:
                pass
            if hasattr(body, "close"):
                body.close()
        return watch.stop(count)

    return serve


def _environ(path: str) -> Dict[str, Any]:
    import io

    headers = {
        f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode("latin-1") for name, value in HEADERS
    }
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "RAW_URI": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **headers,
    }


# -- applications -----------------------------------------------------------------------


class RawASGI:
    """
    Starlette's routes with a dispatch that takes no time: what it leaves in the scope, and nothing else.

    So the cost of a middleware can be told at 300 routes from that of matching them.
    `leaves_route` is what Starlette 1.0 and FastAPI do; before, only the endpoint was left.
    """

    def __init__(self, routes: int, *, leaves_route: bool) -> None:
        from starlette.routing import Route, Router

        async def respond(request: Any) -> Any:
            raise NotImplementedError

        def make_endpoint(number: int) -> Any:
            async def endpoint(request: Any) -> Any:
                return await respond(number)

            return endpoint

        table = [Route(f"/r{number}/{{item_id}}", make_endpoint(number)) for number in range(routes)]
        self.router = Router(table)
        self.routes = self.router.routes
        self._leaves_route = leaves_route
        self._by_path: Dict[str, Any] = {f"/r{number}/17": route for number, route in enumerate(table)}

    def answer_also(self, paths: List[str]) -> None:
        """Let the first route match these paths too."""
        self._by_path.update(dict.fromkeys(paths, self.routes[0]))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["app"] = self
        scope["router"] = self.router
        route = self._by_path[scope["path"]]
        scope["endpoint"] = route.endpoint
        scope["path_params"] = {"item_id": "17"}
        if self._leaves_route:
            scope["route"] = route
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": BODY})


def fastapi_app(routes: int) -> Any:
    from fastapi import FastAPI
    from starlette.responses import Response

    app = FastAPI(openapi_url=None)
    for number in range(routes):

        async def view(item_id: str) -> Response:
            return Response(BODY, media_type="application/json")

        app.get(f"/r{number}/{{item_id}}", response_model=None)(view)
    return app


def flask_app(routes: int) -> Any:
    from flask import Flask, Response

    app = Flask("benchmarks")
    for number in range(routes):

        def view(item_id: str) -> Response:
            return Response(BODY, content_type="application/json")

        app.add_url_rule(f"/r{number}/<item_id>", f"r{number}", view)
    return app


def django_setup(routes: int) -> Any:
    """Configure Django, once per process; returns its settings."""
    import django
    from django.conf import settings
    from django.http import HttpResponse
    from django.urls import path

    def view(request: Any, item_id: str) -> Any:
        return HttpResponse(BODY, content_type="application/json")

    async def async_view(request: Any, item_id: str) -> Any:
        return HttpResponse(BODY, content_type="application/json")

    is_async = os.environ.get("BENCH_ASYNC") == "1"
    settings.configure(
        ALLOWED_HOSTS=["*"],
        LOGGING_CONFIG=None,
        MIDDLEWARE=[],
        ROOT_URLCONF=_Urls(
            [path(f"r{number}/<item_id>", async_view if is_async else view) for number in range(routes)]
        ),
        SECRET_KEY="for-benchmarks",
        USE_TZ=True,
    )
    django.setup()
    return settings


class _Urls(tuple):  # type: ignore[type-arg]  # Django wants it hashable, and to have urlpatterns
    __slots__ = ()

    @property
    def urlpatterns(self) -> List[Any]:
        return list(self)

    def __new__(cls, patterns: List[Any]) -> _Urls:  # noqa: PYI034 - Self is 3.11's
        return super().__new__(cls, patterns)
