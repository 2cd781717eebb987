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

from ..consumer import current_caller
from ..wire import UNMATCHED
from ._record import Exchange, Recorder, is_failure

if TYPE_CHECKING:
    from ..client import BeaconClient, ConsumerResolver

Environ = Dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]

#: Where an environment names the exchanges of its request, one per client.
ENVIRON_KEY = "beaconhq.exchanges"


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
        if ENVIRON_KEY not in app.extensions:  # once per application, for all of its clients
            app.after_request(_answered)
            got_request_exception.connect(_raised, app)
            app.extensions[ENVIRON_KEY] = []
        app.extensions[ENVIRON_KEY].append(self)


class _Layer:
    """The WSGI layer."""

    def __init__(self, wsgi_app: WSGIApp, recorder: Recorder) -> None:
        self._wsgi_app = wsgi_app
        self._recorder = recorder

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        others: Tuple[_Exchange, ...] = environ.get(ENVIRON_KEY, ())
        if self._recorder.reports(others):
            return self._wsgi_app(environ, start_response)
        exchange = _Exchange(self._recorder, others, environ)
        environ[ENVIRON_KEY] = (*others, exchange)

        def start(status: str, *args: Any) -> Any:
            exchange.status = status
            return start_response(status, *args)

        token = current_caller.set(exchange.caller)
        try:
            body = self._wsgi_app(environ, start)
        except BaseException as exc:
            exchange.exception = exc
            exchange.record()
            raise
        finally:
            current_caller.reset(token)
        if exchange.complete:
            exchange.record()
            return body
        return _watch(body, exchange)


class _Exchange(Exchange):
    """What passes by the WSGI layer, and what Flask tells."""

    __slots__ = (
        "_method",
        "_mounted_at",
        "_path",
        "complete",
        "consumer",
        "exception",
        "is_file",
        "route",
        "status",
    )

    def __init__(self, recorder: Recorder, others: Sequence[Exchange], environ: Environ) -> None:
        super().__init__(recorder, others)
        self._method = environ.get("REQUEST_METHOD", "")
        self._mounted_at = environ.get("SCRIPT_NAME", "")
        self._path = _concrete_path(environ)
        self.status = ""
        self.route = UNMATCHED
        self.consumer: Optional[str] = None
        self.exception: Optional[BaseException] = None
        #: Whether the body was complete when the application returned, so not a stream.
        self.complete = False
        #: Whether the body is a file that the server may send by itself.
        self.is_file = False

    def look(self, of: Request) -> None:
        """Note what Flask knows while the request's context is there."""
        self.consumer = self.recorder.consumer(of, self.caller)
        route = self.recorder.route(of)
        # Below a dispatcher that mounted the application somewhere.
        prefix = of.environ.get("SCRIPT_NAME", "")[len(self._mounted_at) :]
        self.route = route if route == UNMATCHED else prefix + route

    def record(self) -> None:
        """Record the request, once, as complete now."""
        if self.recorded:
            return
        self.recorded = True
        exception, self.exception = self.exception, None  # it holds frames, and they the environment
        status = int(self.status[:3]) if self.status[:3].isdigit() else 500
        duration = perf_counter() - self.started_at
        failure = exception if is_failure(exception) else None
        self.recorder.capture(self._method, self._path, self.route, status, failure, duration, self.consumer)


def _answered(response: Response) -> Response:
    for exchange in request.environ.get(ENVIRON_KEY, ()):
        exchange.look(request)
        # Flask's own errors and redirects come as a stream, of a length that is known.
        exchange.complete = not response.is_streamed or (
            response.status_code >= 300 and response.content_length is not None
        )
        exchange.is_file = response.direct_passthrough
    return response


def _raised(_: Flask, exception: BaseException, **__: Any) -> None:
    for exchange in request.environ.get(ENVIRON_KEY, ()):
        exchange.exception = exception
        exchange.look(request)


def _read_route(of: Request) -> str:
    """Return the matched rule; that of a 405 takes one more match, which is rare."""
    if of.url_rule is not None:
        return of.url_rule.rule
    refused = of.routing_exception
    adapter = current_app.create_url_adapter(of)
    if not isinstance(refused, MethodNotAllowed) or not refused.valid_methods or adapter is None:
        return UNMATCHED
    try:
        rule, _ = adapter.match(method=next(iter(refused.valid_methods)), return_rule=True)
    except HTTPException:
        return UNMATCHED
    return rule.rule


def _concrete_path(environ: Environ) -> str:
    """Return the path, mount point included, as text; PEP 3333 has its bytes as latin-1."""
    raw: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return raw if raw.isascii() else raw.encode("latin-1", "replace").decode("utf-8", "replace")


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
        try:
            return next(self._chunks)
        except StopIteration:
            self._exchange.record()
            raise
        except BaseException as exc:
            self._exchange.exception = exc
            self._exchange.record()
            raise
