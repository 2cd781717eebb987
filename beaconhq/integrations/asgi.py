"""
FastAPI, Starlette and any other ASGI application.

    app.add_middleware(BeaconASGIMiddleware, client=beacon, consumer_header="x-api-key")

Pure ASGI: it wraps `receive` and `send`, changes no message, and starts no task. When
the server runs the lifespan protocol it also hosts the drain in the server's loop, and
drains before it lets the shutdown complete; uvicorn skips `atexit` after SIGTERM.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Awaitable, Callable, MutableMapping, Optional, Sequence

from ..consumer import current_caller, leave
from ._asgi_route import RouteReader
from ._record import CLIENT_CLOSED_REQUEST, EXCHANGES, Exchange, Recorder, is_failure

if TYPE_CHECKING:
    from ..client import BeaconClient, ConsumerResolver

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Messages that carry a body; the last two are extensions for sending files.
_BODIES = ("http.response.body", "http.response.pathsend", "http.response.zerocopysend")
_LIFESPAN_ENDS = ("lifespan.shutdown.complete", "lifespan.shutdown.failed", "lifespan.startup.failed")


class BeaconASGIMiddleware:
    """
    Captures one event per HTTP request of the wrapped application.

    `client` is the `BeaconClient`; `consumer_header` names the request header that holds
    the consumer; `consumer_resolver` gets the ASGI scope, after the application ran, and
    returns the consumer or None. Raises `ValueError` for an option that cannot be right.

    The route is the matched template (`/users/{id}`), mounts and prefixes included. The
    duration ends with the last body byte, so background tasks are not in it. What the
    application raises passes through untouched.

    Source: docs/asgi.md.
    """

    def __init__(
        self,
        app: ASGIApp,
        client: BeaconClient,
        *,
        consumer_header: Optional[str] = None,
        consumer_resolver: Optional[ConsumerResolver] = None,
    ) -> None:
        self.app = app
        self._client = client
        self._recorder = Recorder(
            client, consumer_header, consumer_resolver, self._read_header, RouteReader(app).read
        )
        # Names are lower case in a scope, and bytes (the ASGI specification, "HTTP").
        self._header = (consumer_header or "").lower().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind == "lifespan":
            await _LifespanHost(self._client, receive, send).run(self.app, scope)
            return
        others = scope.get(EXCHANGES, ())
        if kind != "http" or (others and self._recorder.reports(others)):
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(self._recorder, others, scope, receive, send)
        scope[EXCHANGES] = (*others, exchange) if others else (exchange,)
        token = current_caller.set(exchange.caller)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException as exc:
            exchange.finish(exc)
            raise
        finally:
            leave(token)
        if not exchange.recorded:
            exchange.finish(None)

    def _read_header(self, scope: Scope) -> Optional[str]:
        header = self._header
        for name, value in scope["headers"]:
            if name == header:
                text: str = value.decode("latin-1")
                return text
        return None


class BeaconLifespan:
    """
    Answers the lifespan protocol for an application that does not, such as Django's.

        application = BeaconLifespan(get_asgi_application(), client=settings.BEACON_CLIENT)

    The drain then runs in the server's own event loop and delivers before the server's
    shutdown completes; uvicorn skips `atexit` after SIGTERM. Requests pass through
    untouched: they are the middleware's.
    """

    def __init__(self, app: ASGIApp, client: BeaconClient) -> None:
        self.app = app
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._client.__aenter__()
            else:
                await self._client.__aexit__(None, None, None)
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return


_NOTHING: Scope = {}


class _Exchange(Exchange):
    """What passes by on ASGI's two channels."""

    __slots__ = (
        "_disconnected",
        "_duration",
        "_method",
        "_path",
        "_receive",
        "_scope",
        "_send",
        "_sending",
        "_status",
    )

    def __init__(
        self, recorder: Recorder, others: Sequence[Exchange], scope: Scope, receive: Receive, send: Send
    ) -> None:
        super().__init__(recorder, others)
        self._scope = scope
        self._receive = receive
        self._send = send
        # Now, as applications and their mounts rewrite the scope.
        self._method = scope.get("method", "")
        self._path = scope.get("path") or "/"
        self._status = 0
        self._duration = -1.0
        self._disconnected = self._sending = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message.get("type") == "http.disconnect":
            self._disconnected = True
        return message

    async def send(self, message: Message) -> None:
        self._sending = True  # and still true if `send` raises
        await self._send(message)
        self._sending = False
        kind = message.get("type")
        if kind == "http.response.start":
            # After a disconnect nobody hears it; often it is the framework's 500 for the
            # reader's exception.
            status = CLIENT_CLOSED_REQUEST if self._disconnected else message.get("status")
            self._status = status if isinstance(status, int) else 0
        elif kind in _BODIES and not message.get("more_body", False):
            self._duration = perf_counter() - self.started_at
            # A failure is recorded when the application returns: wrapped from outside, the
            # framework's own 500 comes by first and the exception after it.
            if 0 < self._status < 500:
                self._record(self._status, None)

    def finish(self, exc: Optional[BaseException]) -> None:
        """Record what has not been recorded, now that the application returned or raised."""
        if self.recorded:
            return
        left = self._sending or not (exc is None or is_failure(exc))
        if not self._status:
            self._status = CLIENT_CLOSED_REQUEST if left or self._disconnected else 500
        if left or self._status == CLIENT_CLOSED_REQUEST:
            exc = None
        self._record(self._status, exc)

    def _record(self, status: int, exc: Optional[BaseException]) -> None:
        self.recorded = True
        duration = self._duration if self._duration >= 0 else perf_counter() - self.started_at
        scope, self._scope = self._scope, _NOTHING  # which refers to this
        recorder = self.recorder
        consumer = recorder.consumer(scope, self.caller)
        recorder.capture(self._method, self._path, recorder.route(scope), status, exc, duration, consumer)


class _LifespanHost:
    """Hosts the drain between the application's startup and its shutdown."""

    def __init__(self, client: BeaconClient, receive: Receive, send: Send) -> None:
        self._client = client
        self._receive = receive
        self._send = send
        self._entered = False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self.receive, self.send)
        finally:
            await self._leave()

    async def receive(self) -> Message:
        message = await self._receive()
        # An application without lifespan support raises before it gets here; then the
        # bridge serves it.
        if message.get("type") == "lifespan.startup" and not self._entered:
            self._entered = True
            await self._client.__aenter__()
        return message

    async def send(self, message: Message) -> None:
        if message.get("type") in _LIFESPAN_ENDS:
            await self._leave()
        await self._send(message)

    async def _leave(self) -> None:
        if self._entered:
            self._entered = False
            await self._client.__aexit__(None, None, None)
