"""
The HTTP transport: one batch, one POST, over `httpx.AsyncClient` or what a factory makes.

Owns the connection pool, which is opened for one run of the drain and belongs to its
event loop. Foreign errors become ours here, once, and without their text: it may quote
request headers, and so the key.
"""

from __future__ import annotations

import inspect
import os
import re
import socket
import ssl
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Union
from uuid import uuid4

import anyio
from anyio import CancelScope

from . import errors
from .options import Secret, check_key, check_seconds, normalize_url
from .quiet import quiet
from .transport import SendResult
from .version import __version__
from .wire import encode

#: Makes the HTTP client: `httpx.AsyncClient`, or a callable that returns something with
#: its interface. It is called with `limits` where its signature takes that.
ClientFactory = Callable[..., Any]

#: Seconds for which an idle connection is kept at least: longer than the cadence, as
#: httpx's own 5 s would mean a new connection for nearly every flush.
KEEPALIVE = 30.0
#: Bytes of an answer that are read so that its connection can be used again; a longer
#: answer costs the connection.
MAX_ANSWER_BYTES = 64 * 1024
#: Seconds for reading the rest of an answer, and for closing a response or the pool.
CLOSE_TIMEOUT = 1.0
#: What a write to a connection ends in that the server closed meanwhile. By name: the
#: classes of httpx and httpx2 are unrelated.
_RESETS = frozenset({"RemoteProtocolError", "ReadError", "WriteError", "CloseError"})
_HELP = "see docs/how-to/proxies-and-certificates.md"
#: OpenSSL's names of the alerts by which a server refuses a client without certificate (TLS 1.3, 1.2).
_WANTED = re.compile("CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE")
#: Imported by the stack at the first request, unless it is done here: in an event loop it
#: would stall, and in the moment of a fork leave a module's lock held in the child.
_LAZY_MODULES = (
    "anyio._backends._asyncio",
    "encodings.idna",
    "httpcore._async.connection_pool",
    "httpcore._async.http11",
    "httpcore._async.http_proxy",
    "httpcore._backends.anyio",
)


