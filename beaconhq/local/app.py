"""
The ingest over HTTP: `POST /v1/ingest`, `GET /v1/summary`, `GET /healthz`, and with them the page.

Owns the ingest's authorisation, the body limit and what each refusal answers. It knows neither the server
that runs it nor the terminal; the rules for events are `validation`'s, the database is `store`'s, the page is
`page`'s and who may see it `guard`'s.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hmac
import json
from typing import TYPE_CHECKING, Iterable, Optional

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .guard import Guard
from .page import page_routes
from .store import EventStore, StoreError
from .validation import InvalidBody, InvalidEvent, parse_batch

if TYPE_CHECKING:
    from starlette.requests import Request

    from .app_routes import AppRoutes

#: The largest body that `POST /v1/ingest` reads, in bytes.
MAX_BODY_BYTES = 5 * 1024 * 1024

# More digits are more bytes than any limit; `int()` refuses thousands of them with an error of its own.
_MAX_LENGTH_DIGITS = 18


def create_app(
    store: EventStore,
    *,
    key: Optional[str] = None,
    hosts: Iterable[str] = (),
    app_routes: Optional[AppRoutes] = None,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Starlette:
    """
    Build the ingest over an open store, which stays the caller's to close.

    With a `key`, everything wants exactly that. Without one, page and summary are open and the ingest wants
    any bearer that is not empty: an app that lost its key is refused, as the hosted ingest would. `hosts` are
    names under which the page answers besides its own; `app_routes` is what it compares with what was called.
    """
    ingest = _Ingest(store, key, max_body_bytes)
    return Starlette(
        routes=[
            Route("/v1/ingest", ingest.accept, methods=["POST"]),
            Route("/v1/summary", ingest.summary, methods=["GET"]),
            Route("/healthz", ingest.health, methods=["GET"]),
            *page_routes(store, app_routes),
        ],
        middleware=[Middleware(Guard, key=key, hosts=hosts)],
    )


class _BodyTooLargeError(Exception):
    pass


class _AsciiJSONResponse(JSONResponse):
    """JSON in ASCII: a route with control characters does not drive the terminal that `curl` prints it to."""

    def render(self, content: object) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


class _Ingest:
    def __init__(self, store: EventStore, key: Optional[str], max_body_bytes: int) -> None:
        self._store = store
        self._key = None if key is None else key.encode()
        self._max_body_bytes = max_body_bytes
        # The store takes one writer at a time: more threads than that would only wait for it.
        self._writer = CapacityLimiter(1)
        self._reader = CapacityLimiter(1)

    async def accept(self, request: Request) -> Response:
        token = _bearer(request)
        if not token or not self._allows(token):
            return await self._refuse(
                401, "unauthorized", "the bearer is missing or is not this ingest's key"
            )
        try:
            body = await self._read(request)
        except _BodyTooLargeError:
            reason = f"the body is larger than {self._max_body_bytes} bytes"
            return await self._refuse(413, "body_too_large", reason, limit_bytes=self._max_body_bytes)
        except ClientDisconnect:
            # Nobody is left to read an answer, and nothing was stored.
            return Response(status_code=400)
        key = request.headers.get("idempotency-key")
        return await to_thread.run_sync(self._store_batch, body, key, limiter=self._writer)

    async def summary(self, _request: Request) -> Response:
        try:
            summary = await to_thread.run_sync(self._store.summary, limiter=self._reader)
        except StoreError as error:
            return _error(503, "store_unavailable", str(error))
        return _AsciiJSONResponse(dataclasses.asdict(summary))

    async def health(self, _request: Request) -> Response:
        return _AsciiJSONResponse({"status": "ok"})

    def _allows(self, token: bytes) -> bool:
        return self._key is None or hmac.compare_digest(token, self._key)

    async def _read(self, request: Request) -> bytes:
        announced = request.headers.get("content-length", "")
        # Refused before the first byte is read; the count below holds for chunked bodies.
        if announced.isdecimal() and (
            len(announced) > _MAX_LENGTH_DIGITS or int(announced) > self._max_body_bytes
        ):
            raise _BodyTooLargeError
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._max_body_bytes:
                raise _BodyTooLargeError
        return bytes(body)

    def _store_batch(self, body: bytes, idempotency_key: Optional[str]) -> Response:
        """Parse, check and store in one visit to a worker thread: a large batch holds up no other request."""
        try:
            stored = self._store.add(parse_batch(body), idempotency_key)
        except InvalidBody as error:
            return self._record(_error(400, "invalid_body", str(error)), f"body {error}")
        except InvalidEvent as error:
            place = {"index": error.index, "field": error.field}
            return self._record(_error(400, "invalid_event", error.reason, **place), str(error))
        except StoreError as error:
            # A 5xx: the sender keeps the batch and comes again.
            return _error(503, "store_unavailable", str(error))
        answer = {"stored": stored.stored}
        return _AsciiJSONResponse(
            {**answer, "duplicate": True} if stored.duplicate else answer, status_code=202
        )

    async def _refuse(self, status: int, error: str, reason: str, **details: object) -> Response:
        response = _error(status, error, reason, **details)
        return await to_thread.run_sync(self._record, response, reason, limiter=self._writer)

    def _record(self, response: Response, reason: str) -> Response:
        # The sender's answer does not depend on whether the refusal could be counted.
        with contextlib.suppress(StoreError):
            self._store.reject(f"{response.status_code}: {reason}")
        return response


def _bearer(request: Request) -> bytes:
    """Return the bearer, empty where there is none; in bytes, as `compare_digest` refuses non-ASCII text."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip().encode("latin-1") if scheme.lower() == "bearer" else b""


def _error(status: int, error: str, reason: str, **details: object) -> Response:
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return _AsciiJSONResponse(
        {"error": error, **details, "reason": reason}, status_code=status, headers=headers
    )
