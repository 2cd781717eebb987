"""Real servers with certificates, a proxy, and servers that break the rules."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import ssl
import threading
from typing import Iterator, List, Tuple

import trustme
from process.ingest_server import RecordingIngest

#: The private certificate authority of these tests; no machine trusts it.
CA = trustme.CA()
#: Seconds without a byte after which the proxy gives a tunnel up.
IDLE = 30.0


class TLSIngest(RecordingIngest):
    """An ingest behind TLS; with `client_ca` it wants a certificate of its clients (mTLS)."""

    def __init__(self, name: str = "localhost", client_ca: bool = False, newest: bool = True) -> None:
        super().__init__()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        CA.issue_cert(name).configure_cert(context)
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            CA.configure_trust(context)
        if not newest:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self.port}"


class _ProxyHandler(socketserver.StreamRequestHandler):
    """One request to a proxy: a tunnel (CONNECT), or one request that is passed on."""

    server: _ProxyServer

    def handle(self) -> None:
        line = self.rfile.readline().decode("latin-1")
        method, target, _ = line.split(" ")
        head = list(iter(self.rfile.readline, b"\r\n"))
        self.server.proxy.requests.append((method, target, b"".join(head).decode("latin-1")))
        if self.server.proxy.refuses:
            self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        if method == "CONNECT":
            host, port = target.rsplit(":", 1)
            with socket.create_connection((host, int(port))) as upstream:
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._tunnel(upstream)
            return
        authority, _, path = target[len("http://") :].partition("/")
        host, port = authority.rsplit(":", 1)
        with socket.create_connection((host, int(port))) as upstream:
            upstream.sendall(f"{method} /{path} HTTP/1.1\r\n".encode() + b"".join(head) + b"\r\n")
            self._tunnel(upstream)

    def _tunnel(self, upstream: socket.socket) -> None:
        if self.rfile.peek():  # type: ignore[attr-defined]  # what was read ahead of the tunnel
            upstream.sendall(self.rfile.read1())
        others = {self.connection: upstream, upstream: self.connection}
        while True:
            ready, _, _ = select.select(list(others), [], [], IDLE)
            if not ready:
                return
            for each in ready:
                data = each.recv(65536)
                if not data:
                    return
                others[each].sendall(data)


class _ProxyServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _ProxyHandler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: a client may leave."""


class Proxy:
    """A real HTTP proxy, small; `requests` are the method, the target and the head of each."""

    def __init__(self) -> None:
        self.requests: List[Tuple[str, str, str]] = []
        self.refuses = False
        self._server = _ProxyServer(self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Proxy]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="proxy")
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Serve these bytes to whoever connects, whatever they are, and close."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("localhost", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="answering")
        thread.start()
        yield f"http://localhost:{server.server_address[1]}"
        server.shutdown()
        thread.join()
