"""
One attempt at the ingest, watched: look-up, connection, TLS, answer, each with its time.

The attempt is made with the client's own HTTP client, so that proxies, CAs and a `client_factory` are those
of the application. It is a GET without the key: it stores nothing and tells nobody the key. With `send` one
event follows through the client's own transport, as the drain would send it.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from contextlib import contextmanager, suppress
from socket import getaddrinfo
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

import anyio

from beaconhq import errors
from beaconhq.event import BeaconEvent, utc_now_iso
from beaconhq.http import HttpTransport
from beaconhq.loops import run_in_thread
from beaconhq.quiet import quiet
from beaconhq.wire import Batch, clean

from .report import Step

if TYPE_CHECKING:
    from beaconhq import BeaconClient
    from beaconhq.transport import SendResult

#: The route of the event that `--send` posts.
ROUTE = "/beaconhq-doctor"
#: Seconds for closing the connections.
CLOSE_TIMEOUT = 1.0


class Answer(NamedTuple):
    """What the server said to the GET."""

    status: int
    headers: Mapping[str, str]
    #: The local time (seconds since the epoch) in the middle of the exchange.
    at: float


class Attempt:
    """What happened, as far as it got."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.steps: List[Step] = []
        #: Where the connection went: the ingest, or a proxy.
        self.peer: Optional[Tuple[str, int]] = None
        self.answer: Optional[Answer] = None
        #: What went wrong on the way, as it was raised.
        self.error: Optional[Exception] = None
        #: The step that the time ran out in, or None.
        self.unfinished: Optional[str] = None
        #: What came of the event, where one was sent.
        self.sent: Optional[SendResult] = None
        self.send_error: Optional[Exception] = None

    @property
    def proxy(self) -> Optional[str]:
        """`host:port` of the proxy that the connection went to, or None."""
        if self.peer is None or self.peer == (self.host, self.port):
            return None
        return f"{self.peer[0]}:{self.peer[1]}"

    @property
    def seconds(self) -> float:
        """How long everything up to the answer took."""
        return sum(step.seconds for step in self.steps if step.name != "send")


def attempt(client: BeaconClient, *, send: bool, timeout: float) -> Attempt:
    """
    Try to reach the ingest of a client; what fails is in the result.

    `timeout` bounds the network as a whole, in seconds; making the HTTP client (up to 330 ms) does not count.
    """
    found = Attempt(client.ingest_url)

    async def main() -> None:
        await _attempt(client, found, send=send, timeout=timeout)

    anyio.run(main, backend="asyncio", backend_options={"loop_factory": _WatchedLoop})
    return found


async def _attempt(client: BeaconClient, found: Attempt, *, send: bool, timeout: float) -> None:
    transport = client.transport
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _WatchedLoop)  # noqa: S101 - made by `attempt`
    loop.watch = watch = _Watch(found)
    http: Any = None
    try:
        if isinstance(transport, HttpTransport):
            http = await transport.open_client()
        with anyio.move_on_after(timeout) as scope, quiet():
            if http is not None:
                await _get(http, found, watch)
            if send and found.error is None:
                await _send(transport, found)
        if scope.cancelled_caught:
            found.unfinished = watch.give_up() or ("answer" if http and not found.answer else "send")
    except errors.TransportError as err:
        found.error = err
    finally:
        release = getattr(transport, "release", None)
        if release is not None:
            with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
                await release()


async def _get(http: Any, found: Attempt, watch: _Watch) -> None:
    begun = time.time()
    try:
        request = http.build_request(
            "GET", found.url, timeout=None, extensions={"trace": watch.trace}, headers={"Accept": "*/*"}
        )
        response = await http.send(request, stream=True, follow_redirects=False)
    except Exception as err:  # noqa: BLE001 - any HTTP library's
        found.error = err
        if watch.give_up() is None and found.steps:  # such as a proxy that answered, but refused
            found.steps[-1] = found.steps[-1]._replace(ok=False)
        return
    ended = time.time()
    found.answer = Answer(response.status_code, response.headers, (begun + ended) / 2)
    watch.describe_answer(f"{response.status_code} to a GET without the key", ended - begun)
    with suppress(Exception):  # what follows the head says nothing
        await response.aclose()


