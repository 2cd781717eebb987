"""
What stands before the page and its data: the Host header, the key, and the headers of every answer.

Owns no page and no data; it is ASGI middleware. What it passes over is what apps and probes use: `POST
/v1/ingest` has its own bearer, `/healthz` says nothing.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import socket
from typing import TYPE_CHECKING, FrozenSet, Iterable, Optional

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Nothing inline, nothing from elsewhere, in nobody's frame; no text becomes HTML or script (trusted types).
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_UNGUARDED = frozenset({"/v1/ingest", "/healthz"})


class Guard:
    """
    Lets a request through to `app` if it names this machine and, where there is a key, knows it.

    A web site whose name was made to resolve to this machine (DNS rebinding) still sends its own name as
    Host: only IP addresses, `localhost`, this machine's name and `hosts` are answered. The key comes as a
    bearer, or as the password of HTTP Basic, which a browser asks for.
    """

    def __init__(self, app: ASGIApp, *, key: Optional[str], hosts: Iterable[str] = ()) -> None:
        """Stand before `app`."""
        self._app = app
        self._key = None if key is None else key.encode()
        self._hosts: FrozenSet[str] = frozenset(
            name.lower() for name in ("localhost", socket.gethostname(), *hosts)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] in _UNGUARDED:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = self._app
        if not self._names_this_machine(headers.get("host", "")):
            answer = PlainTextResponse(
                "This is beaconhq local. It answers under its IP address, localhost and this machine's name"
                " (and the name given as --host) only.\n",
                status_code=421,
            )
        elif self._key is not None and not hmac.compare_digest(_given_key(headers), self._key):
            scheme = 'Basic realm="beaconhq local: any user name, the key as the password", charset="UTF-8"'
            answer = PlainTextResponse(
                "The key is needed: as the bearer, or as the password of any user name.\n",
                status_code=401,
                headers={"WWW-Authenticate": scheme},
            )

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                to_send = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    to_send[name] = value
                # Whatever was read here is not left behind in a cache; the page's own files say otherwise.
                to_send.setdefault("Cache-Control", "no-store")
            await send(message)

        await answer(scope, receive, send_with_headers)

    def _names_this_machine(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name.lower().rstrip(".") in self._hosts
        return True


def _given_key(headers: Headers) -> bytes:
    """Return the key that a request brings, empty where there is none; bytes, as `compare_digest` wants."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    given = given.strip()
    if scheme.lower() == "bearer":
        return given.encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(given, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""
