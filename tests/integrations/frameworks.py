"""The application of `conformance.py` in each framework."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Optional

import anyio
import httpx
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request as StarletteRequest  # noqa: TC002 - FastAPI reads annotations
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from beaconhq.integrations.asgi import BeaconASGIMiddleware

from .asgi_server import DISCONNECT, REQUEST, Message, http_scope, serve
from .conformance import (
    CHUNKS,
    MANY,
    PAUSE,
    Answer,
    Call,
    Framework,
    Handled,
    Request,
    Unprintable,
    name_in,
)

if TYPE_CHECKING:
    from beaconhq import BeaconClient

    from .asgi_server import ASGIApp, Receive, Send

HERE = Path(__file__).parent
#: Installs the adapter on a mounted application, or does not.
Install = Callable[[Any], Any]


class _Middleware:
    """Answers `/short` by itself and names consumers, between the adapter and the router."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        name_in("middleware", path)
        name_in("nested-middleware", path)
        answers = {
            "/short": PlainTextResponse("short", 418),
            "/named/nested-middleware": PlainTextResponse("named"),
        }
        await answers.get(path, self.app)(scope, receive, send)


async def _chunks() -> AsyncIterator[bytes]:
    for chunk in CHUNKS:
        yield chunk


async def _slow_chunks() -> AsyncIterator[bytes]:
    for chunk in CHUNKS:
        await asyncio.sleep(PAUSE)
        yield chunk


async def _many_chunks() -> AsyncIterator[bytes]:
    for _ in range(MANY):
        await asyncio.sleep(0)
        yield b"x"


async def _naming_chunks() -> AsyncIterator[bytes]:
    name_in("stream", "/named/stream")
    yield b"named"


async def _broken_chunks() -> AsyncIterator[bytes]:
    yield CHUNKS[0]
    raise RuntimeError("half-way")


async def _handle(request: StarletteRequest, exc: Exception) -> Response:
    return PlainTextResponse("handled", 409)


# -- Starlette --------------------------------------------------------------------------


async def _home(request: StarletteRequest) -> Response:
    return PlainTextResponse("home")


async def _item(request: StarletteRequest) -> Response:
    return PlainTextResponse(request.path_params["item_id"])


async def _order(request: StarletteRequest) -> Response:
    return PlainTextResponse(request.path_params["order_id"])


async def _create(request: StarletteRequest) -> Response:
    return PlainTextResponse("created", 201)


async def _boom(request: StarletteRequest) -> Response:
    raise RuntimeError("boom")


async def _unprintable(request: StarletteRequest) -> Response:
    raise Unprintable


async def _huge(request: StarletteRequest) -> Response:
    raise RuntimeError("x" * 20_000)


async def _handled(request: StarletteRequest) -> Response:
    raise Handled


async def _refused(request: StarletteRequest) -> Response:
    raise StarletteHTTPException(403)


async def _unavailable(request: StarletteRequest) -> Response:
    return PlainTextResponse("later", 503)


async def _empty(request: StarletteRequest) -> Response:
    return Response(status_code=204)


async def _unchanged(request: StarletteRequest) -> Response:
    return Response(status_code=304)


def _stream(make_chunks: Callable[[], AsyncIterator[bytes]]) -> Callable[[StarletteRequest], Any]:
    async def stream(request: StarletteRequest) -> Response:
        return StreamingResponse(make_chunks())

    return stream


async def _wait(request: StarletteRequest) -> Response:
    request.scope["tests.gone"].set()
    while not await request.is_disconnected():
        await asyncio.sleep(0)
    return PlainTextResponse("nobody reads this")


def _named(request: StarletteRequest) -> Response:
    name_in("view", request.url.path)
    return PlainTextResponse("named")


async def _named_async(request: StarletteRequest) -> Response:
    name_in("async-view", request.url.path)
    return PlainTextResponse("named")


async def _named_hook(request: StarletteRequest) -> None:
    name_in("hook", request.url.path)


async def _behind_a_hook(request: StarletteRequest) -> Response:
    await _named_hook(request)
    return PlainTextResponse("named")


#: What is the same in Starlette and FastAPI.
_ENDPOINTS = {
    "/unprintable": _unprintable,
    "/huge": _huge,
    "/handled": _handled,
    "/unavailable": _unavailable,
    "/empty": _empty,
    "/unchanged": _unchanged,
    "/slash/": _home,
    "/stream": _stream(_chunks),
    "/slow-stream": _stream(_slow_chunks),
    "/long-stream": _stream(_many_chunks),
    "/broken-stream": _stream(_broken_chunks),
    "/wait": _wait,
    "/named/view": _named,
    "/named/async-view": _named_async,
    "/named/middleware": _home,
    "/named/stream": _stream(_naming_chunks),
}


