"""The application of `conformance.py` in Django, under WSGI and under ASGI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Iterator, Optional

import django
from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import include, path
from django.utils.decorators import sync_and_async_middleware
from django.views.decorators.http import require_safe

from .conformance import CHUNKS, HEAD, ROUTE_OF_405, Call, Framework, Handled, Unprintable
from .frameworks import asgi_caller
from .wsgi_server import wsgi_caller

if TYPE_CHECKING:
    from beaconhq import BeaconClient

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


async def _async_chunks() -> AsyncIterator[bytes]:
    for chunk in CHUNKS:
        yield chunk


def _broken_chunks() -> Iterator[bytes]:
    yield CHUNKS[0]
    raise RuntimeError("half-way")


async def _async_broken_chunks() -> AsyncIterator[bytes]:
    yield CHUNKS[0]
    raise RuntimeError("half-way")


def _is_async(request: HttpRequest) -> bool:
    return hasattr(request, "scope")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(_async_chunks() if _is_async(request) else _chunks())


def broken_stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(_async_broken_chunks() if _is_async(request) else _broken_chunks())


def _raising(exc: Exception) -> Callable[[HttpRequest], Any]:
    def view(request: HttpRequest) -> Any:
        raise exc

    return view


@require_safe  # type: ignore[untyped-decorator, unused-ignore]
def item(request: HttpRequest, item_id: str) -> HttpResponse:
    return HttpResponse(item_id)


async def order(request: HttpRequest, order_id: str) -> HttpResponse:
    return HttpResponse(order_id)


urlpatterns = [
    path("", lambda request: HttpResponse("home")),
    path("items/<item_id>", item),
    path("items", lambda request: HttpResponse("created", status=201)),
    path("v1/", include([path("orders/<order_id>", order)])),
    path("boom", _raising(RuntimeError("boom"))),
    path("unprintable", _raising(Unprintable())),
    path("huge", _raising(RuntimeError("x" * 20_000))),
    path("handled", _raising(Handled())),
    path("refused", _raising(PermissionDenied())),
    path("unavailable", lambda request: HttpResponse("later", status=503)),
    path("empty", lambda request: HttpResponse(status=204)),
    path("stream", stream),
    path("broken-stream", broken_stream),
]


def _short(request: HttpRequest) -> Optional[HttpResponse]:
    return HttpResponse("short", status=418) if request.path == "/short" else None


@sync_and_async_middleware  # type: ignore[untyped-decorator, unused-ignore]
def inner_middleware(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Answers `/short` by itself, and turns `Handled` into a 409."""

    def process_exception(request: HttpRequest, exc: Exception) -> Optional[HttpResponse]:
        return HttpResponse("handled", status=409) if isinstance(exc, Handled) else None

    if iscoroutinefunction(get_response):

        async def awaiting(request: HttpRequest) -> HttpResponse:
            return _short(request) or await get_response(request)

        awaiting.process_exception = process_exception  # type: ignore[attr-defined]
        return awaiting

    def calling(request: HttpRequest) -> HttpResponse:
        return _short(request) or get_response(request)

    calling.process_exception = process_exception  # type: ignore[attr-defined]
    return calling


def django_settings(client: Optional[BeaconClient], **options: Any) -> Any:
    """Return the settings under which a handler is made: with our middleware, or without."""
    inner = f"{__name__}.inner_middleware"
    ours = {f"BEACON_{name.upper()}": value for name, value in options.items()}
    return override_settings(
        MIDDLEWARE=[inner] if client is None else [OURS, inner], BEACON_CLIENT=client, **ours
    )


def _build_wsgi(client: Optional[BeaconClient] = None, **options: Any) -> Call:
    with django_settings(client, **options):
        return wsgi_caller(WSGIHandler())


def _build_asgi(client: Optional[BeaconClient] = None, **options: Any) -> Call:
    with django_settings(client, **options):
        return asgi_caller(ASGIHandler())


_FEATURES = frozenset([ROUTE_OF_405, HEAD])

FRAMEWORKS = [
    Framework("django-wsgi", _build_wsgi, parameter=r"<\1>", features=_FEATURES),
    Framework("django-asgi", _build_asgi, parameter=r"<\1>", features=_FEATURES),
]
