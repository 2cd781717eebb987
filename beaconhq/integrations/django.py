"""
Django.

    # settings.py
    BEACON_CLIENT = BeaconClient(ingest_key="...")
    MIDDLEWARE = ["beaconhq.integrations.django.BeaconDjangoMiddleware", ...]

One middleware for both of Django's worlds: under WSGI it is an ordinary one, under ASGI
it awaits, without a thread hop. The signal `got_request_exception` tells it of exactly
those exceptions that Django turns into a 500, wherever they were raised.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Iterator, List, Optional, Sequence, Tuple

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.apps import AppConfig
from django.conf import settings
from django.contrib.admindocs.utils import (
    remove_non_capturing_groups,
    replace_metacharacters,
    replace_named_groups,
    replace_unnamed_groups,
)
from django.core.checks import CheckMessage, Warning, register  # noqa: A004 - Django's name
from django.core.exceptions import MiddlewareNotUsed
from django.core.signals import got_request_exception
from django.utils.module_loading import import_string

from ..consumer import current_caller, leave
from ..wire import UNMATCHED
from ._record import CLIENT_CLOSED_REQUEST, EXCHANGES, Exchange, Recorder, is_failure

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponseBase

    from ..client import BeaconClient

#: Where a request names its exchanges, one per client. No key in `META`, which is the
#: environment under WSGI: Django's debug page shows it.
REQUEST_KEY = "_beaconhq_exchanges"


class BeaconDjangoMiddleware:
    """
    Captures one event per request.

    Settings: `BEACON_CLIENT` (a `BeaconClient`; without it the middleware is not used),
    `BEACON_CONSUMER_HEADER` (the request header that holds the consumer) and
    `BEACON_CONSUMER_RESOLVER` (gets the `HttpRequest` after the view and returns the
    consumer or None; a function or the dotted path of one). Raises `ValueError`, naming
    the option, for what cannot be right.

    Source: docs/django.md.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        client: Optional[BeaconClient] = getattr(settings, "BEACON_CLIENT", None)
        if client is None:
            raise MiddlewareNotUsed("BEACON_CLIENT is not set: Beacon captures nothing")
        header: Optional[str] = getattr(settings, "BEACON_CONSUMER_HEADER", None)
        resolver = getattr(settings, "BEACON_CONSUMER_RESOLVER", None)
        if isinstance(resolver, str):
            resolver = import_string(resolver)
        key = _meta_key(header or "")

        def read_header(request: HttpRequest) -> Optional[str]:
            value: Optional[str] = request.META.get(key)
            return value

        self._recorder = Recorder(client, header, resolver, read_header, _read_route)
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Serve one request; under ASGI this returns the coroutine that does."""
        exchange = self._begin(request)
        if exchange is None:  # listed twice: the outer one reports
            return self._get_response(request)
        if self._is_async:
            return self._serve_async(request, exchange)
        token = current_caller.set(exchange.caller)
        try:
            return exchange.answered(self._get_response(request))
        except BaseException as exc:
            exchange.failed(exc)
            raise
        finally:
            leave(token)

    async def _serve_async(self, request: HttpRequest, exchange: _Exchange) -> HttpResponseBase:
        token = current_caller.set(exchange.caller)
        try:
            return exchange.answered(await self._get_response(request))
        except BaseException as exc:
            exchange.failed(exc)
            raise
        finally:
            leave(token)

    def _begin(self, request: HttpRequest) -> Optional[_Exchange]:
        within: Tuple[_Exchange, ...] = getattr(request, REQUEST_KEY, ())
        # Of what Django is mounted in: the scope under ASGI, the environment under WSGI.
        others: Sequence[Exchange] = within or getattr(request, "scope", request.META).get(EXCHANGES, ())
        if others and self._recorder.reports(others):
            return None
        exchange = _Exchange(self._recorder, others, request)
        setattr(request, REQUEST_KEY, (*within, exchange))
        return exchange


class _Exchange(Exchange):
    """What passes by the middleware, and what the signal tells."""

    __slots__ = ("_request", "exception")

    def __init__(self, recorder: Recorder, others: Sequence[Exchange], request: HttpRequest) -> None:
        super().__init__(recorder, others)
        self._request: Any = request
        #: What Django turned into a 500.
        self.exception: Optional[BaseException] = None

    def answered(self, response: HttpResponseBase) -> HttpResponseBase:
        """Record a complete response now, a streaming one at its end."""
        if getattr(response, "streaming", False):
            _watch(response, self)
        else:
            self.record(response.status_code)
        return response

    def failed(self, exc: BaseException) -> None:
        """Record what no handler turned into a response."""
        if is_failure(exc):
            self.exception = exc
            self.record(500)
        else:  # cancelled: Django does that when the client has left
            self.record(CLIENT_CLOSED_REQUEST)

    def record(self, status: int) -> None:
        """Record the request, once, as complete now."""
        if self.recorded:
            return
        self.recorded = True
        request, self._request = self._request, None  # which refers to this
        exception, self.exception = self.exception, None  # it holds frames, and they the request
        recorder, duration = self.recorder, perf_counter() - self.started_at
        consumer = recorder.consumer(request, self.caller)
        recorder.capture(
            request.method or "", request.path, recorder.route(request), status, exception, duration, consumer
        )


def _note_exception(request: Optional[HttpRequest] = None, **_: Any) -> None:
    for exchange in getattr(request, REQUEST_KEY, ()):
        exchange.exception = sys.exc_info()[1]


got_request_exception.connect(_note_exception, dispatch_uid="beaconhq")


def _meta_key(name: str) -> str:
    """Return the key of a header in `request.META` (the CGI names of PEP 3333)."""
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


# -- routes -----------------------------------------------------------------------------


def _read_route(request: HttpRequest) -> str:
    match = request.resolver_match
    return UNMATCHED if match is None else _readable(match.route)


@lru_cache(maxsize=4096)
def _readable(route: str) -> str:
    """Return a route with a leading slash; regular expressions as Django's own docs show them."""
    if "^" in route or "(?" in route or "\\" in route or route.endswith("$"):
        for simplify in (
            remove_non_capturing_groups,
            replace_named_groups,
            replace_unnamed_groups,
            replace_metacharacters,
        ):
            route = simplify(route)
        route = route.replace("\\", "")
    return "/" + route.lstrip("/")