def _starlette(install: Install) -> Starlette:
    shop = Starlette(routes=[Route("/items/{item_id}", _item), Route("/boom", _boom)])
    orders = Route("/orders/{order_id}", _order)
    return Starlette(
        routes=[
            Route("/", _home),
            Route("/items/{item_id}", _item),
            Route("/items", _create, methods=["POST"]),
            Mount("/v1", routes=[orders, Mount("/teams/{team_id}", routes=[orders])]),
            Route("/boom", _boom),
            Route("/refused", _refused),
            Route("/länder/{name}", _home),
            Route("/named/hook", _behind_a_hook),
            *(Route(path, endpoint) for path, endpoint in _ENDPOINTS.items()),
            Mount("/shop", install(shop)),
            Mount("/static", StaticFiles(directory=HERE)),
        ],
        exception_handlers={Handled: _handle},
    )


# -- FastAPI: plain and async functions, values and responses ---------------------------


async def _fastapi_item(item_id: str) -> Any:
    return {"item_id": item_id}


def _fastapi_order(order_id: int) -> Any:
    return {"order_id": order_id}


def _fastapi_create() -> Any:
    return {"created": True}


def _fastapi_boom() -> Any:
    raise RuntimeError("boom")


async def _fastapi_refused() -> Any:
    raise HTTPException(403)


def _fastapi(install: Install) -> FastAPI:
    app = FastAPI(exception_handlers={Handled: _handle})
    router, teams, shop = APIRouter(), APIRouter(), FastAPI()
    teams.get("/orders/{order_id}")(_fastapi_order)
    router.get("/orders/{order_id}")(_fastapi_order)
    router.include_router(teams, prefix="/teams/{team_id}")
    app.include_router(router, prefix="/v1")
    app.get("/", response_class=PlainTextResponse)(lambda: "home")
    app.api_route("/items/{item_id}", methods=["GET", "HEAD"])(_fastapi_item)
    app.post("/items", status_code=201)(_fastapi_create)
    app.get("/boom")(_fastapi_boom)
    app.get("/refused")(_fastapi_refused)
    app.get("/länder/{name}")(lambda name: name)
    app.get("/named/hook", dependencies=[Depends(_named_hook)])(lambda: "named")
    for path, endpoint in _ENDPOINTS.items():
        app.add_api_route(path, endpoint, response_model=None)
    shop.get("/items/{item_id}")(_fastapi_item)
    shop.get("/boom")(_fastapi_boom)
    app.mount("/shop", install(shop))
    app.mount("/static", StaticFiles(directory=HERE))
    return app


# -- ASGI -------------------------------------------------------------------------------


def _added(make_app: Callable[[Install], Any]) -> Callable[..., Call]:
    def build(client: Optional[BeaconClient] = None, **options: Any) -> Call:
        def install(app: Any) -> Any:
            if client is not None:
                app.add_middleware(BeaconASGIMiddleware, client=client, **options)
            return app

        app = make_app(install)
        app.add_middleware(_Middleware)
        return asgi_caller(install(app))

    return build


def _wrapped(make_app: Callable[[Install], Any]) -> Callable[..., Call]:
    def build(client: Optional[BeaconClient] = None, **options: Any) -> Call:
        def install(app: ASGIApp) -> ASGIApp:
            return app if client is None else BeaconASGIMiddleware(app, client, **options)

        return asgi_caller(install(_Middleware(make_app(install))))

    return build


def asgi_caller(app: ASGIApp) -> Call:
    async def call(request: Request) -> Answer:
        escaped = []

        async def watched(scope: Any, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            except Exception as exc:
                escaped.append(exc)
                raise

        headers = [(name.encode(), value) for name, value in request.headers]
        if request.leaves:
            return await _leave(app, request)
        transport = httpx.ASGITransport(watched, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            response = await client.request(request.method, request.path, headers=headers)
        return Answer(
            response.status_code,
            response.headers.multi_items(),
            response.content,
            escaped[0] if escaped else None,
        )

    return call


async def _leave(app: ASGIApp, request: Request) -> Answer:
    """Leave as under uvicorn: the server says so when it is asked, and `send` is silent."""
    gone = anyio.Event()

    async def on_send(message: Message) -> None:
        if message["type"] == "http.response.body":
            gone.set()

    # `/wait` sets it; sooner, the framework may not have found the view yet.
    scope = http_scope(request.method, request.path, **{"tests.gone": gone})
    answer = await serve(app, scope, received=[REQUEST, gone, DISCONNECT], on_send=on_send)
    # How much was sent until then is a matter of luck.
    return Answer(answer.status, [], b"", answer.exception)


ASGI_FRAMEWORKS = [
    Framework("starlette-added", _added(_starlette)),
    Framework("starlette-wrapped", _wrapped(_starlette)),
    Framework("fastapi-added", _added(_fastapi)),
    Framework("fastapi-wrapped", _wrapped(_fastapi)),
]
