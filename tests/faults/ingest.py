"""
An ingest with faults, in a process of its own: it stores as the local ingest does, and then misbehaves.

`FaultProcess` runs it and hands out proxies: every method of `FaultIngest` is a call into that process. What
arrives is checked by `beaconhq.local.validation` and stored by `beaconhq.local.store`, or by a real
`beaconhq local` behind it (`upstream`).
"""

from __future__ import annotations

import contextlib
import http.client
import multiprocessing
import socket
import sqlite3
import struct
import time
from email.utils import formatdate
from multiprocessing.managers import BaseManager
from typing import TYPE_CHECKING, Any, List, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from process.ingest_server import PATIENCE, IngestHandler, Post, RecordingIngest

from beaconhq.local.store import EventStore
from beaconhq.local.validation import InvalidBody, InvalidEvent, parse_batch

KEY = "faults-key"

#: For `Fault.stored`: the events were stored, whatever the sender hears.
STORED = True
#: Faults that leave the sender without an answer.
ANSWERLESS = frozenset({"reset", "close", "hang", "reset_in_head", "drip_head", "endless_head", "garbage"})


class Fault(NamedTuple):
    """What becomes of one POST; the plain one is an ingest that works."""

    #: A method of `_FaultHandler`.
    kind: str = "answer"
    status: int = 202
    headers: Tuple[Tuple[str, str], ...] = ()
    #: Whether the events are stored before the fault; None: where the answer will say so.
    stored: Optional[bool] = None

    @property
    def stores(self) -> bool:
        if self.stored is not None:
            return self.stored
        return 200 <= self.status < 300 and self.kind not in ANSWERLESS


class Seen(NamedTuple):
    """What an ingest saw."""

    posts: List[Post]
    #: POSTs that were broken off before their body was read.
    unread: int
    #: Why an event or a request was refused: the strict validation.
    refused: List[str]
    connections: int
    #: Connections to the other origin that redirects lead to.
    elsewhere: int


class FaultIngest(RecordingIngest):
    """Answers POSTs with the faults that it was given, and then as it should."""

    def __init__(self, upstream: Optional[str] = None) -> None:
        super().__init__(_FaultHandler)
        self._store = EventStore()
        self._upstream = upstream
        self._elsewhere = RecordingIngest().__enter__()
        self._faults: List[Fault] = []
        self._then = Fault()
        self._refused: List[str] = []
        self._unread = 0

    # -- from the test's process --------------------------------------------------------

    def come_up(self) -> None:
        """Listen; until then connections are refused."""
        self.__enter__()

    def close(self) -> None:
        self.__exit__()
        self._elsewhere.__exit__()
        self._store.close()

    def get_url(self) -> str:
        return self.url

    def script(self, faults: Sequence[Fault], then: Fault = Fault()) -> None:  # noqa: B008 - immutable
        """Give the next POSTs these faults, and `then` to all that follow."""
        self._faults, self._then = list(faults), then

    def hold(self) -> None:
        """Store what arrives, and answer nothing until `release`."""
        self.answering.clear()

    def release(self) -> None:
        self.answering.set()

    def seen(self) -> Seen:
        return Seen(
            list(self.posts), self._unread, self._refused, self.connections, self._elsewhere.connections
        )

    def count_posts(self) -> int:
        return len(self.posts) + self._unread

    def stored(self) -> List[str]:
        """Return the paths of the stored events, in the order of their arrival."""
        with contextlib.closing(sqlite3.connect(str(self._store.path))) as connection:
            return [path for (path,) in connection.execute("SELECT path FROM events ORDER BY id")]

    def duplicates(self) -> int:
        """Return how many POSTs repeated a key that was stored before."""
        return self._store.summary().totals.duplicates

    # -- from the connections' threads --------------------------------------------------

    def next_fault(self) -> Fault:
        return self._faults.pop(0) if self._faults else self._then

    def locate_elsewhere(self) -> str:
        return f"http://127.0.0.1:{self._elsewhere.port}/v1/ingest"

    def note_unread(self) -> None:
        self._unread += 1

    def accept(self, post: Post, fault: Fault) -> int:
        """Check and store; return the status that a working ingest would answer."""
        if self._upstream is not None:
            status = _forward(post, self._upstream)
            return status if fault == Fault() else fault.status
        problem = _find_problem(post)
        if problem is not None:
            self._refused.append(problem)
            return 400
        if fault.stores:
            self._store.add(parse_batch(post.body), post.key)
        return fault.status


def _find_problem(post: Post) -> Optional[str]:
    """Return what the hosted ingest would object to, or None."""
    wanted = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    for name, value in wanted.items():
        if post.headers.get(name) != value:
            return f"{name} is {post.headers.get(name)!r}"
    if not post.headers.get("idempotency-key"):
        return "no idempotency-key"
    try:
        return None if parse_batch(post.body) else "an empty batch"
    except (InvalidBody, InvalidEvent) as error:
        return str(error)


