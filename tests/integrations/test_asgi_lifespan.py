"""
The drain in the application's own event loop, from startup to shutdown.

The rules of the drain itself are tested elsewhere; here it is where it runs, and that the
application's own lifespan stays what it was.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Dict, List, Optional

import httpx
import pytest
import trio
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient

from beaconhq import BeaconClient, MockTransport, SendResult
from beaconhq.integrations.asgi import BeaconASGIMiddleware

from .asgi_server import ASGIApp, LifespanServer, Receive, Send, outcome_of_lifespan, running, serve
from .conftest import Probe, tolerate_old_starlette

if TYPE_CHECKING:
    from starlette.requests import Request

every_framework = pytest.mark.parametrize("make_app", [Starlette, FastAPI])
added_and_wrapped = pytest.mark.parametrize("wrap", [True, False], ids=["wrapped", "added"])


async def ok(request: Request) -> Response:
    return PlainTextResponse("ok")


ROUTES: List[BaseRoute] = [Route("/", ok)]


def _threads() -> List[str]:
    """Return our threads that are there to stay; one that is about to end may do so."""
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("beaconhq")]
    for thread in ours:
        thread.join(1 if thread.name == "beaconhq-bridge" else 10)
    return [thread.name for thread in ours if thread.is_alive()]


# -- hosting ----------------------------------------------------------------------------


@every_framework
@added_and_wrapped
async def test_the_event_loop_of_the_application_hosts_the_drain(
    probe: Probe, make_app: Any, wrap: bool
) -> None:
    probe.wrap = wrap
    app = probe.install(make_app(routes=ROUTES))
    assert probe.client.stats()["host"] is None
    async with running(app):
        await serve(app, "/")
        assert (await probe.event())["status"] == 200
        assert probe.client.stats()["host"] == "event_loop"
        assert probe.client.stats()["state"] == "running"
        assert _threads() == []
    assert probe.client.stats()["host"] is None
    assert probe.client.stats()["state"] == "idle"


async def test_a_drain_that_the_bridge_began_is_taken_over(probe: Probe) -> None:
    app = probe.install(Starlette(routes=ROUTES))
    await serve(app, "/")
    assert probe.client.stats()["host"] == "thread"
    async with running(app):
        await serve(app, "/")
        assert len(await probe.events()) == 2
        assert probe.client.stats()["host"] == "event_loop"
        assert _threads() == []


@every_framework
async def test_everything_is_delivered_before_the_shutdown_is_complete(
    make_client: Callable[..., BeaconClient], make_app: Any
) -> None:
    class LoggingTransport(MockTransport):
        def send(self, events: List[Dict[str, Any]]) -> SendResult:
            server.log.append(f"delivered {len(events)}")
            return super().send(events)

    client = make_client(transport=LoggingTransport(), flush_interval=3600)
    server = LifespanServer(BeaconASGIMiddleware(make_app(routes=ROUTES), client))
    await server.startup()
    for _ in range(3):
        await serve(server.app, "/")
    await server.shutdown()
    assert server.log == ["lifespan.startup.complete", "delivered 3", "lifespan.shutdown.complete", "ended"]


async def test_what_the_application_captures_while_it_stops_is_delivered(probe: Probe) -> None:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        yield
        await serve(installed, "/")

    installed = probe.install(Starlette(routes=ROUTES, lifespan=lifespan))
    async with running(installed):
        await serve(installed, "/")
    assert len(probe.transport.sent_events) == 2


async def test_what_the_application_captures_while_it_starts_waits_for_no_thread(probe: Probe) -> None:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        await serve(installed, "/")
        hosts.append(probe.client.stats()["host"])
        yield

    hosts: List[Optional[str]] = []
    installed = probe.install(Starlette(routes=ROUTES, lifespan=lifespan))
    async with running(installed):
        assert hosts == ["event_loop"]
    assert len(probe.transport.sent_events) == 1


async def test_an_application_can_be_started_again(probe: Probe) -> None:
    app = probe.install(Starlette(routes=ROUTES))
    for round_ in (1, 2, 3):
        async with running(app):
            await serve(app, "/")
            assert probe.client.stats()["host"] == "event_loop"
        assert len(probe.transport.sent_events) == round_


async def test_one_client_twice_around_an_application_is_hosted_until_both_are_done(probe: Probe) -> None:
    inner = probe.install(Starlette(routes=ROUTES))
    outer = probe.install(inner)
    async with running(outer):
        await serve(outer, "/")
        assert len(await probe.events()) == 1
        assert probe.client.stats()["host"] == "event_loop"
    assert probe.client.stats()["host"] is None


async def test_two_clients_are_hosted_in_one_loop(
    probe: Probe, make_client: Callable[..., BeaconClient]
) -> None:
    second = make_client(dry_run=True)
    app = probe.install(BeaconASGIMiddleware(Starlette(routes=ROUTES), second))
    async with running(app):
        await serve(app, "/")
        assert {probe.client.stats()["host"], second.stats()["host"]} == {"event_loop"}
    assert [probe.client.stats()["delivered"], second.stats()["delivered"]] == [1, 1]


async def test_a_disabled_client_hosts_nothing(make_client: Callable[..., BeaconClient]) -> None:
    client = make_client(enabled=False)
    async with running(BeaconASGIMiddleware(Starlette(routes=ROUTES), client)):
        assert client.stats()["host"] is None


# -- the application's own lifespan -----------------------------------------------------


def _raise(error: Exception) -> None:
    raise error


@asynccontextmanager
async def _with_state(app: Any) -> AsyncIterator[Dict[str, str]]:
    yield {"database": "connected"}


@asynccontextmanager
async def _fails_to_start(app: Any) -> AsyncIterator[None]:
    _raise(RuntimeError("no database"))
    yield


@asynccontextmanager
async def _fails_to_stop(app: Any) -> AsyncIterator[None]:
    yield
    raise RuntimeError("still busy")


async def _refuses_lifespan(scope: Any, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http", "only http"


async def _ignores_lifespan(scope: Any, receive: Receive, send: Send) -> None:
    return


async def _dies_after_the_startup_message(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    raise LookupError("no lifespan here")


async def _answers_nothing(scope: Any, receive: Receive, send: Send) -> None:
    await receive()


async def _dies_without_a_word_at_shutdown(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    raise LookupError("at the end")


LIFESPANS: Dict[str, Callable[[], ASGIApp]] = {
    "plain": lambda: Starlette(routes=ROUTES),
    "state": lambda: Starlette(routes=ROUTES, lifespan=_with_state),
    "startup fails": lambda: Starlette(routes=ROUTES, lifespan=_fails_to_start),
    "shutdown fails": lambda: Starlette(routes=ROUTES, lifespan=_fails_to_stop),
    "FastAPI, state": lambda: FastAPI(routes=ROUTES, lifespan=_with_state),
    "FastAPI, startup fails": lambda: FastAPI(routes=ROUTES, lifespan=_fails_to_start),
    "FastAPI, shutdown fails": lambda: FastAPI(routes=ROUTES, lifespan=_fails_to_stop),
    "refused": lambda: _refuses_lifespan,
    "ignored": lambda: _ignores_lifespan,
    "dies after startup": lambda: _dies_after_the_startup_message,
    "answers nothing": lambda: _answers_nothing,
    "dies at shutdown": lambda: _dies_without_a_word_at_shutdown,
}


@pytest.mark.parametrize("behaviour", LIFESPANS)
async def test_a_lifespan_goes_as_it_would_without_us(probe: Probe, behaviour: str) -> None:
    bare_messages, bare_exception = await outcome_of_lifespan(LIFESPANS[behaviour]())
    messages, exception = await outcome_of_lifespan(probe.install(LIFESPANS[behaviour]()))
    assert [_without_traceback(message) for message in messages] == [
        _without_traceback(message) for message in bare_messages
    ]
    assert type(exception) is type(bare_exception)
    assert str(exception) == str(bare_exception)
    assert probe.client.stats()["host"] is None


def _without_traceback(message: Dict[str, Any]) -> Dict[str, Any]:
    return {**message, "message": message.get("message", "").rstrip().rpartition("\n")[2]}


@added_and_wrapped
@every_framework
async def test_lifespan_state_passes_through(probe: Probe, make_app: Any, wrap: bool) -> None:
    probe.wrap = wrap
    async with running(probe.install(make_app(lifespan=_with_state))) as server:
        assert server.state == {"database": "connected"}


async def test_the_exception_of_a_failed_startup_is_the_same_object(probe: Probe) -> None:
    error = RuntimeError("no database")

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        _raise(error)
        yield

    _, exception = await outcome_of_lifespan(probe.install(Starlette(lifespan=lifespan)))
    assert exception is error


@every_framework
async def test_a_startup_that_fails_still_delivers_what_was_captured(probe: Probe, make_app: Any) -> None:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        await serve(installed, "/")
        _raise(RuntimeError("no database"))
        yield

    installed = probe.install(make_app(routes=ROUTES, lifespan=lifespan))
    await outcome_of_lifespan(installed)
    assert len(probe.transport.sent_events) == 1


async def test_an_application_that_refuses_lifespan_is_served_by_the_bridge(probe: Probe) -> None:
    app = probe.install(_refuses_lifespan)
    async with running(app):
        await serve(app, "/")
        assert probe.client.stats()["host"] == "thread"
        assert len(await probe.events()) == 1


async def test_a_lifespan_that_closes_the_client_itself_loses_nothing(probe: Probe) -> None:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        yield
        await probe.client.aclose()
        await probe.client.aclose()

    app = probe.install(FastAPI(routes=ROUTES, lifespan=lifespan))
    async with running(app) as server:
        await serve(app, "/")
    assert len(probe.transport.sent_events) == 1
    assert server.exception is None


async def test_a_lifespan_that_is_cancelled_stays_cancelled(probe: Probe) -> None:
    app = probe.install(Starlette(routes=ROUTES))
    started = asyncio.Event()
    inbox = [{"type": "lifespan.startup"}]

    async def receive() -> Any:
        if inbox:
            return inbox.pop()
        return await asyncio.sleep(3600)

    async def send(message: Any) -> None:
        if message["type"] == "lifespan.startup.complete":
            started.set()

    task = asyncio.ensure_future(app({"type": "lifespan", "state": {}}, receive, send))
    await started.wait()
    await serve(app, "/")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert probe.client.stats()["host"] is None
    assert len(probe.transport.sent_events) == 1


# -- by hand ----------------------------------------------------------------------------


@every_framework
async def test_the_lifespan_of_the_client_hosts_the_drain(probe: Probe, make_app: Any) -> None:
    async with running(make_app(lifespan=probe.client.lifespan)) as server:
        assert probe.client.stats()["host"] == "event_loop"
    assert server.exception is None
    assert probe.client.stats()["host"] is None


@added_and_wrapped
@every_framework
async def test_the_lifespan_of_the_client_and_the_middleware_go_together(
    probe: Probe, make_app: Any, wrap: bool
) -> None:
    probe.wrap = wrap
    app = probe.install(make_app(routes=ROUTES, lifespan=probe.client.lifespan))
    async with running(app) as server:
        await serve(app, "/")
        assert len(await probe.events()) == 1
        assert probe.client.stats()["host"] == "event_loop"
        await serve(app, "/")
    assert [message["type"] for message in server.messages] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert len(probe.transport.sent_events) == 2
    assert probe.client.stats()["host"] is None


async def test_the_lifespan_of_the_client_fits_into_the_applications_own(probe: Probe) -> None:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Dict[str, str]]:
        async with probe.client.lifespan(app):
            yield {"database": "connected"}

    async with running(Starlette(routes=ROUTES, lifespan=lifespan)) as server:
        assert probe.client.stats()["host"] == "event_loop"
        assert server.state == {"database": "connected"}
    assert probe.client.stats()["host"] is None


# -- test clients -----------------------------------------------------------------------


@tolerate_old_starlette
@every_framework
@added_and_wrapped
def test_a_test_client_that_is_entered_hosts_the_drain(probe: Probe, make_app: Any, wrap: bool) -> None:
    probe.wrap = wrap
    app = probe.install(make_app(routes=ROUTES))
    for round_ in (1, 2):
        with TestClient(app) as test_client:
            assert test_client.get("/").text == "ok"
            assert probe.client.stats()["host"] == "event_loop"
            assert _threads() == []
        assert probe.client.stats()["host"] is None
        assert len(probe.transport.sent_events) == round_


@tolerate_old_starlette
@every_framework
@added_and_wrapped
def test_a_test_client_that_is_not_entered_is_served_by_the_bridge(
    probe: Probe, make_app: Any, wrap: bool
) -> None:
    probe.wrap = wrap
    test_client = TestClient(probe.install(make_app(routes=ROUTES)))
    for _ in range(2):
        assert test_client.get("/").text == "ok"
        assert probe.client.stats()["host"] == "thread"
    assert probe.client.flush_sync(timeout=30).pending == 0
    assert len(probe.transport.sent_events) == 2


@tolerate_old_starlette
def test_a_test_client_on_trio_is_served_by_the_bridge(probe: Probe) -> None:
    app = probe.install(Starlette(routes=ROUTES))
    with TestClient(app, backend="trio") as test_client:
        assert test_client.get("/").text == "ok"
        assert probe.client.stats()["host"] == "thread"
    assert len(probe.transport.sent_events) == 1
    assert probe.client.stats()["host"] is None


async def test_httpx_without_a_lifespan_is_served_by_the_bridge(probe: Probe) -> None:
    transport = httpx.ASGITransport(probe.install(Starlette(routes=ROUTES)))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
        assert (await http.get("/")).text == "ok"
    assert probe.client.stats()["host"] == "thread"
    assert (await probe.event())["route"] == "/"


def test_requests_under_trio_are_delivered_through_the_bridge(probe: Probe) -> None:
    async def main() -> None:
        app = probe.install(Starlette(routes=[Mount("/sub", routes=ROUTES)]))
        answer = await serve(app, "/sub/")
        assert answer.body == b"ok"
        assert (await probe.event())["route"] == "/sub/"
        assert probe.client.stats()["host"] == "thread"

    trio.run(main)


def test_a_request_cancelled_under_trio_is_a_499(probe: Probe) -> None:
    async def stuck(scope: Any, receive: Receive, send: Send) -> None:
        reached.set()
        await trio.sleep_forever()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(probe.serve, stuck)
            await reached.wait()
            nursery.cancel_scope.cancel()
        event = await probe.event()
        assert (event["status"], event["error"]) == (499, None)

    reached = trio.Event()
    trio.run(main)
