from __future__ import annotations

import asyncio
import contextlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, AsyncGenerator, AsyncIterator, Dict, List

import httpx
import pytest

import beaconhq.local
from beaconhq.local import page, server
from beaconhq.local.app import create_app
from beaconhq.local.server import listen, resolve, serving, url_of

from .samples import events, payload

if TYPE_CHECKING:
    from beaconhq.local.store import EventStore

STATIC = Path(beaconhq.local.__file__).parent / "static"
OURS = sorted(path for path in STATIC.iterdir() if path.suffix in {".js", ".html", ".css", ".svg"})


@pytest.fixture
async def client(store: EventStore) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(store))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as opened:
        yield opened


class TestFiles:
    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("/", "text/html; charset=utf-8"),
            ("/static/page.js", "text/javascript; charset=utf-8"),
            ("/static/page.css", "text/css; charset=utf-8"),
            ("/static/icon.svg", "image/svg+xml"),
            ("/static/plotly.js", "text/javascript; charset=utf-8"),
        ],
    )
    async def test_they_are_served(self, client: httpx.AsyncClient, path: str, kind: str) -> None:
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)

    async def test_everything_the_page_refers_to_is_there(self, client: httpx.AsyncClient) -> None:
        for source in OURS:
            for reference in re.findall(r"(?:src|href)=\"(/[^\"]*)\"", source.read_text("utf-8")):
                assert (await client.get(reference)).status_code == 200, reference
            for module in re.findall(r"from \"\./([^\"]+)\"", source.read_text("utf-8")):
                assert (STATIC / module).exists(), module

    @pytest.mark.parametrize(
        "path", ["/static/../store.py", "/static/%2e%2e/store.py", "/static//etc/passwd"]
    )
    async def test_nothing_else_is(self, client: httpx.AsyncClient, path: str) -> None:
        assert (await client.get(path)).status_code == 404

    async def test_an_unchanged_script_is_not_sent_again(self, client: httpx.AsyncClient) -> None:
        first = await client.get("/static/page.js")
        again = await client.get("/static/page.js", headers={"If-None-Match": first.headers["etag"]})
        assert again.status_code == 304

    @pytest.mark.parametrize("source", OURS, ids=lambda path: path.name)
    def test_ours_parse_no_text_as_html_or_script_and_name_no_other_host(self, source: Path) -> None:
        text = source.read_text("utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|\son\w+=",
            text,
        )
        assert set(re.findall(r"https?://[^\"\s)]+", text)) <= {"http://www.w3.org/2000/svg"}


class TestView:
    async def test_it_is_what_the_store_has(self, client: httpx.AsyncClient, store: EventStore) -> None:
        store.add(events(payload(consumer="<b>", error="\u202e")))
        query = {"window": "all", "consumer": "<b>", "method": "GET", "route": "/orders/{order_id}"}
        answer = await client.get("/v1/view", params=query)
        shown = answer.json()
        assert shown["numbers"] == {"count": 1, "errors": 0, "p50_ms": 12, "p95_ms": 12, "p99_ms": 12}
        assert shown["detail"]["slowest"][0]["error"] == "\u202e"
        assert "coverage" not in shown

    @pytest.mark.parametrize(
        "query", [{"window": "2m"}, {"status": "6"}, {"status": "200"}, {"status": "-1"}, {"window": ""}]
    )
    async def test_a_filter_that_makes_no_sense_is_400(
        self, client: httpx.AsyncClient, query: Dict[str, str]
    ) -> None:
        for path in ("/v1/view", "/v1/stream"):
            assert (await client.get(path, params=query)).status_code == 400

    async def test_a_store_that_cannot_read_is_503(
        self, client: httpx.AsyncClient, store: EventStore
    ) -> None:
        store.close()
        answer = await client.get("/v1/view")
        assert (answer.status_code, answer.json()["error"]) == (503, "store_unavailable")


@contextlib.asynccontextmanager
async def watching_at(url: str) -> AsyncIterator[httpx.Response]:
    async with (
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
        client.stream("GET", url) as response,
    ):
        yield response


async def messages(response: httpx.Response) -> AsyncGenerator[Dict[str, Any], None]:
    name = "message"
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            name = line[7:]
        if line.startswith("data: "):
            yield {"event": name, **json.loads(line[6:])}
            name = "message"


class TestStream:
    async def test_it_sends_what_is_new_and_ends_at_once_with_the_server(
        self, store: EventStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C with a page open: nobody waits for the grace that other requests get."""
        monkeypatch.setattr(server, "GRACE", 600)
        monkeypatch.setattr(server, "STOP_TIMEOUT", 600)
        monkeypatch.setattr(page, "REFRESH_INTERVAL", 0.01)
        seen: List[Dict[str, Any]] = []
        first, second = asyncio.Event(), asyncio.Event()

        async def watch(url: str) -> None:
            async with watching_at(f"{url}/v1/stream?window=all") as response:
                assert response.headers["content-type"].startswith("text/event-stream")
                async for message in messages(response):
                    seen.append(message)
                    (second if first.is_set() else first).set()

        with listen(resolve("127.0.0.1", 0)) as listener:
            async with serving(create_app(store), listener):
                watching = asyncio.ensure_future(watch(url_of(listener)))
                await asyncio.wait_for(first.wait(), 60)
                store.add(events(payload()))
                await asyncio.wait_for(second.wait(), 60)
            await asyncio.wait_for(watching, 60)
        assert [message["totals"]["stored"] for message in seen[:2]] == [0, 1]
        assert seen[-1]["event"] == "stopped"

    async def test_without_news_it_sends_again_as_the_window_moves(
        self, store: EventStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(page, "REFRESH_INTERVAL", 0.01)
        monkeypatch.setattr(page, "SLIDE_INTERVAL", 0.02)
        with listen(resolve("127.0.0.1", 0)) as listener:
            url = f"{url_of(listener)}/v1/stream"
            async with serving(create_app(store), listener), watching_at(url) as response:
                received = messages(response)
                times = [(await received.__anext__())["now_ms"] for _ in range(3)]
                await received.aclose()
        assert times == sorted(set(times))

    async def test_so_many_pages_and_no_more(
        self, store: EventStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And the place of one that was closed is free again."""
        monkeypatch.setattr(page, "MAX_STREAMS", 1)
        with listen(resolve("127.0.0.1", 0)) as listener:
            url = f"{url_of(listener)}/v1/stream"
            async with serving(create_app(store), listener):
                async with watching_at(url) as response, watching_at(url) as refused:
                    received = messages(response)
                    await received.__anext__()
                    assert refused.status_code == 503
                    await received.aclose()
                for _ in range(600):
                    async with watching_at(url) as response:
                        if response.status_code == 200:
                            break
                    await asyncio.sleep(0.05)
                else:
                    pytest.fail("the place was not given back")

    async def test_a_store_that_cannot_read_is_told(self, store: EventStore) -> None:
        store.close()
        transport = httpx.ASGITransport(create_app(store))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            answer = await client.get("/v1/stream")
        assert answer.text.startswith("event: failed\n")
        assert "closed" in answer.text