# -- streaming responses ----------------------------------------------------------------


def _watch(response: Any, exchange: _Exchange) -> None:
    """Record when the stream ends, breaks off, or is closed unread."""
    if getattr(response, "file_to_stream", None) is None:
        # Else it is a file that the server may send by itself, as long as nobody wraps it.
        watched = _watched_async if response.is_async else _watched
        response.streaming_content = watched(response.streaming_content, response, exchange)
    close = response.close

    def close_and_record() -> None:
        try:
            close()
        finally:
            exchange.record(response.status_code)

    response.close = close_and_record


def _watched(chunks: Iterator[bytes], response: Any, exchange: _Exchange) -> Iterator[bytes]:
    try:
        while True:
            token = current_caller.set(exchange.caller)
            try:
                chunk = next(chunks)
            finally:
                leave(token)
            yield chunk
    except StopIteration:
        return
    except Exception as exc:
        exchange.exception = exc
        raise
    finally:
        exchange.record(response.status_code)


async def _watched_async(
    chunks: AsyncIterator[bytes], response: Any, exchange: _Exchange
) -> AsyncIterator[bytes]:
    try:
        while True:
            token = current_caller.set(exchange.caller)
            try:
                chunk = await chunks.__anext__()
            finally:
                leave(token)
            yield chunk
    except StopAsyncIteration:
        return
    except Exception as exc:
        exchange.exception = exc
        raise
    finally:
        exchange.record(response.status_code)


# -- system checks ----------------------------------------------------------------------


class BeaconConfig(AppConfig):  # type: ignore[misc]
    """Optional, for `INSTALLED_APPS`: lets `manage.py check` look at the settings."""

    name = "beaconhq.integrations.django"
    label = "beaconhq"
    verbose_name = "Beacon"


@register()  # type: ignore[untyped-decorator, unused-ignore]
def check_settings(**_: Any) -> List[CheckMessage]:
    """Say where the settings are half right."""
    client = getattr(settings, "BEACON_CLIENT", None)
    header = getattr(settings, "BEACON_CONSUMER_HEADER", None)
    resolver = getattr(settings, "BEACON_CONSUMER_RESOLVER", None)
    listed = "beaconhq.integrations.django.BeaconDjangoMiddleware"
    in_middleware = any(str(name).endswith("BeaconDjangoMiddleware") for name in settings.MIDDLEWARE)
    found: List[CheckMessage] = []
    if client is None and (in_middleware or header or resolver):
        found.append(
            Warning("BEACON_CLIENT is not set, so Beacon captures nothing.", id="beaconhq.W001",
                    hint='Set BEACON_CLIENT = BeaconClient(ingest_key="...") in your settings.')
        )  # fmt: skip
    if client is not None and not callable(getattr(client, "capture", None)):
        found.append(
            Warning(f"BEACON_CLIENT is a {type(client).__name__}, not a BeaconClient.", id="beaconhq.W002",
                    hint="Every request would fail at start: set it to a BeaconClient.")
        )  # fmt: skip
    if client is not None and not in_middleware:
        found.append(
            Warning("BEACON_CLIENT is set, but its middleware is not listed.", id="beaconhq.W003",
                    hint=f'Put "{listed}" near the top of MIDDLEWARE.')
        )  # fmt: skip
    return found
