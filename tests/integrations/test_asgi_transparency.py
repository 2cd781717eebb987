"""
Nobody can tell that the middleware is there: not the server, not the application.

Every message is compared, in order, between two runs of the same application.
"""

from __future__ import annotations

import contextvars
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, AsyncIterator, List

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient

from beaconhq.integrations.asgi import BeaconASGIMiddleware

from .asgi_server import REQUEST, Message, Receive, Send, http_scope, serve
from .conftest import Probe, tolerate_old_starlette

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.websockets import WebSocket

trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="none")


async def _chunks() -> AsyncIterator[bytes]:
    for chunk in (b"one", b"", b"three" * 500):
        yield chunk


def _application(file_to_send: Path) -> Starlette:
    async def text(request: Request) -> Response:
        response = PlainTextResponse("text", 203)
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    async def echo(request: Request) -> Response:
        return JSONResponse({"body": (await request.body()).decode(), "query": str(request.query_params)})

    async def stream(request: Request) -> Response:
        return StreamingResponse(_chunks(), headers={"x-twice": "é"})

    async def file(request: Request) -> Response:
        return FileResponse(file_to_send)

    async def boom(request: Request) -> Response:
        raise RuntimeError("boom")

    async def raw(scope: Any, receive: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"X-Odd", b"\xff")], "extra": 1}
        )
        await send({"type": "http.response.body"})

    app = Starlette(
        routes=[
            Route("/text", text),
            Route("/echo", echo, methods=["POST"]),
            Route("/stream", stream),
            Route("/file", file),
            Route("/boom", boom),
            Mount("/raw", app=raw),
            Mount("/sub", app=FastAPI(routes=[Route("/text", text)])),
        ]
    )
    app.add_middleware(GZipMiddleware, minimum_size=200)
    return app


@pytest.mark.parametrize("wrap", [True, False], ids=["wrapped", "added"])
@pytest.mark.parametrize(
    "path", ["/text", "/echo", "/stream", "/file", "/boom", "/raw/", "/sub/text", "/text/", "/nothing"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_every_message_is_the_same(
    probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, path: str, wrap: bool
) -> None:
    monkeypatch.setattr("gzip.time", SimpleNamespace(time=lambda: 0))  # its header holds the second
    scope = http_scope(
        method, path, query_string=b"a=1", headers=[(b"host", b"testserver"), (b"accept-encoding", b"gzip")]
    )
    received = [{**REQUEST, "body": b"hello ", "more_body": True}, {**REQUEST, "body": b"world"}]
    file_to_send = tmp_path / "file.txt"
    file_to_send.write_text("contents " * 100)
    bare = await serve(_application(file_to_send), dict(scope), received=received)
    probe.wrap = wrap
    observed = await serve(probe.install(_application(file_to_send)), dict(scope), received=received)
    assert observed.messages == bare.messages
    assert repr(observed.exception) == repr(bare.exception)
    assert len(await probe.events()) == 1


async def test_messages_are_passed_on_as_the_same_objects(probe: Probe) -> None:
    incoming: List[Message] = [dict(REQUEST), {"type": "http.disconnect"}]
    seen: List[Message] = []
    outgoing: List[Message] = [
        {"type": "http.response.start", "status": 200, "headers": []},
        {"type": "http.response.body", "body": b""},
    ]
    sent: List[Message] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        for message in outgoing:
            await send(message)
        seen.extend([await receive() for _ in incoming])

    async def keep(message: Message) -> None:
        sent.append(message)

    await serve(BeaconASGIMiddleware(app, probe.client), "/", received=incoming, on_send=keep)
    assert [id(message) for message in seen] == [id(message) for message in incoming]
    assert [id(message) for message in sent] == [id(message) for message in outgoing]
    assert incoming[0] == REQUEST


async def test_the_exception_is_the_same_object_with_its_context(probe: Probe) -> None:
    cause = KeyError("cause")
    error = RuntimeError("boom")

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        try:
            raise cause
        except KeyError:
            raise error from None

    answer = await probe.serve(app)
    assert answer.exception is error
    assert (error.__cause__, error.__context__, error.__suppress_context__) == (None, cause, True)


async def test_context_variables_that_the_application_sets_reach_the_server(probe: Probe) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        assert trace.get() == "server"
        trace.set("application")
        await PlainTextResponse("ok")(scope, receive, send)

    trace.set("server")
    await BeaconASGIMiddleware(app, probe.client)(http_scope(), _never, _ignore)
    assert trace.get() == "application"


async def test_context_variables_of_the_server_reach_the_endpoint(probe: Probe) -> None:
    async def endpoint(request: Request) -> Response:
        return PlainTextResponse(trace.get())

    trace.set("server")
    answer = await serve(probe.install(Starlette(routes=[Route("/", endpoint)])), "/")
    assert answer.body == b"server"


async def test_the_scope_is_the_servers_own(probe: Probe) -> None:
    scopes: List[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await PlainTextResponse("ok")(scope, receive, send)

    scope = http_scope()
    before = dict(scope)
    await serve(BeaconASGIMiddleware(app, probe.client), scope)
    assert scopes[0] is scope
    assert {name: value for name, value in scope.items() if name in before} == before


@pytest.mark.parametrize("kind", ["websocket", "a.protocol.to.come"])
async def test_what_is_not_http_passes_through_untouched(probe: Probe, kind: str) -> None:
    calls: List[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        calls.append((scope, receive, send))

    scope = {"type": kind, "path": "/", "headers": []}
    await BeaconASGIMiddleware(app, probe.client)(scope, _never, _ignore)
    assert calls[0][0] is scope
    assert calls[0][1:] == (_never, _ignore)
    assert scope == {"type": kind, "path": "/", "headers": []}
    assert await probe.events() == []


@tolerate_old_starlette
def test_a_websocket_works_and_is_no_request(probe: Probe) -> None:
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("echo " + await websocket.receive_text())
        await websocket.close()

    app = probe.install(Starlette(routes=[WebSocketRoute("/ws", echo)]))
    with TestClient(app).websocket_connect("/ws") as websocket:
        websocket.send_text("hello")
        assert websocket.receive_text() == "echo hello"
    assert probe.client.stats()["captured"] == 0


async def _never() -> Message:
    raise AssertionError("nothing to receive")


async def _ignore(message: Message) -> None:
    pass
