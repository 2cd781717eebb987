"""Fixtures for the whole suite."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Any, Callable, Iterator, List

import pytest

from beaconhq import BeaconClient

if TYPE_CHECKING:
    from beaconhq.errors import BeaconError

# A shell starts what it runs in the background with SIGINT ignored, and `nohup` with SIGHUP; so would
# be what the tests start: servers that are to end by them.
for _signum, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_signum) is signal.SIG_IGN:
        signal.signal(_signum, _handler)


@pytest.fixture(scope="session", autouse=True)
def _main_loop() -> Iterator[None]:
    """
    Own the main thread's event loop.

    Before 3.12 pytest-asyncio makes one by looking for it, and nobody closes it.
    """
    if sys.version_info < (3, 12):
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        yield
        loop.close()
    else:
        yield


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def reported() -> List[BeaconError]:
    """What `on_error` of the clients made by `make_client` received."""
    return []


@pytest.fixture
def make_client(reported: List[BeaconError]) -> Iterator[Callable[..., BeaconClient]]:
    """Make clients that are shut down after the test and leave nothing for the exit."""
    clients: List[BeaconClient] = []

    def make(**options: Any) -> BeaconClient:
        options = {"on_error": reported.append, "register_atexit": False, "shutdown_timeout": 2, **options}
        clients.append(BeaconClient(options.pop("ingest_key", "test-key"), **options))
        return clients[-1]

    yield make
    for client in clients:
        client.shutdown()
