"""
An ingest that reads and answers 202 with `{}` to whatever is posted, and counts nothing.

As a process of its own, so that its work is nobody's CPU time; it prints its port.
"""

from __future__ import annotations

import asyncio

_ANSWER = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class _Connection(asyncio.Protocol):
    """Finds where a request ends (Content-Length or chunks) and answers it."""

    def __init__(self) -> None:
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while True:
            end = self._end_of_request()
            if end == 0:
                return
            del self._received[:end]
            self._transport.write(_ANSWER)

    def _end_of_request(self) -> int:
        """Return the length of the first request, or 0 while it is not complete."""
        head_end = self._received.find(b"\r\n\r\n") + 4
        if head_end < 4:
            return 0
        headers = dict(
            line.lower().split(b":", 1) for line in bytes(self._received[:head_end]).split(b"\r\n")[1:-2]
        )
        if headers.get(b"transfer-encoding", b"").strip() == b"chunked":
            end = self._received.find(b"0\r\n\r\n", head_end - 2)
            return 0 if end < 0 else end + 5
        end = head_end + int(headers.get(b"content-length", b"0"))
        return end if len(self._received) >= end else 0


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - the protocol
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
