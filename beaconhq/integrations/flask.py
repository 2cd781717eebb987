"""
Flask.

    init_flask(app, beacon, consumer_header="X-API-Key")

A WSGI layer around `app.wsgi_app` sees every request from its start to its last byte,
whatever answers it. What only Flask knows comes from an `after_request` function and
from the signal `got_request_exception`, while the request's context is still there:
Flask keeps an exception from everybody else once an error handler has answered.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Iterator, Optional, Sequence, Tuple

from flask import Flask, Request, Response, current_app, got_request_exception, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from ..consumer import current_caller, leave
from ..wire import UNMATCHED
from ._record import EXCHANGES, Exchange, Recorder, is_failure

if TYPE_CHECKING:
    from ..client import BeaconClient, ConsumerResolver

Environ = Dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]

#: What the route of a request ends in that no rule of a mounted application matched.
_REST = "/<path:path>"


def init_flask(
    app: Flask,
    client: BeaconClient,
    *,
    consumer_header: Optional[str] = None,
    consumer_resolver: Optional[ConsumerResolver] = None,
) -> BeaconFlask:
    """
    Capture one event per request of a Flask application; returns the extension.

    The options are those of `BeaconFlask`.
    """
    extension = BeaconFlask(client, consumer_header=consumer_header, consumer_resolver=consumer_resolver)
    extension.init_app(app)
    return extension


class BeaconFlask:
    """
    The extension, for several applications or an application factory.

    `client` is the `BeaconClient`; `consumer_header` names the request header that holds
    the consumer; `consumer_resolver` gets `flask.request`, within the request's context
    and after the view, and returns the consumer or None. Raises `ValueError` for an option
    that cannot be right.

    Source: docs/flask.md.
    """

    def __init__(
        self,
        client: BeaconClient,
        *,
        consumer_header: Optional[str] = None,
        consumer_resolver: Optional[ConsumerResolver] = None,
    ) -> None:
        header = consumer_header or ""

        def read_header(of: Request) -> Optional[str]:
            return of.headers.get(header)

        self._recorder = Recorder(client, consumer_header, consumer_resolver, read_header, _read_route)

    def init_app(self, app: Flask) -> None:
        """Install on an application, before its first request."""
        app.wsgi_app = _Layer(app.wsgi_app, self._recorder)  # type: ignore[method-assign]
        if EXCHANGES not in app.extensions:  # once per application, for all of its clients
            app.after_request(_answered)
            got_request_exception.connect(_raised, app)
            app.extensions[EXCHANGES] = []
        app.extensions[EXCHANGES].append(self)


class _Layer:
    """The WSGI layer."""

    def __init__(self, wsgi_app: WSGIApp, recorder: Recorder) -> None:
        self._wsgi_app = wsgi_app
        self._recorder = recorder

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        within: Tuple[_Exchange, ...] = environ.get(EXCHANGES, ())
        # a2wsgi mounts an application in an ASGI application and names that one's scope.
        others: Sequence[Exchange] = within or environ.get("asgi.scope", _NOTHING).get(EXCHANGES, ())
        if others and self._recorder.reports(others):
            return self._wsgi_app(environ, start_response)
        exchange = _Exchange(self._recorder, others, environ)
        environ[EXCHANGES] = (*within, exchange)

        def start(status: str, *args: Any, **kwargs: Any) -> Any:
            write = start_response(status, *args, **kwargs)
            exchange.status = status  # not before, as it may be refused
            return write

        token = current_caller.set(exchange.caller)
        try:
            body = self._wsgi_app(environ, start)
        except BaseException as exc:
            exchange.exception = exc
            exchange.record()
            raise
        finally:
            leave(token)
        # Servers take the length of a list for that of the answer.
        if exchange.complete or isinstance(body, (list, tuple)):
            exchange.record()
            return body
        return _watch(body, exchange)


_NOTHING: Environ = {}


class _Exchange(Exchange):
    """What passes by the WSGI layer, and what Flask tells."""

    __slots__ = (
        "_environ",
        "_looked",
        "_method",
        "_mounted_at",
        "_url",
        "complete",
        "consumer",
        "exception",
        "is_file",
        "route",
        "status",
    )

    def __init__(self, recorder: Recorder, others: Sequence[Exchange], environ: Environ) -> None:
        super().__init__(recorder, others)
        self._environ = environ
        # Now, as dispatchers and other middleware rewrite the environment.
        self._method: str = environ.get("REQUEST_METHOD", "")
        self._mounted_at: str = environ.get("SCRIPT_NAME", "")
        self._url = _url(environ)
        self.status = ""
        self.route = UNMATCHED
        self.consumer: Optional[str] = None
        self.exception: Optional[BaseException] = None
        self._looked = False
        #: Whether the body was complete when the application returned, so not a stream.
        self.complete = False
        #: Whether the body is a file that the server may send by itself.
        self.is_file = False

    def look(self, of: Request) -> None:
        """Note what Flask knows while the request's context is there."""
        self._looked = True
        self.consumer = self.recorder.consumer(of, self.caller)
        self.route = self.recorder.route(of)
        mounted_at = of.environ.get("SCRIPT_NAME", "")
        # Below a dispatcher that mounted the application somewhere. Other middleware than a
        # dispatcher changes the URL: a proxy's prefix is no part of the route.
        if mounted_at != self._mounted_at and _url(of.environ) == self._url:
            prefix = mounted_at[len(self._mounted_at) :]
            self.route = prefix + (_REST if self.route == UNMATCHED else self.route)

    def record(self) -> None:
        """Record the request, once, as complete now."""
        if self.recorded:
            return
        self.recorded = True
        duration = perf_counter() - self.started_at
        environ, self._environ = self._environ, _NOTHING  # which refers to this
        if not self._looked:  # Flask was not asked: middleware inside ours answered, or a foreign mount
            self.look(Request(environ))
        # What was named in a stream came after the look.
        consumer = self.caller.consumer
        if consumer is None:
            consumer = self.consumer
        code = self.status[:3]
        status = int(code) if code.isdecimal() else 500
        exception, self.exception = self.exception, None  # it holds frames, and they the environment
        if exception is not None and not _is_failure(exception, status):
            exception = None
        url = self._url
        path = url if url.isascii() else url.encode("latin-1", "replace").decode("utf-8", "replace")
        self.recorder.capture(self._method, path, self.route, status, exception, duration, consumer)


