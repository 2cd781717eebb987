"""uvicorn under load: the server, in a subject's environment, and those who send the requests."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Callable, Dict

from .instruments import Subject, make_subject
from .workload import Reading, fastapi_app

#: Routes of the application that is served.
ROUTES = 60
#: Keep-alive connections, each with one request at a time.
CONNECTIONS = 16
#: Answers the server's CPU time so far, before any SDK sees the request.
CPU_PATH = "/-/cpu"


# -- the server -------------------------------------------------------------------------


def serve(task: Dict[str, Any], answer: Callable[[object], None]) -> None:
    """Serve until the process is ended."""
    import uvicorn

    name = task["subject"]
    subject = Subject(task["ingest"], parked=False) if name == "bare" else make_subject(
        name, task["ingest"], parked=False
    )  # fmt: skip
    app = subject.fastapi(fastapi_app(ROUTES))

    async def measured(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") != CPU_PATH:
            await app(scope, receive, send)
            return
        body = str(time.process_time_ns()).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            answer({"variants": [name], "port": self.servers[0].sockets[0].getsockname()[1]})

    Server(uvicorn.Config(measured, port=0, http="httptools", loop="asyncio", log_level="warning")).run()


# -- the load ---------------------------------------------------------------------------


def load(port: int, count: int) -> Reading:
    """Send `count` requests; returns wall time and the server's CPU time, each per request."""
    return asyncio.run(_load(port, count))


async def _load(port: int, count: int) -> Reading:
    before = int(await _get(port, CPU_PATH))
    begun = time.perf_counter_ns()
    share = count // CONNECTIONS
    await asyncio.gather(*[_send(port, share) for _ in range(CONNECTIONS)])
    wall = time.perf_counter_ns() - begun
    after = int(await _get(port, CPU_PATH))
    sent = share * CONNECTIONS
    return {"wall": wall / sent, "process": (after - before) / sent}


async def _send(port: int, count: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(count):
        await _exchange(reader, writer, f"/r{number % ROUTES}/{number}")
    writer.close()
    await writer.wait_closed()


async def _get(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = await _exchange(reader, writer, path)
    writer.close()
    await writer.wait_closed()
    return body


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> bytes:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: customer-7\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 200"), head
    length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    return await reader.readexactly(length)
