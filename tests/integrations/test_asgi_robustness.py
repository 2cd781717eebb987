"""Nothing that goes wrong in here is the application's problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, List

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from beaconhq import BeaconClient
from beaconhq.integrations.asgi import BeaconASGIMiddleware

from .asgi_server import Receive, Send, http_scope, serve

if TYPE_CHECKING:
    from starlette.requests import Request

    from .conftest import Probe


async def app(scope: Any, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})


class BrokenClient(BeaconClient):
    def capture(self, event: Any) -> None:
        raise RuntimeError("a bug of ours")


async def test_a_capture_that_raises_harms_nobody(probe: Probe) -> None:
    answer = await serve(BeaconASGIMiddleware(app, BrokenClient("test-key", register_atexit=False)), "/")
    assert (answer.status, answer.body, answer.exception) == (200, b"fine", None)


async def test_a_capture_that_raises_does_not_hide_the_applications_exception(probe: Probe) -> None:
    async def boom(scope: Any, receive: Receive, send: Send) -> None:
        raise LookupError("the application's")

    answer = await serve(BeaconASGIMiddleware(boom, BrokenClient("test-key", register_atexit=False)), "/")
    assert repr(answer.exception) == repr(LookupError("the application's"))


@pytest.mark.parametrize("make_app", [Starlette, FastAPI])
async def test_a_framework_whose_insides_have_moved_still_gives_events(probe: Probe, make_app: Any) -> None:
    async def endpoint(request: Request) -> Response:
        # What a next release might leave behind.
        request.scope.update(app_root_path=7, route=object(), endpoint=object(), router=object(), fastapi=[])
        return PlainTextResponse("fine")

    answer = await probe.serve(make_app(routes=[Route("/a/{x}", endpoint)]), "/a/1")
    event = await probe.event()
    assert (answer.body, event["route"], event["status"]) == (b"fine", "(unmatched)", 200)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ({"path": None}, {"path": "/"}),
        ({"path": ""}, {"path": "/"}),
        ({"path": 7}, {"path": "7"}),
        ({"path": "/\ud800\x00"}, {"path": "/\ufffd\ufffd"}),
        ({"headers": None}, {"consumer": None}),
        ({"headers": [("x-key", "text")]}, {"consumer": None}),
        ({"headers": [(b"x-key", "text")]}, {"consumer": None}),
        ({"headers": [b"x-key"]}, {"consumer": None}),
        ({"root_path": None, "app_root_path": ""}, {"route": "(unmatched)"}),
        ({"method": "PROPFIND-AND-MORE-THAN-THAT"}, {"method": "PROPFIND-AND-MOR"}),
    ],
)
async def test_a_broken_scope_still_gives_an_event(
    probe: Probe, broken: Dict[str, Any], expected: Dict[str, Any]
) -> None:
    answer = await serve(
        BeaconASGIMiddleware(app, probe.client, consumer_header="x-key"), {**http_scope(), **broken}
    )
    event = await probe.event()
    assert (answer.status, answer.exception) == (200, None)
    assert {name: event[name] for name in expected} == expected


@pytest.mark.parametrize("missing", ["path", "headers", "root_path", "state", "query_string"])
async def test_a_scope_with_something_missing_still_gives_an_event(probe: Probe, missing: str) -> None:
    scope = http_scope(path="/somewhere")
    del scope[missing]
    answer = await serve(BeaconASGIMiddleware(app, probe.client, consumer_header="x-key"), scope)
    assert (answer.status, answer.exception) == (200, None)
    assert (await probe.event())["status"] == 200


@pytest.mark.parametrize("status", ["200", None, 200.5, [200]])
async def test_a_status_that_is_no_number_is_the_servers_to_refuse(probe: Probe, status: Any) -> None:
    async def confused(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status})
        await send({"type": "http.response.body"})

    answer = await probe.serve(confused)
    assert answer.exception is None
    assert (await probe.event())["status"] == 500


def _rewrite(scope: Any) -> None:
    scope.update(path="/rewritten", method="PATCH", root_path="/elsewhere")


def _clear(scope: Any) -> None:
    scope.clear()


@pytest.mark.parametrize("mutate", [_rewrite, _clear])
async def test_an_application_may_do_what_it_likes_with_its_scope(
    probe: Probe, mutate: Callable[[Any], None]
) -> None:
    async def mutating(scope: Any, receive: Receive, send: Send) -> None:
        mutate(scope)
        await app(scope, receive, send)

    answer = await serve(BeaconASGIMiddleware(mutating, probe.client), http_scope("GET", "/original"))
    event = await probe.event()
    assert answer.status == 200
    assert (event["method"], event["path"]) == ("GET", "/original")


async def test_a_disabled_client_costs_nothing_and_changes_nothing(
    make_client: Callable[..., BeaconClient],
) -> None:
    client = make_client(enabled=False)
    answer = await serve(BeaconASGIMiddleware(app, client), "/")
    assert answer.body == b"fine"
    assert client.stats()["captured"] == 0


async def test_a_full_buffer_harms_nobody(probe: Probe) -> None:
    probe.configure(max_buffer_size=2)
    middleware = BeaconASGIMiddleware(app, probe.client)
    answers: List[int] = [(await serve(middleware, f"/{number}")).status for number in range(5)]
    assert answers == [200] * 5
    assert [event["path"] for event in await probe.events()][-1] == "/4"
