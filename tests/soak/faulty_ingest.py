"""
An ingest in a process of its own that fails as it is told to, and remembers what it stored.

Written on bare asyncio streams: it shares no code with what it tests. It obeys one word a line on
standard input (see `Mode`) and answers `report` with one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from enum import Enum
from typing import Dict, List, Optional, Set

#: Seconds by which `slow` delays its answers; below the client's time-out.
SLOW = 0.15
#: Events above which `halves` answers 413.
SMALL = 10


class Mode(Enum):
    """What happens to a POST."""

    OK = "ok"
    #: Nobody listens, and open connections are reset.
    DOWN = "down"
    #: Answered late.
    SLOW = "slow"
    #: Read and never answered.
    HANG = "hang"
    #: The connection is reset before anything is stored.
    RESET = "reset"
    #: Stored, and the connection is reset before the answer.
    LOST = "lost"
    ERROR = "error"
    #: 429 with `Retry-After: 1`.
    LATER = "later"
    #: 413 for batches of more than `SMALL` events.
    HALVES = "halves"


class FaultyIngest:
    """Owns the listener, the mode and the record."""

    def __init__(self) -> None:
        self.mode = Mode.OK
        self.posts = 0
        #: Times that each path was stored.
        self.stored: Dict[str, int] = {}
        self._keys: Set[str] = set()
        self._port = 0
        self._server: Optional[asyncio.AbstractServer] = None
        self._writers: Set[asyncio.StreamWriter] = set()

    async def listen(self) -> int:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self._port, family=socket.AF_INET, backlog=128
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self._port

    async def turn(self, mode: Mode) -> None:
        """Change the mode, and with it whether anybody listens."""
        if mode is Mode.DOWN and self._server is not None:
            self._server.close()
            self._server = None
            for writer in self._writers:
                _reset(writer)
        self.mode = mode
        if mode is not Mode.DOWN and self._server is None:
            await self.listen()

    def report(self) -> Dict[str, int]:
        """Return what was stored, in events; `twice` are those that an ingest should not have."""
        twice = sum(times > 1 for times in self.stored.values())
        return {"posts": self.posts, "stored": len(self.stored), "twice": twice}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._answer_one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went away, or was sent away
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read one POST and do with it what the mode says; False where the connection is over."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head)}
        body = await reader.readexactly(int(headers["content-length"]))
        paths = [event["path"] for event in json.loads(body)["events"]]
        self.posts += 1
        mode = self.mode
        if mode is Mode.HANG:
            await reader.read()  # until the client gives up
            return False
        if mode is Mode.RESET:
            _reset(writer)
            return False
        if mode is Mode.SLOW:
            await asyncio.sleep(SLOW)
        status, extra = _STATUS.get(mode, (202, ""))
        key = headers["idempotency-key"]
        # What was stored under this key is not refused for its size: its halves would be stored again.
        if mode is Mode.HALVES and len(paths) > SMALL and key not in self._keys:
            status = 413
        if status == 202:
            self._store(paths, key)
        if mode is Mode.LOST:
            _reset(writer)
            return False
        writer.write(f"HTTP/1.1 {status} Whatever\r\n{extra}Content-Length: 2\r\n\r\n{{}}".encode())
        await writer.drain()
        return True

    def _store(self, paths: List[str], key: str) -> None:
        if key not in self._keys:
            self._keys.add(key)
            for path in paths:
                self.stored[path] = self.stored.get(path, 0) + 1


_STATUS = {Mode.ERROR: (503, ""), Mode.LATER: (429, "Retry-After: 1\r\n")}


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, not FIN."""
    writer.transport.abort()


async def main() -> None:
    """Print the port, then obey until standard input ends."""
    ingest = FaultyIngest()
    loop = asyncio.get_running_loop()
    _say(await ingest.listen())
    while True:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        if not line:
            return
        word = line.strip()
        if word != "report":
            await ingest.turn(Mode(word))
        _say(ingest.report() if word == "report" else word)


def _say(answer: object) -> None:
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
