"""
Floors: what a middleware costs that does as little as can be done.

`noop` wraps and does nothing. `mincap` is the same plus a clock, the status, the route
where the framework left it, and `deque.append` of a tuple: no middleware that learns
these can be cheaper.
"""

from __future__ import annotations

from collections import deque
from time import perf_counter, time
from typing import Any, Deque, Tuple

#: What `mincap` captured; a ring, so that it neither grows nor has to be emptied.
captured: Deque[Tuple[object, ...]] = deque(maxlen=1000)


class NoopASGI:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def wrapped(message: Any) -> None:
            await send(message)

        await self.app(scope, receive, wrapped)


class MincapASGI:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = perf_counter()
        status = 0

        async def wrapped(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self.app(scope, receive, wrapped)
        route = scope.get("route") or scope["endpoint"]
        captured.append((time(), scope["method"], route, scope["path"], status, perf_counter() - started))


class NoopWSGI:
    def __init__(self, wsgi_app: Any) -> None:
        self._wsgi_app = wsgi_app

    def __call__(self, environ: Any, start_response: Any) -> Any:
        def start(status: str, *args: Any) -> Any:
            return start_response(status, *args)

        return self._wsgi_app(environ, start)


class MincapFlask:
    """A WSGI layer for the times and the status, and an `after_request` function for the route."""

    def __init__(self, app: Any) -> None:
        from flask import request

        def answered(response: Any) -> Any:
            request.environ["mincap.route"] = request.url_rule
            return response

        app.after_request(answered)
        self._wsgi_app = app.wsgi_app

    def __call__(self, environ: Any, start_response: Any) -> Any:
        started = perf_counter()
        code = ""

        def start(status: str, *args: Any) -> Any:
            nonlocal code
            code = status
            return start_response(status, *args)

        body = self._wsgi_app(environ, start)
        captured.append(
            (
                time(),
                environ["REQUEST_METHOD"],
                environ["mincap.route"].rule,
                environ["PATH_INFO"],
                int(code[:3]),
                perf_counter() - started,
            )
        )
        return body


def noop_django(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        return get_response(request)

    return middleware


def mincap_django(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        started = perf_counter()
        response = get_response(request)
        _capture_django(request, response, started)
        return response

    return middleware


def noop_django_async(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        return await get_response(request)

    return _marked(middleware)


def mincap_django_async(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        started = perf_counter()
        response = await get_response(request)
        _capture_django(request, response, started)
        return response

    return _marked(middleware)


for _middleware in (noop_django_async, mincap_django_async):
    _middleware.sync_capable, _middleware.async_capable = False, True  # type: ignore[attr-defined]


def _capture_django(request: Any, response: Any, started: float) -> None:
    route = request.resolver_match.route
    captured.append(
        (time(), request.method, route, request.path, response.status_code, perf_counter() - started)
    )


def _marked(middleware: Any) -> Any:
    from asgiref.sync import markcoroutinefunction

    return markcoroutinefunction(middleware)
