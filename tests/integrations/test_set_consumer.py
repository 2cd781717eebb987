"""`set_consumer`: from anywhere in a request, and nowhere else."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, Callable

import pytest
from django.test import RequestFactory, override_settings
from fastapi import Depends, FastAPI
from starlette.middleware.base import BaseHTTPMiddleware

from beaconhq import set_consumer
from beaconhq.integrations.asgi import BeaconASGIMiddleware
from beaconhq.integrations.django import BeaconDjangoMiddleware

from . import django_app  # noqa: F401 - configures Django
from .asgi_server import ASGIApp, Receive, Send, http_scope, serve
from .conftest import tolerate_old_starlette

if TYPE_CHECKING:
    from beaconhq import BeaconClient

    from .conftest import Probe


def _view(app: FastAPI) -> None:
    @app.get("/")
    async def view() -> None:
        set_consumer("acme")


def _threadpool_view(app: FastAPI) -> None:
    @app.get("/")
    def view() -> None:
        set_consumer("acme")


def _dependency(app: FastAPI) -> None:
    async def who() -> None:
        set_consumer("acme")

    @app.get("/", dependencies=[Depends(who)])
    async def view() -> None: ...


def _threadpool_dependency(app: FastAPI) -> None:
    def who() -> None:
        set_consumer("acme")

    @app.get("/", dependencies=[Depends(who)])
    async def view() -> None: ...


def _task(app: FastAPI) -> None:
    async def who() -> None:
        set_consumer("acme")

    @app.get("/")
    async def view() -> None:
        await asyncio.create_task(who())


class _Middleware:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        set_consumer("acme")
        await self.app(scope, receive, send)


def _middleware(app: FastAPI) -> None:
    app.add_middleware(_Middleware)

    @app.get("/")
    async def view() -> None: ...


@pytest.mark.parametrize(
    "name", [_view, _threadpool_view, _dependency, _threadpool_dependency, _task, _middleware]
)
async def test_the_consumer_is_named_from_anywhere_in_a_request(
    probe: Probe, name: Callable[[FastAPI], None]
) -> None:
    app = FastAPI()
    name(app)
    await probe.serve(app, consumer_header="x-key", consumer_resolver=lambda _: "resolver")
    assert (await probe.event())["consumer"] == "acme"


async def test_the_last_name_wins_and_none_takes_it_back(probe: Probe) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        for name in scope["path"].split("/")[1:]:
            set_consumer(int(name) if name.isdigit() else name or None)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    for path in ("/one/two", "/one/", "/7"):
        await serve(BeaconASGIMiddleware(app, probe.client), path)
    assert [event["consumer"] for event in await probe.events()] == ["two", None, "7"]


async def test_two_clients_learn_the_same_name(
    probe: Probe, make_client: Callable[..., BeaconClient]
) -> None:
    other = make_client(dry_run=True)
    app = FastAPI()
    _view(app)
    await probe.serve(BeaconASGIMiddleware(app, other))
    await other.flush()
    assert (await probe.event())["consumer"] == "acme"
    assert other.transport.sent_events[0]["consumer"] == "acme"  # type: ignore[attr-defined]


async def test_the_caller_s_context_is_as_it_was(probe: Probe) -> None:
    app = FastAPI()
    _view(app)
    before = dict(contextvars.copy_context())
    await probe.serve(app)
    assert dict(contextvars.copy_context()) == before


@pytest.mark.parametrize("kind", ["asgi", "django"])
async def test_a_request_that_is_closed_from_another_context_ends_quietly(probe: Probe, kind: str) -> None:
    """As the garbage collector closes it, or a loop that is taken apart."""

    async def wait(*_: Any) -> Any:
        await asyncio.sleep(60)

    if kind == "asgi":
        coroutine = BeaconASGIMiddleware(wait, probe.client)(http_scope(), wait, wait)
    else:
        with override_settings(BEACON_CLIENT=probe.client):
            coroutine = BeaconDjangoMiddleware(wait)(RequestFactory().get("/"))
    contextvars.copy_context().run(coroutine.send, None)
    coroutine.close()
    assert (await probe.event())["status"] == 499


@tolerate_old_starlette
async def test_base_http_middleware_does_not_stand_between(probe: Probe) -> None:
    async def dispatch(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    app = FastAPI()
    _threadpool_view(app)
    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    await probe.serve(app)
    assert (await probe.event())["consumer"] == "acme"


def test_outside_of_a_request_it_does_nothing() -> None:
    set_consumer("nobody")
