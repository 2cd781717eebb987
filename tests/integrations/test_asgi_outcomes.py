"""What a request's status, error and duration are, however it ended."""

from __future__ import annotations

import asyncio
from typing import Any, Awaitable, Callable, Dict, List, Optional, Tuple

import anyio.lowlevel
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from beaconhq.integrations.asgi import BeaconASGIMiddleware

from .asgi_server import DISCONNECT, REQUEST, Message, Receive, Send, http_scope, serve
from .conftest import Event, Probe, tolerate_old_starlette

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
LAST: Message = {"type": "http.response.body", "body": b"last"}
MORE: Message = {"type": "http.response.body", "body": b"more", "more_body": True}


class Clock:
    """Stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("beaconhq.integrations.asgi.perf_counter", clock)
    monkeypatch.setattr("beaconhq.integrations._record.perf_counter", clock)
    return clock


def _sends(*messages: Message, then: Optional[BaseException] = None) -> Any:
    """Make an application that sends these messages."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if then is not None:
            raise then

    return app


def _verdict(event: Event) -> Tuple[int, Optional[str]]:
    return event["status"], event["error"]


# -- the answer that was sent -----------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "verdict"),
    [
        ([START, LAST], (200, None)),
        ([START, MORE, MORE, LAST], (200, None)),
        ([START], (200, None)),
        ([START, MORE], (200, None)),
        ([{**START, "status": 404}, LAST], (404, None)),
        ([{**START, "status": 503}, LAST], (503, "HTTP 503")),
        ([{**START, "status": 503}], (503, "HTTP 503")),
        ([{"type": "http.response.debug", "info": {}}, START, LAST], (200, None)),
        ([{**START, "trailers": True}, LAST, {"type": "http.response.trailers"}], (200, None)),
        ([START, {"type": "http.response.pathsend", "path": "/tmp/file"}], (200, None)),
    ],
)
async def test_what_was_sent_is_the_status(
    probe: Probe, messages: List[Message], verdict: Tuple[int, Optional[str]]
) -> None:
    await probe.serve(_sends(*messages))
    assert _verdict(await probe.event()) == verdict


async def test_an_application_that_does_not_answer_is_a_500(probe: Probe) -> None:
    await probe.serve(_sends())
    assert _verdict(await probe.event()) == (500, "HTTP 500")


# -- exceptions -------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [True, False], ids=["wrapped", "added"])
@pytest.mark.parametrize("make_app", [Starlette, FastAPI])
async def test_an_unhandled_exception_is_reported_and_raised(probe: Probe, make_app: Any, wrap: bool) -> None:
    error = RuntimeError("boom")

    async def boom(request: Request) -> Response:
        raise error

    probe.wrap = wrap
    answer = await serve(probe.install(make_app(routes=[Route("/boom", boom)])), "/boom")
    event = await probe.event()
    assert (event["route"], *_verdict(event)) == ("/boom", 500, "RuntimeError: boom")
    assert answer.exception is error
    assert answer.status == 500


async def test_an_exception_before_the_answer_is_a_500(probe: Probe) -> None:
    answer = await probe.serve(_sends(then=KeyError("missing")))
    assert _verdict(await probe.event()) == (500, "KeyError: 'missing'")
    assert isinstance(answer.exception, KeyError)


@pytest.mark.parametrize("sent", [[START], [START, MORE]])
async def test_an_exception_half_way_keeps_the_status_that_was_sent(
    probe: Probe, sent: List[Message]
) -> None:
    answer = await probe.serve(_sends(*sent, then=ValueError("half-way")))
    assert _verdict(await probe.event()) == (200, "ValueError: half-way")
    assert isinstance(answer.exception, ValueError)


async def test_an_exception_after_the_last_byte_is_not_the_requests(probe: Probe) -> None:
    answer = await probe.serve(_sends(START, LAST, then=ValueError("too late")))
    assert _verdict(await probe.event()) == (200, None)
    assert isinstance(answer.exception, ValueError)


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
async def test_an_interrupted_process_is_a_500_and_goes_on_ending(
    probe: Probe, leave: Callable[[], BaseException]
) -> None:
    # Driven by hand: asyncio itself ends on these.
    serving = probe.serve(_sends(then=leave()))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        serving.send(None)
    assert (await probe.event())["status"] == 500


