"""Ingests, proxies and silent listeners on threads, for the doctor to examine."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, Iterator, List, Optional, Tuple

#: Longest life of a tunnel, in seconds.
PATIENCE = 30.0


class Server(ThreadingHTTPServer):
    """Answers GET and POST as it is told to, and CONNECT as a proxy does; records what it was asked."""

    daemon_threads = True

    def __init__(self, context: Optional[ssl.SSLContext] = None) -> None:
        super().__init__(("localhost", 0), _Handler)
        self.context = context
        #: Status of the answer by method; a proxy tunnels where CONNECT is 200.
        self.statuses: Dict[str, int] = {"GET": 405, "POST": 202, "CONNECT": 200}
        self.headers: Dict[str, str] = {}
        #: Seconds between a request and its answer, by method.
        self.delays: Dict[str, float] = {}
        #: Method, target and headers of every request.
        self.requests: List[Tuple[str, str, Dict[str, str]]] = []
        self.stopping = threading.Event()
        scheme = "http" if context is None else "https"
        self.port: int = self.server_address[1]
        self.url = f"{scheme}://localhost:{self.port}"

    def finish_request(self, request: Any, client_address: Any) -> None:
        # Here and not in the accepting thread: a handshake may hang.
        if self.context is not None:
            try:
                request = self.context.wrap_socket(request, server_side=True)
            except (OSError, ssl.SSLError):
                return
        super().finish_request(request, client_address)
        if self.context is not None:
            request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: clients that leave in the middle are what the tests are about."""

    @property
    def methods(self) -> List[str]:
        return [method for method, _, _ in self.requests]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _answer(self) -> None:
        server = self.server
        self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        server.requests.append((self.command, self.path, headers))
        server.stopping.wait(server.delays.get(self.command, 0))
        self.send_response_only(server.statuses[self.command])
        for name, value in {"Date": self.date_time_string(), **server.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_CONNECT(self) -> None:
        if self.server.statuses["CONNECT"] != 200:
            self._answer()
            return
        self.server.requests.append((self.command, self.path, {}))
        host, _, port = self.path.partition(":")
        with socket.create_connection((host, int(port))) as ahead:
            self.send_response_only(200)
            self.end_headers()
            _tunnel(self.connection, ahead)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _tunnel(one: socket.socket, other: socket.socket) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for ready in select.select([one, other], [], [], 1)[0]:
            data = ready.recv(65536)
            if not data:
                return
            (other if ready is one else one).sendall(data)


@contextmanager
def serving(context: Optional[ssl.SSLContext] = None) -> Iterator[Server]:
    server = Server(context)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def listening(backlog: int = 16) -> Iterator[int]:
    """Listen on a port, and never say anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as listener:
        yield listener.getsockname()[1]


@contextmanager
def taking_nobody() -> Iterator[int]:
    """Listen on a port whose queue is full, so that no further connection gets through."""
    with listening(backlog=0) as port:
        waiting = []
        for _ in range(3):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        try:
            yield port
        finally:
            for one in waiting:
                one.close()