async def _send(transport: Any, found: Attempt) -> None:
    event = BeaconEvent(utc_now_iso(), "GET", ROUTE, ROUTE, 200, 0, "beaconhq-doctor")
    batch = Batch([clean(event)])
    begun = time.monotonic()
    results: List[Any] = []
    try:
        if inspect.iscoroutinefunction(transport.send):
            results.append(transport.send(batch))
        else:
            await run_in_thread(lambda: results.append(transport.send(batch)), "beaconhq-send")
        result: SendResult = await results[0] if inspect.isawaitable(results[0]) else results[0]
        detail = f"{result.status}"
        found.sent = result
    except Exception as err:  # noqa: BLE001 - a transport of the user's own may raise anything
        found.send_error = err
        detail = str(err) if isinstance(err, errors.ExportError) else type(err).__name__
    ok = found.sent is not None and found.sent.ok
    found.steps.append(Step("send", time.monotonic() - begun, ok, detail))


class _WatchedLoop(asyncio.SelectorEventLoop):
    """An event loop that tells of its look-ups, each in a thread that nobody waits for."""

    watch: Optional[_Watch] = None

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> List[Any]:
        """Look up a host name."""
        found: List[Any] = []
        watch = self.watch
        if watch is None:
            return getaddrinfo(host, port, **options)
        with watch.step("resolve", _text(host)) as describe:
            # A thread of its own: one that hangs must outlive neither the time-out nor the process.
            await run_in_thread(lambda: found.extend(getaddrinfo(host, port, **options)), "beaconhq-resolve")
            describe(", ".join(dict.fromkeys(address[4][0] for address in found)))
        return found


class _Watch:
    """Turns what httpcore traces into steps."""

    #: What httpcore calls each step; the layer stands before it ("connection.", "proxy.", "http11.").
    _NAMES = {  # noqa: RUF012 - a constant
        "connect_tcp": "connect",
        "start_tls": "tls",
        "send_request_headers": "answer",
    }
    _ENDS = ("connect_tcp.complete", "start_tls.complete", "receive_response_headers.complete")

    def __init__(self, found: Attempt) -> None:
        self._found = found
        #: Name, beginning (monotonic) and detail of the step under way.
        self._open: Dict[str, Tuple[float, str]] = {}

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear from httpcore (its documentation, "Extensions": trace)."""
        _, _, what = event.partition(".")
        name, _, phase = what.partition(".")
        if phase == "started" and name in self._NAMES:
            step, detail = self._NAMES[name], ""
            if step == "connect":
                self._found.peer = _text(info["host"]), info["port"]
                detail = f"{_text(info['host'])}:{info['port']}"
            elif step == "answer" and getattr(info.get("request"), "method", b"") == b"CONNECT":
                step, detail = "proxy", f"CONNECT {self._found.host}:{self._found.port}"
            self._open[step] = (time.monotonic(), detail)
        elif what in self._ENDS and self._open:
            self._end(info.get("return_value"))

    def _end(self, value: Any) -> None:
        step = next(reversed(self._open))
        begun, detail = self._open.pop(step)
        seconds = time.monotonic() - begun
        if step == "connect":
            # The look-up is a part of it for httpcore, and a step of its own for us.
            seconds -= sum(each.seconds for each in self._found.steps if each.name == "resolve")
        elif step == "tls":
            tls = value.get_extra_info("ssl_object") if hasattr(value, "get_extra_info") else None
            detail = str(tls.version()) if tls is not None else ""
        self._found.steps.append(Step(step, max(0.0, seconds), True, detail))

    @contextmanager
    def step(self, name: str, detail: str) -> Iterator[Any]:
        """Time a step of our own; what the block is given completes the detail."""
        more: List[str] = []
        begun = time.monotonic()
        ok = False
        try:
            yield more.append
            ok = True
        finally:
            text = f"{detail}: {more[0]}" if more else detail
            if self._found.answer is None:  # else a look-up of the send, which is one step
                self._found.steps.append(Step(name, time.monotonic() - begun, ok, text))

    def describe_answer(self, detail: str, seconds: float) -> None:
        """Say what the answer was; `seconds` for an HTTP client that traces nothing."""
        steps = self._found.steps
        if steps and steps[-1].name == "answer":
            steps[-1] = steps[-1]._replace(detail=detail)
        else:
            steps.append(Step("answer", seconds, True, detail))

    def give_up(self) -> Optional[str]:
        """Close what is under way, as failed; returns its name."""
        failed = [step.name for step in self._found.steps if not step.ok]
        resolving = bool(failed)
        for step, (begun, detail) in reversed(tuple(self._open.items())):
            if not (resolving and step == "connect"):
                failed.append(step)
                self._found.steps.append(Step(step, time.monotonic() - begun, False, detail))
        self._open.clear()
        return failed[0] if failed else None


def _text(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
