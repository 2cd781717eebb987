"""`BeaconLifespan`: a lifespan for applications that have none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List

import anyio
from support.events import event

from beaconhq.integrations.asgi import BeaconLifespan

if TYPE_CHECKING:
    from .asgi_server import Receive, Send
    from .conftest import Probe


async def test_the_drain_runs_between_startup_and_shutdown(probe: Probe) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        raise AssertionError("the application has no lifespan")

    to_app, from_server = anyio.create_memory_object_stream[Dict[str, Any]](2)
    sent: List[str] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])
        assert probe.client.stats()["host"] == ("event_loop" if "startup" in message["type"] else None)
        if "startup" in message["type"]:
            probe.client.capture(event())
            await to_app.send({"type": "lifespan.shutdown"})

    with to_app, from_server:
        await to_app.send({"type": "lifespan.startup"})
        await BeaconLifespan(app, probe.client)({"type": "lifespan"}, from_server.receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert len(probe.transport.sent_events) == 1


async def test_requests_pass_through(probe: Probe) -> None:
    seen: List[Any] = []

    async def app(*args: Any) -> None:
        seen.extend(args)

    scope, receive, send = {"type": "http"}, object(), object()
    await BeaconLifespan(app, probe.client)(scope, receive, send)  # type: ignore[arg-type]
    assert seen == [scope, receive, send]
