"""Real servers: starting them, loading them with requests, and what must have been delivered."""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, List, NamedTuple, Sequence, Set

from .children import LIFETIME, free_port, running, wait_until

if TYPE_CHECKING:
    import signal
    import subprocess

    from .ingest_server import RecordingIngest

APPS = str(Path(__file__).parent / "apps")
SLOW = [f"/slow/{number}" for number in range(5)]


class Server(NamedTuple):
    """A running server and what is known about it."""

    process: subprocess.Popen[str]
    port: int

    def get(self, path: str) -> Any:
        """Return the answer to one request over a connection of its own."""
        connection = http.client.HTTPConnection("localhost", self.port, timeout=LIFETIME)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"connection": "close"})
            answer = connection.getresponse()
            assert answer.status == 200
            return json.load(answer)

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.process.stdout and self.process.stdout.read()
        with contextlib.suppress(OSError, http.client.HTTPException):
            return bool(self.get("/inside/process"))
        return False

    def workers(self, count: int) -> Set[int]:
        """Return the process ids of `count` workers, once that many have answered."""
        pids: Set[int] = set()

        def see() -> bool:
            pids.add(self.get("/inside/process")["pid"])
            return len(pids) >= count

        wait_until(see, f"answers from {count} workers")
        return pids

    def end(self, signum: signal.Signals) -> str:
        """Send a signal, wait for the end, and return what the server printed."""
        self.process.send_signal(signum)
        output, _ = self.process.communicate(timeout=LIFETIME)
        return output


@contextlib.contextmanager
def serving(
    ingest: RecordingIngest, command: Sequence[str], bind: str = "--bind=localhost:{port}", **env: str
) -> Iterator[Server]:
    """Run a server of the applications in `apps` until the block ends, at the latest."""
    port = free_port()
    paths = {"PYTHONPATH": ":".join([APPS, *filter(None, sys.path)])}
    with running([*command, bind.format(port=port)], INGEST_URL=ingest.url, **paths, **env) as process:
        server = Server(process, port)
        wait_until(server.is_up, "the server")
        yield server


class Load:
    """Clients that send request after request until the server is gone; knows what was answered."""

    def __init__(self, server: Server, clients: int = 4, slow: Sequence[str] = SLOW) -> None:
        self.asked: List[str] = []
        self.answered: List[str] = []
        self._server = server
        self._slow = slow
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]
        self._threads += [threading.Thread(target=self._ask, args=(path,)) for path in slow]

    def __enter__(self) -> Load:  # noqa: PYI034 - Self is 3.11's
        for thread in self._threads:
            thread.start()
        wait_until(lambda: set(self._slow) <= set(self.asked), "the slow requests")
        wait_until(lambda: len(self.answered) > 50, "some quick requests")
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(LIFETIME)
            assert not thread.is_alive()

    def _run(self, client: int) -> None:
        number = 0
        while self._ask(f"/items/{client}-{number}"):
            number += 1

    def _ask(self, path: str) -> bool:
        """Send one request; False when the server is gone."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.asked.append(path)
            self._server.get(path)
            self.answered.append(path)
            return True
        return False


def delivered(ingest: RecordingIngest) -> List[str]:
    """Return the paths that arrived, without those by which the tests look inside."""
    return [path for path in ingest.paths if not path.startswith("/inside/")]


def senders(ingest: RecordingIngest) -> Set[int]:
    """Return the ids of the processes whose requests arrived: the applications name them as the consumer."""
    return {int(event["consumer"]) for post in tuple(ingest.posts) for event in post.events}


def assert_delivered_once(load: Load, ingest: RecordingIngest, extra: Sequence[str] = ()) -> None:
    """
    What was answered arrived once, and nothing that was not asked for, but for `extra`.

    An answer may be cut off on its way when the server closes (hypercorn does that now
    and then): the application answered, so its event is true, and nobody counts the answer.
    """
    paths = delivered(ingest)
    assert len(paths) == len(set(paths))
    assert set(load.answered) | set(extra) <= set(paths) <= set(load.asked) | set(extra)
