"""Serving an app of the documentation with a real server, in a process of its own."""

from __future__ import annotations

import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator, List, Mapping, Sequence, Tuple

import httpx
from local.processes import PATIENCE, running

if TYPE_CHECKING:
    from pathlib import Path

#: uvicorn ends by the signal that it was sent (before 0.29 or so: with 0).
STOPPED = (0, -signal.SIGTERM)


@contextmanager
def serving(module: str, folder: Path, **environment: str) -> Iterator[httpx.Client]:
    """Serve `app` of a module with uvicorn until the block ends; yields a client."""
    app = module if ":" in module else f"{module}:app"
    command = ("-m", "uvicorn", app, f"--app-dir={folder}", "--host=127.0.0.1", "--port=0")
    with served_by(command, environment) as visitor:
        yield visitor


@contextmanager
def served_by(
    command: Sequence[str], environment: Mapping[str, str], stop: signal.Signals = signal.SIGTERM
) -> Iterator[httpx.Client]:
    """Run the server of a command until the block ends; yields a client. A signal has stopped it then."""
    with running(*command, **environment) as process:
        url = process.wait_for(r"(http://127\.0\.0\.1:[0-9]+)")[1]
        # One connection per request: uvicorn closes it where the app raised.
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE, limits=limits) as visitor:
            yield visitor
        assert process.stop(stop) in STOPPED, "".join(process.output)


def with_port(command: Tuple[str, ...]) -> List[str]:
    """Put a free port where a server does not say which one it took."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return [part.replace("{port}", str(free.getsockname()[1])) for part in command]