def _is_failure(exception: BaseException, status: int) -> bool:
    """Whether an exception is a failure, not an answer: extensions send the signal for a 404 too."""
    answer = isinstance(exception, HTTPException) and exception.code == status < 500
    return not answer and is_failure(exception)


def _answered(response: Response) -> Response:
    served = _served()
    for exchange in served.environ.get(EXCHANGES, ()):
        exchange.look(served)
        # Flask's own errors and redirects come as a stream, of a length that is known.
        exchange.complete = not response.is_streamed or (
            response.status_code >= 300 and response.content_length is not None
        )
        exchange.is_file = response.direct_passthrough
    return response


def _raised(_: Flask, exception: BaseException, **__: Any) -> None:
    served = _served()
    for exchange in served.environ.get(EXCHANGES, ()):
        exchange.exception = exception
        exchange.look(served)


def _served() -> Request:
    """Return the request itself: a look at it by way of `flask.request` costs 0.3 us each time."""
    served: Request = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    return served


def _read_route(of: Request) -> str:
    """Return the matched rule; that of a 405 takes one more match, which is rare."""
    if of.url_rule is not None:
        return of.url_rule.rule
    refused = of.routing_exception
    if not isinstance(refused, MethodNotAllowed) or not refused.valid_methods:
        return UNMATCHED
    adapter = current_app.create_url_adapter(of)
    if adapter is None:
        return UNMATCHED
    try:
        rule, _ = adapter.match(method=next(iter(refused.valid_methods)), return_rule=True)
    except HTTPException:
        return UNMATCHED
    return rule.rule


def _url(environ: Environ) -> str:
    """Return the path with the mount point, as PEP 3333 has it: bytes as latin-1."""
    url: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return url


# -- bodies that are not complete yet ---------------------------------------------------


def _watch(body: Iterable[bytes], exchange: _Exchange) -> Iterable[bytes]:
    """Record when the body ends, breaks off or is closed."""
    if not exchange.is_file:
        return _WatchedBody(body, exchange)
    # Wrapped, the server would not know its own file wrapper any more and not use sendfile.
    try:
        body.close = _closing(body, exchange)  # type: ignore[attr-defined]
    except AttributeError:  # a server's built-in type
        exchange.record()
    return body


def _closing(body: Iterable[bytes], exchange: _Exchange) -> Callable[[], None]:
    close: Optional[Callable[[], None]] = getattr(body, "close", None)

    def close_and_record() -> None:
        try:
            if close is not None:
                close()
        finally:
            exchange.record()

    return close_and_record


class _WatchedBody:
    """A body that is passed on chunk by chunk."""

    def __init__(self, body: Iterable[bytes], exchange: _Exchange) -> None:
        self._chunks: Iterator[bytes] = iter(body)
        self._exchange = exchange
        self.close = _closing(body, exchange)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        exchange = self._exchange
        token = current_caller.set(exchange.caller)
        try:
            return next(self._chunks)
        except StopIteration:
            exchange.record()
            raise
        except BaseException as exc:
            exchange.exception = exc
            exchange.record()
            raise
        finally:
            leave(token)
