"""
A recording ingest on threads: no asyncio, no httpx, so that it shares no fault with what it tests.

It listens on the host *name* `localhost`, records every POST as it arrives, and answers
as it is told to: with a status, after a delay, never, or drop by drop.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any, Callable, Dict, List, Optional, Type

#: Longest wait for anything to arrive, in seconds.
PATIENCE = 30.0


class Post:
    """One POST, recorded when its body was complete."""

    def __init__(self, body: bytes, headers: Dict[str, str], connection: int) -> None:
        self.body = body
        self.headers = headers
        #: The number of the connection that it came over, from 0.
        self.connection = connection
        #: When it arrived (monotonic seconds of the ingest's process).
        self.arrived = time.monotonic()
        #: Status of the answer once it is fully written, else None.
        self.answered: Optional[int] = None
        self.events: List[Dict[str, Any]] = json.loads(body)["events"]

    @property
    def paths(self) -> List[str]:
        return [event["path"] for event in self.events]

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]


class RecordingIngest:
    """
    The server; use it as a context manager.

    Its port is taken from the beginning, but connections are refused until it is entered.
    """

    def __init__(self, handler: Optional[Type[IngestHandler]] = None) -> None:
        self.posts: List[Post] = []
        #: Connections accepted so far.
        self.connections = 0
        self.status = 202
        #: Statuses of the next answers, before `status` applies.
        self.statuses: List[int] = []
        #: Where a redirect points, or "".
        self.location = ""
        #: Seconds between a POST and its answer.
        self.delay = 0.0
        #: "head" or "body": that part of the answer comes a byte at a time, for ever.
        self.drip: Optional[str] = None
        #: While it is clear, no POST is answered.
        self.answering = threading.Event()
        self.answering.set()
        self.stopping = threading.Event()
        self._changed = threading.Condition()
        self._sockets: List[socket.socket] = []
        self._server = _Server(self, handler or IngestHandler)
        self.port: int = self._server.server_address[1]
        self.url = f"http://localhost:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="ingest")

    def __enter__(self) -> RecordingIngest:  # noqa: PYI034 - Self is 3.11's
        self._server.server_activate()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.answering.set()
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join()
        self.cut_connections()
        self._server.server_close()  # waits for the connections' threads

    # -- what arrived -------------------------------------------------------------------

    @property
    def paths(self) -> List[str]:
        """The path of every event of every POST, in the order of arrival."""
        return [path for post in tuple(self.posts) for path in post.paths]

    @property
    def accepted_paths(self) -> List[str]:
        """The paths that a real ingest would store: a key that was accepted counts once."""
        accepted = {post.key: post for post in tuple(self.posts) if post.answered in range(200, 300)}
        return [path for post in accepted.values() for path in post.paths]

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Return as soon as `condition` holds; it is tried at every change."""
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE), f"never came: {what}; have {self.paths}"

    def wait_for_events(self, count: int) -> None:
        self.wait_until(lambda: len(self.paths) >= count, f"{count} events")

    def wait_for_posts(self, count: int) -> None:
        self.wait_until(lambda: len(self.posts) >= count, f"{count} POSTs")

    # -- from the connections' threads --------------------------------------------------

    def add_connection(self, connection: socket.socket) -> int:
        with self._changed:
            self._sockets.append(connection)
            self.connections += 1
            return self.connections - 1

    def add_post(self, post: Post) -> None:
        with self._changed:
            self.posts.append(post)
            self._changed.notify_all()

    def note_answer(self, post: Post, status: int) -> None:
        with self._changed:
            post.answered = status
            self._changed.notify_all()

    def cut_connections(self) -> None:
        """Close every open connection, as a restarting ingest does."""
        with self._changed:
            sockets, self._sockets = self._sockets, []
        for connection in sockets:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it is closed already


class _Server(ThreadingTCPServer):
    request_queue_size = 128
    daemon_threads = False

    def __init__(self, ingest: RecordingIngest, handler: Type[IngestHandler]) -> None:
        self.ingest = ingest
        super().__init__(("localhost", 0), handler, bind_and_activate=False)
        self.server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: clients that leave in the middle are what many tests are about."""


class IngestHandler(BaseHTTPRequestHandler):
    """One connection; answers as the ingest was told to."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.number = self.server.ingest.add_connection(self.connection)

    def receive(self) -> Post:
        """Read and record one POST."""
        body = self.rfile.read(int(self.headers["content-length"]))
        post = Post(body, {name.lower(): value for name, value in self.headers.items()}, self.number)
        self.server.ingest.add_post(post)
        return post

    def do_POST(self) -> None:
        self.serve()

    def serve(self) -> None:
        """Read a POST and answer it."""
        ingest = self.server.ingest
        post = self.receive()
        if ingest.delay:
            ingest.stopping.wait(ingest.delay)
        ingest.answering.wait()
        if ingest.stopping.is_set():
            self.close_connection = True
            return
        status = ingest.statuses.pop(0) if ingest.statuses else ingest.status
        answer = f"HTTP/1.1 {status} Whatever\r\nContent-Length: 2\r\n".encode()
        if ingest.location:
            answer += f"Location: {ingest.location}\r\n".encode()
        if ingest.drip == "head":
            self.drip(answer + b"X-Long: ")
        elif ingest.drip == "body":
            self.wfile.write(answer.replace(b"h: 2", b"h: 100000") + b"\r\n")
            self.drip(b"")
        else:
            self.wfile.write(answer + b"\r\n{}")
            ingest.note_answer(post, status)

    def drip(self, begin: bytes) -> None:
        """Send a byte at a time, for as long as anybody reads."""
        self.close_connection = True
        deadline = time.monotonic() + PATIENCE
        for byte in begin:
            self._drop(byte)
        while not self.server.ingest.stopping.is_set() and time.monotonic() < deadline:
            self._drop(0x61)

    def _drop(self, byte: int) -> None:
        self.wfile.write(bytes([byte]))
        self.server.ingest.stopping.wait(0.02)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Write nothing to stderr."""