@tolerate_old_starlette
@pytest.mark.parametrize("make_app", [Starlette, FastAPI])
@pytest.mark.parametrize("wrap", [True, False], ids=["wrapped", "added"])
async def test_base_http_middleware_inside_changes_nothing(probe: Probe, make_app: Any, wrap: bool) -> None:
    async def pass_on(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        return await call_next(request)

    async def fine(request: Request) -> Response:
        return StreamingResponse(_numbers())

    async def boom(request: Request) -> Response:
        raise RuntimeError("boom")

    app = make_app(routes=[Route("/fine/{id}", fine), Route("/boom", boom)])
    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    probe.wrap = wrap
    installed = probe.install(app)
    answers = [await serve(installed, path) for path in ("/fine/1", "/boom")]
    events = [(event["route"], *_verdict(event)) for event in await probe.events()]
    assert events == [("/fine/{id}", 200, None), ("/boom", 500, "RuntimeError: boom")]
    assert answers[0].body == b"012"
    assert str(answers[1].exception) == "boom"


async def _numbers() -> Any:
    for number in range(3):
        yield str(number)


# -- durations --------------------------------------------------------------------------


async def test_the_duration_ends_with_the_last_byte(probe: Probe, clock: Clock) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        clock.pass_seconds(1)
        await send(START)
        for _ in range(3):
            clock.pass_seconds(1)
            await send(MORE)
        clock.pass_seconds(1)
        await send(LAST)
        clock.pass_seconds(60)

    await probe.serve(app)
    assert (await probe.event())["duration_ms"] == 5000


async def test_a_slow_client_is_part_of_the_duration(probe: Probe, clock: Clock) -> None:
    async def slowly(message: Message) -> None:
        clock.pass_seconds(2)

    await serve(BeaconASGIMiddleware(_sends(START, LAST), probe.client), "/", on_send=slowly)
    assert (await probe.event())["duration_ms"] == 4000


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("fails", [False, True])
async def test_background_tasks_are_not_part_of_the_duration(
    probe: Probe, clock: Clock, status: int, fails: bool
) -> None:
    def work() -> None:
        clock.pass_seconds(60)
        if fails:
            raise RuntimeError("in the background")

    async def endpoint(request: Request) -> Response:
        clock.pass_seconds(1)
        return PlainTextResponse("done", status, background=BackgroundTask(work))

    answer = await serve(probe.install(Starlette(routes=[Route("/", endpoint)])), "/")
    event = await probe.event()  # and no second one
    assert (event["status"], event["duration_ms"]) == (status, 1000)
    assert (answer.exception is not None) == fails


async def test_an_event_does_not_wait_for_background_tasks(probe: Probe) -> None:
    captured_meanwhile: List[int] = []

    async def work() -> None:
        captured_meanwhile.append(probe.client.stats()["captured"])

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("done", background=BackgroundTask(work))

    await probe.serve(Starlette(routes=[Route("/", endpoint)]))
    assert captured_meanwhile == [1]


@pytest.mark.parametrize("last", [{"type": "http.response.pathsend", "path": "/tmp/file"}, LAST])
async def test_a_file_that_the_server_sends_ends_the_answer_too(
    probe: Probe, clock: Clock, last: Message
) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(START)
        clock.pass_seconds(1)
        await send(last)
        clock.pass_seconds(60)

    await probe.serve(app)
    assert (await probe.event())["duration_ms"] == 1000


@pytest.mark.parametrize("messages", [[], [START], [START, MORE]])
async def test_an_answer_that_never_ended_lasts_until_the_application_returns(
    probe: Probe, clock: Clock, messages: List[Message]
) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        clock.pass_seconds(3)

    await probe.serve(app)
    assert (await probe.event())["duration_ms"] == 3000


async def test_the_time_of_the_event_is_when_the_request_completed(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beaconhq.integrations._record.time", lambda: 1_780_000_000.25)
    await probe.serve(_sends(START, LAST))
    assert (await probe.event())["ts"] == "2026-05-28T20:26:40.250+00:00"


# -- nobody there any more --------------------------------------------------------------


def _reads_then(*messages: Message, then: Optional[BaseException] = None) -> Any:
    """Make an application that reads until the client leaves, and then answers so."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await _sends(*messages, then=then)(scope, receive, send)

    return app


@pytest.mark.parametrize("then", [None, ClientDisconnect()])
async def test_a_client_that_leaves_before_the_answer_is_a_499(
    probe: Probe, then: Optional[BaseException]
) -> None:
    app = BeaconASGIMiddleware(_reads_then(then=then), probe.client)
    answer = await serve(app, "/", received=[REQUEST, DISCONNECT])
    assert _verdict(await probe.event()) == (499, None)
    assert answer.exception is then


@pytest.mark.parametrize("wrap", [True, False], ids=["wrapped", "added"])
async def test_a_client_that_leaves_during_an_upload_is_a_499(probe: Probe, wrap: bool) -> None:
    async def upload(request: Request) -> Response:
        await request.body()
        return PlainTextResponse("never")

    probe.wrap = wrap
    app = probe.install(Starlette(routes=[Route("/upload", upload, methods=["POST"])]))
    part = {**REQUEST, "body": b"part", "more_body": True}
    await serve(app, http_scope("POST", "/upload"), received=[part, DISCONNECT])
    event = await probe.event()
    assert (event["route"], *_verdict(event)) == ("/upload", 499, None)


@pytest.mark.parametrize("start", [START, {**START, "status": 500}])
async def test_an_answer_to_a_client_that_has_left_is_a_499(probe: Probe, start: Message) -> None:
    app = BeaconASGIMiddleware(_reads_then(start, LAST), probe.client)
    await serve(app, "/", received=[DISCONNECT])
    assert _verdict(await probe.event()) == (499, None)


async def test_a_client_that_leaves_during_a_stream_keeps_the_status_that_was_sent(probe: Probe) -> None:
    under_way = anyio.Event()

    async def endless() -> Any:
        while True:
            yield b"tick"
            under_way.set()
            await anyio.lowlevel.checkpoint()

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(endless())

    app = probe.install(Starlette(routes=[Route("/ticks", endpoint)]))
    await serve(app, "/ticks", received=[REQUEST, under_way, DISCONNECT])
    event = await probe.event()
    assert (event["route"], *_verdict(event)) == ("/ticks", 200, None)


@pytest.mark.parametrize("wrap", [True, False], ids=["wrapped", "added"])
async def test_a_send_that_fails_before_the_start_is_a_499(probe: Probe, wrap: bool) -> None:
    async def broken(message: Message) -> None:
        raise OSError("broken pipe")

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("never")

    probe.wrap = wrap
    app = probe.install(Starlette(routes=[Route("/", endpoint)]))
    answer = await serve(app, "/", on_send=broken)
    assert _verdict(await probe.event()) == (499, None)
    assert isinstance(answer.exception, OSError)


async def test_a_send_that_fails_after_the_start_keeps_the_status_that_was_sent(probe: Probe) -> None:
    async def breaks(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError("broken pipe")

    app = BeaconASGIMiddleware(_sends(START, LAST), probe.client)
    answer = await serve(app, "/", on_send=breaks)
    assert _verdict(await probe.event()) == (200, None)
    assert isinstance(answer.exception, OSError)


async def test_a_send_that_failed_once_does_not_make_a_client_leave(probe: Probe) -> None:
    failures = [OSError("try again")]

    async def breaks_once(message: Message) -> None:
        if failures:
            raise failures.pop()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        try:
            await send(START)
        except OSError:
            await send({**START, "status": 202})
        await send(LAST)

    await serve(BeaconASGIMiddleware(app, probe.client), "/", on_send=breaks_once)
    assert _verdict(await probe.event()) == (202, None)


@pytest.mark.parametrize(
    ("sent", "verdict"), [([], (499, None)), ([START, MORE], (200, None)), ([START, LAST], (200, None))]
)
async def test_a_cancelled_request_is_reported_once_and_stays_cancelled(
    probe: Probe, sent: List[Message], verdict: Tuple[int, Optional[str]]
) -> None:
    reached = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await _sends(*sent)(scope, receive, send)
        reached.set()
        await asyncio.sleep(3600)

    task = asyncio.create_task(probe.serve(app))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert _verdict(await probe.event()) == verdict


async def test_a_request_cancelled_while_sending_the_start_is_a_499(probe: Probe) -> None:
    reached = asyncio.Event()

    async def stuck(message: Message) -> None:
        reached.set()
        await asyncio.sleep(3600)

    task = asyncio.create_task(
        serve(BeaconASGIMiddleware(_sends(START, LAST), probe.client), "/", on_send=stuck)
    )
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert _verdict(await probe.event()) == (499, None)


async def test_a_request_that_is_only_closed_is_a_499(probe: Probe) -> None:
    scope: Dict[str, Any] = http_scope()
    reached = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        reached.set()
        await receive()

    serving = serve(BeaconASGIMiddleware(app, probe.client), scope, received=[])
    serving.send(None)
    serving.close()
    assert reached.is_set()
    assert _verdict(await probe.event()) == (499, None)
