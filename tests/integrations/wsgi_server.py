"""A WSGI server in its smallest form: one request in, one answer out (PEP 3333)."""

from __future__ import annotations

import io
import sys
from itertools import islice
from typing import Any, Callable, Dict, Iterable, List, Tuple
from urllib.parse import unquote_to_bytes

import anyio

from .conformance import Answer, Call, Request

Environ = Dict[str, Any]
WSGIApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


def environ_of(request: Request) -> Environ:
    path, _, query = request.path.partition("?")
    environ: Environ = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers:
        environ["HTTP_" + name.upper().replace("-", "_")] = value.decode("latin-1")
    return environ


def serve_wsgi(app: WSGIApp, environ: Environ, leaves: str = "") -> Answer:
    """
    Serve one request as a server does: exhaust the body, then close it.

    A client that `leaves` is found out by writing: the first chunk fails, or the second.
    """
    started: List[Tuple[int, List[Tuple[str, str]]]] = []

    def start_response(status: str, headers: List[Tuple[str, str]], exc_info: Any = None) -> Any:
        started.append((int(status.split(maxsplit=1)[0]), headers))

    chunks: List[bytes] = []
    exception = None
    body: Iterable[bytes] = ()
    try:
        body = app(environ, start_response)
        chunks.extend(islice(body, {"before": 1, "during": 2}.get(leaves)))
    except Exception as exc:  # noqa: BLE001 - as a server does
        exception = exc
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()
    if leaves:
        chunks.clear()
    status, headers = started[-1] if started else (500, [])
    return Answer(status, headers, b"".join(chunks), exception)


def wsgi_caller(app: WSGIApp) -> Call:
    async def call(request: Request) -> Answer:
        # In a thread without an event loop, as WSGI servers have it.
        return await anyio.to_thread.run_sync(serve_wsgi, app, environ_of(request), request.leaves)

    return call
