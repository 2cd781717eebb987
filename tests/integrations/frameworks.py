"""The application of `conformance.py` in each framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Optional

import httpx
from fastapi import APIRouter, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request as StarletteRequest  # noqa: TC002 - FastAPI reads annotations
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from beaconhq.integrations.asgi import BeaconASGIMiddleware

from .conformance import CHUNKS, HEAD, ROUTE_OF_405, Answer, Call, Framework, Handled, Request, Unprintable

if TYPE_CHECKING:
    from beaconhq import BeaconClient

    from .asgi_server import ASGIApp, Receive, Send


class _EarlyAnswer:
    """Answers `/short` by itself, between the adapter and the router."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        short = scope["type"] == "http" and scope["path"] == "/short"
        await (PlainTextResponse("short", 418) if short else self.app)(scope, receive, send)


async def _chunks() -> AsyncIterator[bytes]:
    for chunk in CHUNKS:
        yield chunk


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


async def _stream(request: StarletteRequest) -> Response:
    return StreamingResponse(_chunks())


async def _broken_stream(request: StarletteRequest) -> Response:
    return StreamingResponse(_broken_chunks())


def _starlette() -> Starlette:
    return Starlette(
        routes=[
            Route("/", _home),
            Route("/items/{item_id}", _item),
            Route("/items", _create, methods=["POST"]),
            Mount("/v1", routes=[Route("/orders/{order_id}", _order)]),
            Route("/boom", _boom),
            Route("/unprintable", _unprintable),
            Route("/huge", _huge),
            Route("/handled", _handled),
            Route("/refused", _refused),
            Route("/unavailable", _unavailable),
            Route("/empty", _empty),
            Route("/stream", _stream),
            Route("/broken-stream", _broken_stream),
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


def _fastapi() -> FastAPI:
    app = FastAPI(exception_handlers={Handled: _handle})
    router = APIRouter()
    router.get("/orders/{order_id}")(_fastapi_order)
    app.include_router(router, prefix="/v1")
    app.get("/", response_class=PlainTextResponse)(lambda: "home")
    app.api_route("/items/{item_id}", methods=["GET", "HEAD"])(_fastapi_item)
    app.post("/items", status_code=201)(_fastapi_create)
    app.get("/boom")(_fastapi_boom)
    app.get("/refused")(_fastapi_refused)
    for path, endpoint in (
        ("/unprintable", _unprintable),
        ("/huge", _huge),
        ("/handled", _handled),
        ("/unavailable", _unavailable),
        ("/empty", _empty),
        ("/stream", _stream),
        ("/broken-stream", _broken_stream),
    ):
        app.add_api_route(path, endpoint)
    return app


# -- ASGI -------------------------------------------------------------------------------


def _added(make_app: Callable[[], Any]) -> Callable[..., Call]:
    def build(client: Optional[BeaconClient] = None, **options: Any) -> Call:
        app = make_app()
        app.add_middleware(_EarlyAnswer)
        if client is not None:
            app.add_middleware(BeaconASGIMiddleware, client=client, **options)
        return asgi_caller(app)

    return build


def _wrapped(make_app: Callable[[], Any]) -> Callable[..., Call]:
    def build(client: Optional[BeaconClient] = None, **options: Any) -> Call:
        app: ASGIApp = _EarlyAnswer(make_app())
        return asgi_caller(app if client is None else BeaconASGIMiddleware(app, client, **options))

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


_FEATURES = frozenset([ROUTE_OF_405, HEAD])

ASGI_FRAMEWORKS = [
    Framework("starlette-added", _added(_starlette), features=_FEATURES),
    Framework("starlette-wrapped", _wrapped(_starlette), features=_FEATURES),
    Framework("fastapi-added", _added(_fastapi), features=_FEATURES),
    Framework("fastapi-wrapped", _wrapped(_fastapi), features=_FEATURES),
]
