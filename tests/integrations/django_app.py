"""The application of `conformance.py` in Django, under WSGI and under ASGI."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Iterator, Optional

import django
from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import include, path, re_path
from django.utils.decorators import sync_and_async_middleware
from django.views.decorators.http import require_safe
from django.views.static import serve

from .conformance import CHUNKS, MANY, PAUSE, Call, Framework, Handled, Unprintable, name_in
from .frameworks import asgi_caller
from .wsgi_server import wsgi_caller

if TYPE_CHECKING:
    from beaconhq import BeaconClient

HERE = Path(__file__).parent
OURS = "beaconhq.integrations.django.BeaconDjangoMiddleware"

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEFAULT_CHARSET="utf-8",
    LOGGING_CONFIG=None,
    ROOT_URLCONF=__name__,
    SECRET_KEY="for-tests",
    USE_TZ=True,
)
django.setup()


def _chunks() -> Iterator[bytes]:
    yield from CHUNKS


def _slow_chunks() -> Iterator[bytes]:
    for chunk in CHUNKS:
        time.sleep(PAUSE)
        yield chunk


def _many_chunks() -> Iterator[bytes]:
    for _ in range(MANY):
        yield b"x"


def _naming_chunks() -> Iterator[bytes]:
    name_in("stream", "/named/stream")
    yield b"named"


def _broken_chunks() -> Iterator[bytes]:
    yield CHUNKS[0]
    raise RuntimeError("half-way")


async def _async_slow_chunks() -> AsyncIterator[bytes]:
    for chunk in CHUNKS:
        await asyncio.sleep(PAUSE)
        yield chunk


def _streaming(make_chunks: Callable[[], Iterator[bytes]]) -> Callable[[HttpRequest], Any]:
    """Make a view that streams as its server does: with an iterator, or with an asynchronous one."""

    async def asynchronous() -> AsyncIterator[bytes]:
        if make_chunks is _slow_chunks:
            async for chunk in _async_slow_chunks():
                yield chunk
            return
        for chunk in make_chunks():
            await asyncio.sleep(0)
            yield chunk

    def view(request: HttpRequest) -> StreamingHttpResponse:
        is_async = hasattr(request, "scope")
        return StreamingHttpResponse(asynchronous() if is_async else make_chunks())

    return view


def _raising(exc: Exception) -> Callable[[HttpRequest], Any]:
    def view(request: HttpRequest) -> Any:
        raise exc

    return view


@require_safe  # type: ignore[untyped-decorator, unused-ignore]
def item(request: HttpRequest, item_id: str) -> HttpResponse:
    return HttpResponse(item_id)


async def order(request: HttpRequest, order_id: str, team_id: str = "") -> HttpResponse:
    return HttpResponse(order_id)


async def wait(request: HttpRequest) -> HttpResponse:
    if hasattr(request, "scope"):
        request.scope["tests.gone"].set()
        await asyncio.sleep(10 if django.VERSION >= (5, 0) else 0)
    return HttpResponse("nobody reads this")


def named(request: HttpRequest) -> HttpResponse:
    name_in("view", request.path)
    return HttpResponse("named")


async def named_async(request: HttpRequest) -> HttpResponse:
    name_in("async-view", request.path)
    return HttpResponse("named")


orders = path("orders/<order_id>", order)

urlpatterns = [
    path("", lambda request: HttpResponse("home")),
    path("items/<item_id>", item),
    path("items", lambda request: HttpResponse("created", status=201)),
    path("v1/", include([orders, path("teams/<team_id>/", include([orders]))])),
    path("shop/", include([path("items/<item_id>", item), path("boom", _raising(RuntimeError("boom")))])),
    re_path(r"^static/(?P<path>.*)$", serve, {"document_root": HERE}),
    path("slash/", lambda request: HttpResponse("slash")),
    path("länder/<name>", lambda request, name: HttpResponse(name)),
    path("wait", wait),
    path("named/view", named),
    path("named/async-view", named_async),
    path("named/hook", named),
    path("named/middleware", named),
    path("named/stream", _streaming(_naming_chunks)),
    path("boom", _raising(RuntimeError("boom"))),
    path("unprintable", _raising(Unprintable())),
    path("huge", _raising(RuntimeError("x" * 20_000))),
    path("handled", _raising(Handled())),
    path("refused", _raising(PermissionDenied())),
    path("unavailable", lambda request: HttpResponse("later", status=503)),
    path("empty", lambda request: HttpResponse(status=204)),
    path("unchanged", lambda request: HttpResponse(status=304)),
    path("stream", _streaming(_chunks)),
    path("slow-stream", _streaming(_slow_chunks)),
    path("long-stream", _streaming(_many_chunks)),
    path("broken-stream", _streaming(_broken_chunks)),
]


def _answer(request: HttpRequest) -> Optional[HttpResponse]:
    name_in("middleware", request.path)
    name_in("nested-middleware", request.path)
    if request.path == "/named/nested-middleware":
        return HttpResponse("named")
    return HttpResponse("short", status=418) if request.path == "/short" else None


def _process_view(request: HttpRequest, *_: Any) -> None:
    name_in("hook", request.path)


def _process_exception(request: HttpRequest, exc: Exception) -> Optional[HttpResponse]:
    return HttpResponse("handled", status=409) if isinstance(exc, Handled) else None


@sync_and_async_middleware  # type: ignore[untyped-decorator, unused-ignore]
def inner_middleware(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Answers `/short` by itself, names consumers, and turns `Handled` into a 409."""

    async def awaiting(request: HttpRequest) -> HttpResponse:
        return _answer(request) or await get_response(request)

    def calling(request: HttpRequest) -> HttpResponse:
        return _answer(request) or get_response(request)

    middleware: Any = awaiting if iscoroutinefunction(get_response) else calling
    middleware.process_exception = _process_exception
    middleware.process_view = _process_view
    chosen: Callable[[HttpRequest], Any] = middleware
    return chosen


def django_settings(client: Optional[BeaconClient], **options: Any) -> Any:
    """Return the settings under which a handler is made: with our middleware, or without."""
    inner = ["django.middleware.common.CommonMiddleware", f"{__name__}.inner_middleware"]
    ours = {f"BEACON_{name.upper()}": value for name, value in options.items()}
    return override_settings(
        MIDDLEWARE=inner if client is None else [OURS, *inner], BEACON_CLIENT=client, **ours
    )


def _build_wsgi(client: Optional[BeaconClient] = None, **options: Any) -> Call:
    with django_settings(client, **options):
        return wsgi_caller(WSGIHandler())


def _build_asgi(client: Optional[BeaconClient] = None, **options: Any) -> Call:
    with django_settings(client, **options):
        return asgi_caller(ASGIHandler())


FRAMEWORKS = [
    Framework("django-wsgi", _build_wsgi, parameter=r"<\1>"),
    Framework("django-asgi", _build_asgi, parameter=r"<\1>"),
]