class HttpTransport:
    """
    Posts batches to the ingest.

    `ingest_url` is the endpoint or a base URL to which `/v1/ingest` is appended;
    `timeout` bounds one whole request in seconds, an answer that drips included.
    Raises `ValueError` for an option that cannot be right.

    The connection pool is opened by the first `send` and belongs to the event loop that
    runs it, until `release`.
    """

    def __init__(
        self,
        ingest_url: str,
        ingest_key: Union[str, Secret],
        timeout: float = 5.0,
        *,
        client_factory: Optional[ClientFactory] = None,
        keepalive: float = KEEPALIVE,
    ) -> None:
        self._key = Secret(ingest_key)
        del ingest_key  # a traceback with local variables would show it
        self._key = check_key(self._key)
        self._url = normalize_url(ingest_url)
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"beaconhq-python/{__version__}",
        }
        self._timeout = check_seconds("timeout", timeout)
        self._factory = client_factory
        self._keepalive = keepalive
        self._client: Any = None
        #: The URL as the client parsed it, so that it does so once and not with every POST.
        self._parsed_url: Any = None

    def __repr__(self) -> str:
        return f"<HttpTransport {getattr(self, '_url', '[REFUSED]')}>"

    # -- opening and closing ------------------------------------------------------------

    def prepare(self) -> None:
        """
        Load the HTTP stack and make the client, without I/O. Blocks for up to 330 ms.

        Raises whatever the factory does: a proxy that is not understood, a CA file that
        is missing.
        """
        if self._client is None:
            with quiet():
                self._client, self._parsed_url = self._make_client(), None

    def forget(self) -> object:
        """Let go of the client without closing it and return it: it is another process's or loop's."""
        client, self._client = self._client, None
        return client

    async def release(self) -> None:
        """Close the connections; the next `send` opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            with quiet(), suppress(Exception), anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
                await client.aclose()

    def _make_client(self) -> Any:
        import httpx  # 100 ms; here, so that it happens in a thread of ours

        for name in _LAZY_MODULES:
            with suppress(ImportError):
                import_module(name)
        options: Dict[str, Any] = {"limits": httpx.Limits(keepalive_expiry=self._keepalive)}
        if self._factory is not None:
            return self._factory(**_accepted_by(self._factory, options))
        if self._url.startswith("http://"):
            # No CA store is loaded for a URL without TLS (30 to 200 ms). This context trusts
            # nobody: it could only refuse.
            options["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return httpx.AsyncClient(**options)

    # -- sending ------------------------------------------------------------------------

    async def send(self, events: List[Dict[str, Any]]) -> SendResult:
        """
        POST one batch and return the answer; redirects are not followed.

        A reset on a reused connection is tried again once, at once, under the same key.
        Raises `errors.ExportTimeout`, `errors.NetworkError` or `errors.TransportError`.
        """
        body: bytes = getattr(events, "body", None) or encode(events)
        headers = {
            **self._headers,
            "Idempotency-Key": getattr(events, "idempotency_key", None) or uuid4().hex,
        }
        result: List[SendResult] = []
        try:
            with quiet(), anyio.move_on_after(self._timeout) as scope:
                await self._post(await self.open_client(), body, headers, result, scope)
        except errors.ExportError as err:
            err.__context__ = None  # the foreign error holds the request, and so the key
            raise
        if not result:
            raise errors.ExportTimeout(f"no answer from {self._url} within {self._timeout:g} s")
        return result[0]

    async def open_client(self) -> Any:
        """Return the HTTP client, made on first use; raises `errors.TransportError`."""
        if self._client is None:
            try:
                await anyio.to_thread.run_sync(self.prepare)
            except Exception as err:  # noqa: BLE001 - a factory may raise anything
                raise errors.TransportError(
                    f"the HTTP client could not be made ({type(err).__name__}): check client_factory and the "
                    "variables HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
                ) from None
        return self._client

    async def _post(
        self, client: Any, body: bytes, headers: Dict[str, str], result: List[SendResult], scope: CancelScope
    ) -> None:
        """POST and append the answer to `result` as soon as its head is there."""
        connected: List[str] = []

        async def trace(event: str, _info: Mapping[str, Any]) -> None:
            if event.startswith("connection.connect_") and event.endswith(".started"):
                connected.append(event)

        while True:
            try:
                request = client.build_request(
                    "POST",
                    self._url if self._parsed_url is None else self._parsed_url,
                    content=body,
                    headers={**headers, "Authorization": f"Bearer {self._key.reveal()}"},
                    timeout=None,
                    extensions={"trace": trace},
                )
                self._parsed_url = request.url
                response = await client.send(request, stream=True, follow_redirects=False)
            except Exception as err:  # noqa: BLE001 - any HTTP library's; translated once, here
                name = type(err).__name__
                if connected or name not in _RESETS:
                    raise errors.NetworkError(f"POST to {self._url} failed: {name}{_advice(err)}") from None
                connected.append("once is enough")
            else:
                break
        status = response.status_code
        result.append(SendResult(200 <= status < 300, status, retry_after(response.headers)))
        # From here on for the connection's sake only. Shielded: a stop whose time runs out here must
        # not turn a delivery into a failure.
        scope.deadline = min(anyio.current_effective_deadline(), anyio.current_time() + CLOSE_TIMEOUT)
        scope.shield = True
        await _read_to_end(response)


async def _read_to_end(response: Any) -> None:
    """Read the rest of a decided answer, as far as that goes."""
    received = 0
    try:
        with suppress(Exception):
            async for chunk in response.aiter_raw():
                received += len(chunk)
                if received > MAX_ANSWER_BYTES:
                    break
    finally:
        if not getattr(response, "is_closed", False):  # as it is where the end was read
            with suppress(Exception), anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
                await response.aclose()


def retry_after(headers: Mapping[str, str]) -> Optional[float]:
    """
    Return what `Retry-After` asks for, in seconds, or None.

    A date is held against the answer's own `Date`, as the clocks may differ.
    Source: RFC 9110, section 10.2.3.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:10])
    when = parse_date(value)
    if when is None:
        return None
    now = parse_date(headers.get("date", "")) or datetime.now(timezone.utc)
    return max(0.0, (when - now).total_seconds())


def parse_date(value: str) -> Optional[datetime]:
    """Return the time of an HTTP date with its zone, or None for what is none."""
    try:
        parsed = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=timezone.utc)


def _accepted_by(factory: ClientFactory, options: Dict[str, Any]) -> Dict[str, Any]:
    """Return those options that the factory takes and has not been given already."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return {}
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    given = getattr(factory, "keywords", {})  # functools.partial
    return {
        name: value
        for name, value in options.items()
        if name not in given and (takes_all or name in parameters)
    }


def _advice(error: BaseException) -> str:
    """
    Say what is behind an error and what to do, in the operating system's words or ours.

    Never in the words of an HTTP library, which may quote headers.
    """
    if type(error).__name__ == "ProxyError":
        return f" (the proxy refused: check HTTPS_PROXY, ALL_PROXY or client_factory; {_HELP})"
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f" (certificate: {cause.verify_message}; for a private CA set SSL_CERT_FILE or "
                f"client_factory; {_HELP})"
            )
        if isinstance(cause, ssl.SSLError):
            # A constant of OpenSSL; `errno` is not the operating system's here.
            reason = cause.reason or "no reason given"
            certificate = "; the server may want a client certificate" if _WANTED.search(reason) else ""
            return f" (TLS: {reason}{certificate}; {_HELP})"
        if isinstance(cause, socket.gaierror):
            return f" ({cause.strerror})"
        if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
            return f" ({os.strerror(cause.errno)})"
    return ""


def causes(error: BaseException, depth: int = 6) -> Iterator[BaseException]:
    """Yield an error and what is behind it, `depth` steps deep."""
    yield error
    if depth:
        inner = [error.__cause__, error.__context__, *getattr(error, "exceptions", ())]
        for cause in inner:
            if cause is not None:
                yield from causes(cause, depth - 1)
