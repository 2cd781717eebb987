"""
Runs an ASGI app on uvicorn inside a running event loop, on a socket that is bound here.

Owns addresses, sockets, the life of a server and the stop signals. It does not know what the app is: the
ingest and the demo's sample app run the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
from typing import TYPE_CHECKING, AsyncIterator, Iterator, List, Literal, NamedTuple, Optional, Tuple

import anyio
import uvicorn

if TYPE_CHECKING:
    from types import FrameType

    from starlette.types import ASGIApp, Receive, Scope, Send

#: Seconds that open requests get to finish once a server stops.
GRACE = 5
#: Seconds after which a server that does not stop is given up: `GRACE`, and the rest for the app's lifespan.
STOP_TIMEOUT = 15
#: Seconds after which an idle connection is closed: longer than the SDK keeps one, so it need not reconnect.
KEEP_ALIVE = 75

#: Where a scope has the event that its server stops.
_STOPPING = "beaconhq.stopping"

_STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # SIGHUP: the terminal was closed


# uvicorn exits where the lifespan fails; before 0.40 or so its `serve` returns.
_NOT_STARTED = "the app did not start"


class ServerError(Exception):
    """A server cannot listen, start or stop; `str()` of it is one line for the user."""


class Address(NamedTuple):
    """Where to listen: one resolved address."""

    family: socket.AddressFamily
    sockaddr: Tuple[object, ...]

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        host = str(self.sockaddr[0]).partition("%")[0]
        return ipaddress.ip_address(host).is_loopback


def resolve(host: str, port: int) -> Address:
    """Resolve a host for listening, IPv4 first as `localhost` is usually meant. Raises `ServerError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ServerError(f"unknown host {host!r}") from error
    family, _, _, _, sockaddr = min(found, key=lambda info: info[0] != socket.AF_INET)
    return Address(family, sockaddr)


def listen(address: Address) -> socket.socket:
    """Bind and listen; port 0 picks a free one. Raises `ServerError`."""
    try:
        return socket.create_server(address.sockaddr, family=address.family)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ServerError(
            f"cannot listen on {address.sockaddr[0]} port {address.sockaddr[1]}: {reason}"
        ) from error


def url_of(listener: socket.socket) -> str:
    """Return the base URL of a listening socket, a loopback one where it listens on every address."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp,
    listener: socket.socket,
    *,
    lifespan: Literal["on", "off"] = "off",
    log_level: Literal["error", "critical"] = "error",
) -> AsyncIterator[None]:
    """
    Serve `app` on `listener` inside the block; of uvicorn's log no more than `log_level` is left.

    Leaving it stops as uvicorn does on a signal: no new connections, open requests get `GRACE` seconds (one
    that does not end by itself waits for `stopping_of` its scope), then the app's lifespan shuts down. Being
    cancelled does the same. Raises `ServerError` where the app's lifespan fails to start, or stopping takes
    longer than `STOP_TIMEOUT`.
    """
    stopping = asyncio.Event()

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, _STOPPING: stopping}, receive, send)

    config = uvicorn.Config(
        told,
        lifespan=lifespan,
        ws="none",
        # An access log would tear the table apart.
        log_config=None,
        log_level=log_level,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
    server = _Server(config)
    task = asyncio.ensure_future(server.serve(sockets=[listener]))
    task.add_done_callback(lambda _: server.settled.set())
    try:
        await server.settled.wait()
        if not server.started:
            await task
            raise ServerError(_NOT_STARTED)
        yield
    finally:
        stopping.set()
        server.should_exit = True
        with anyio.CancelScope(shield=True):
            await _finish(task)


def stopping_of(scope: Scope) -> asyncio.Event:
    """Return the event that is set when this request's server begins to stop; without one, it never is."""
    event: asyncio.Event = scope.get(_STOPPING) or asyncio.Event()
    return event


async def _finish(task: asyncio.Future[None]) -> None:
    try:
        await asyncio.wait_for(task, STOP_TIMEOUT)
    except asyncio.TimeoutError:
        raise ServerError(f"a server did not stop within {STOP_TIMEOUT} s") from None


class _Server(uvicorn.Server):
    """A server that leaves the signals to `stop_signals`, and fails with an exception instead of an exit."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        #: Set once it serves, or never will.
        self.settled = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: Optional[List[socket.socket]] = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            raise ServerError(_NOT_STARTED) from None
        self.settled.set()


@contextlib.contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """
    Turn Ctrl-C, SIGTERM and a closed terminal into an event inside the block; a second Ctrl-C breaks off.

    For the main thread, inside the loop that waits for the event. What the process was started to ignore
    (nohup) stays ignored.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def request_stop(signum: int, frame: Optional[FrameType]) -> None:
        if stop.is_set() and signum == signal.SIGINT:
            signal.default_int_handler(signum, frame)
        loop.call_soon_threadsafe(stop.set)

    numbers = [getattr(signal, name) for name in _STOP_SIGNALS if hasattr(signal, name)]
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    previous = [(number, signal.signal(number, request_stop)) for number in heeded]
    try:
        yield stop
    finally:
        for number, handler in previous:
            signal.signal(number, handler)