def _forward(post: Post, upstream: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/ingest", post.body, post.headers)
        return connection.getresponse().status


class _FaultHandler(IngestHandler):
    """One connection; each kind of fault is the method of its name."""

    @property
    def ingest(self) -> FaultIngest:
        ingest = self.server.ingest
        assert isinstance(ingest, FaultIngest)
        return ingest

    def serve(self) -> None:
        fault = self.ingest.next_fault()
        if fault.kind == "reset_unread":
            self.ingest.note_unread()
            self._reset()
            return
        post = self.receive()
        status = self.ingest.accept(post, fault)
        self.ingest.answering.wait()
        getattr(self, fault.kind)(fault, status)
        if fault.kind == "answer":
            self.ingest.note_answer(post, status)

    def answer(self, fault: Fault, status: int) -> None:
        # RFC 9110, section 6.4.1: these two have no content.
        body = b"" if status in (204, 304) else b"{}"
        length = [("Content-Length", str(len(body)))] if body else []
        self._write(_head(status, [*length, *fault.headers]) + body)

    def answer_and_close(self, fault: Fault, status: int) -> None:
        """The connection is closed between two POSTs, without a word in the answer."""
        self.answer(fault, status)
        self.close_connection = True

    def redirect(self, fault: Fault, status: int) -> None:
        location = ("Location", self.ingest.locate_elsewhere())
        self.answer(fault._replace(headers=(location,)), status)

    def retry_at_date(self, fault: Fault, status: int) -> None:
        """The clocks of ingests are wrong: this one is an hour behind, and asks for two seconds."""
        now = time.time() - 3600
        dates = (("Date", formatdate(now, usegmt=True)), ("Retry-After", formatdate(now + 2, usegmt=True)))
        self.answer(fault._replace(headers=dates), status)

    def delay(self, fault: Fault, status: int) -> None:
        """100 ms from the POST to its answer."""
        self.ingest.stopping.wait(0.1)
        self.answer(fault, status)

    def hang(self, fault: Fault, status: int) -> None:
        self.close_connection = True
        self.ingest.stopping.wait(PATIENCE)

    def close(self, fault: Fault, status: int) -> None:
        self.close_connection = True

    def reset(self, fault: Fault, status: int) -> None:
        self._reset()

    def reset_in_head(self, fault: Fault, status: int) -> None:
        self._write(_head(status, [])[:-10])
        self._reset()

    def reset_in_body(self, fault: Fault, status: int) -> None:
        self._write(_head(status, [("Content-Length", "1000")]) + b"{")
        # The head must be read before the reset, which would discard it.
        self.ingest.stopping.wait(0.1)
        self._reset()

    def drip_head(self, fault: Fault, status: int) -> None:
        self.drip(_head(status, [])[:-2] + b"X-Long: ")

    def drip_body(self, fault: Fault, status: int) -> None:
        self._write(_head(status, [("Content-Length", "100000")]))
        self.drip(b"")

    def garbage(self, fault: Fault, status: int) -> None:
        self._write(b"\x16\x03\x01 * OK IMAP4 ready\r\n\x00\xff\r\n\r\n")
        self.close_connection = True

    def endless_head(self, fault: Fault, status: int) -> None:
        self._write(_head(status, [])[:-2])
        self._flood(b"X-More: " + b"x" * 1000 + b"\r\n")

    def huge_body(self, fault: Fault, status: int) -> None:
        self._write(_head(status, [("Content-Length", str(1 << 40))]))
        self._flood(b"x" * 65536)

    # -- means --------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        self.wfile.write(data)

    def _flood(self, piece: bytes) -> None:
        """Send on and on, until nobody reads any more."""
        self.close_connection = True
        deadline = time.monotonic() + PATIENCE
        while not self.ingest.stopping.is_set() and time.monotonic() < deadline:
            self._write(piece)

    def _reset(self) -> None:
        """End the connection with RST: `SO_LINGER` with no time to linger."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        # `finish` flushes; what it would flush has nowhere to go.
        self.wfile.close()


def _head(status: int, headers: List[Tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode()


class FaultProcess(BaseManager):
    """The process; each call of `FaultIngest()` makes another ingest in it."""

    if TYPE_CHECKING:

        def FaultIngest(self, upstream: Optional[str] = None) -> FaultIngest: ...  # noqa: N802


FaultProcess.register("FaultIngest", FaultIngest)


@contextlib.contextmanager
def fault_process() -> Any:
    """Run the process until the block ends."""
    with FaultProcess(ctx=multiprocessing.get_context("spawn")) as process:
        yield process
