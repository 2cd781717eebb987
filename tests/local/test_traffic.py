from __future__ import annotations

import itertools
import socket
from typing import TYPE_CHECKING, List

import httpx
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from beaconhq.local.demo_app import CONSUMER_HEADER
from beaconhq.local.traffic import CONCURRENCY, CONSUMERS, Tally, Visit, make_client, send, visits

if TYPE_CHECKING:
    import pytest
    from starlette.requests import Request

FAST = 1e9  # requests per second: no pacing


class TestVisits:
    def test_every_kind_of_request_comes_at_once(self) -> None:
        kinds = {visit.path.rstrip("0123456789") for visit in itertools.islice(visits(), 7)}
        assert kinds == {
            "/api/v1/orders",
            "/api/v1/orders/",
            "/shop/products/",
            "/exports/",
            "/reports/",
            "/wp-login.php?attempt=",
        }

    def test_three_consumers_and_the_same_on_every_run(self) -> None:
        first = list(itertools.islice(visits(), 200))
        assert first == list(itertools.islice(visits(), 200))
        assert {visit.consumer for visit in first} == set(CONSUMERS)
        assert len(CONSUMERS) == 3


class TestSend:
    async def test_every_request_is_sent_once_and_every_answer_counts(self) -> None:
        seen: List[Visit] = []

        async def answer(request: Request) -> PlainTextResponse:
            seen.append(Visit(request.method, request.url.path, request.headers[CONSUMER_HEADER]))
            return PlainTextResponse("no", status_code=[200, 404, 500][len(seen) % 3])

        app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
        planned = [Visit("GET" if number % 2 else "POST", f"/{number}", "me") for number in range(50)]
        sent = 0

        def count() -> None:
            nonlocal sent
            sent += 1

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            tally = await send(client, iter(planned), rate=FAST, on_sent=count)
        assert tally == Tally(answered=50, unanswered=0)
        assert sorted(seen) == sorted(planned)
        assert sent == 50

    async def test_no_answer_is_counted_not_raised(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        planned = [Visit("GET", "/", "me")] * (CONCURRENCY + 1)
        async with make_client(f"http://127.0.0.1:{port}") as client:
            tally = await send(client, iter(planned), rate=FAST, on_sent=lambda: None)
        assert tally == Tally(answered=0, unanswered=CONCURRENCY + 1)

    async def test_the_environments_proxy_is_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALL_PROXY", "http://192.0.2.1:1")
        async with make_client("http://127.0.0.1:1") as client:
            assert client._mounts == {}


def test_rounds_of_traffic_add_up() -> None:
    assert Tally(3, 1).plus(Tally(4, 0)) == Tally(7, 1)
