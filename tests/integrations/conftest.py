from __future__ import annotations

import gc
from typing import Any, Callable, Dict, Iterator, List, Optional, TypeVar

import pytest

from beaconhq import BeaconClient, MockTransport
from beaconhq.integrations.asgi import BeaconASGIMiddleware

from .asgi_server import Answer, ASGIApp, http_scope, serve

Event = Dict[str, Any]
Test = TypeVar("Test", bound=Callable[..., Any])


class Probe:
    """A client that delivers into memory, the ways to install it, and what arrived."""

    def __init__(self, make_client: Callable[..., BeaconClient], *, wrap: bool = True) -> None:
        self.transport = MockTransport()
        self._make_client = make_client
        self._client: Optional[BeaconClient] = None
        #: Wrap the application from outside, or use its `add_middleware`.
        self.wrap = wrap

    @property
    def client(self) -> BeaconClient:
        """The client; with plain options, unless `configure` was called first."""
        return self._client or self.configure()

    def configure(self, **options: Any) -> BeaconClient:
        # Nothing is sent before a flush asks for it.
        options = {"flush_interval": 3600, "batch_size": 10_000, **options}
        self._client = self._make_client(transport=self.transport, **options)
        return self._client

    def install(self, app: Any, **options: Any) -> ASGIApp:
        if self.wrap:
            return BeaconASGIMiddleware(app, self.client, **options)
        app.add_middleware(BeaconASGIMiddleware, client=self.client, **options)
        asgi_app: ASGIApp = app
        return asgi_app

    async def events(self) -> List[Event]:
        """Everything captured so far, as it went over the wire."""
        await self.client.flush()
        return self.transport.sent_events

    async def event(self) -> Event:
        """Return the one event that was captured."""
        (event,) = await self.events()
        return event

    async def observe(self, app: Any, method: str, path: str, **fields: Any) -> Event:
        """Install, serve one request (`fields` are the scope's) and return its event."""
        await serve(self.install(app), http_scope(method, path, **fields))
        return await self.event()

    async def serve(self, app: Any, path: str = "/", **options: Any) -> Answer:
        """Wrap from outside, with the adapter's `options`, and serve one GET."""
        return await serve(BeaconASGIMiddleware(app, self.client, **options), path)


def tolerate_old_starlette(test: Test) -> Test:
    """
    Let a test pass where Starlette itself warns.

    Before 0.38 it does not close its memory streams (TestClient, BaseHTTPMiddleware), and
    its TestClient uses what httpx 0.27 deprecated.
    """
    for mark in (
        pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
        pytest.mark.filterwarnings("ignore:The 'app' shortcut is now deprecated:DeprecationWarning"),
        pytest.mark.usefixtures("_collected"),
    ):
        test = mark(test)
    return test


@pytest.fixture
def _collected() -> Iterator[None]:
    yield
    gc.collect()  # here, where the warnings are expected


@pytest.fixture
def probe(make_client: Callable[..., BeaconClient]) -> Probe:
    return Probe(make_client)
