from __future__ import annotations

import base64
import socket
from typing import TYPE_CHECKING, Dict

import httpx
import pytest

from beaconhq.local.app import create_app

from .samples import body, payload

if TYPE_CHECKING:
    from beaconhq.local.store import EventStore

PATHS = [
    "/",
    "/v1/view",
    "/v1/summary",
    "/v1/stream?window=bad",
    "/static/page.js",
    "/static/plotly.js",
    "/no",
]


async def get(store: EventStore, path: str, headers: Dict[str, str], **options: object) -> httpx.Response:
    transport = httpx.ASGITransport(create_app(store, **options))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8787") as client:
        return await client.get(path, headers=headers)


def basic(user: str, password: str) -> Dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


class TestHost:
    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1",
            "127.0.0.1:8787",
            "localhost:8787",
            "LOCALHOST",
            "[::1]",
            "[::1]:8787",
            "192.0.2.7:8787",
            socket.gethostname(),
            "box.lan:8787",
            "Box.lan.",
        ],
    )
    async def test_this_machine_is_answered(self, store: EventStore, host: str) -> None:
        answer = await get(store, "/v1/summary", {"Host": host}, hosts=["box.lan"])
        assert answer.status_code == 200

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize(
        "host",
        ["evil.example", "evil.example:8787", "127.0.0.1.evil.example", "localhost.evil.example", "", ":1"],
    )
    async def test_any_other_name_is_refused(self, store: EventStore, path: str, host: str) -> None:
        """DNS rebinding: the name resolves to this machine, the browser still sends it."""
        answer = await get(store, path, {"Host": host}, hosts=["box.lan"])
        assert answer.status_code == 421

    async def test_an_app_reaches_the_ingest_under_any_name(self, store: EventStore) -> None:
        transport = httpx.ASGITransport(create_app(store))
        async with httpx.AsyncClient(transport=transport, base_url="http://beacon:8787") as client:
            sent = await client.post(
                "/v1/ingest", content=body(payload()), headers={"Authorization": "Bearer dev"}
            )
            assert sent.status_code == 202
            assert (await client.get("/healthz")).status_code == 200


class TestKey:
    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic"},
            {"Authorization": "Basic !"},
            {"Authorization": "Basic s3cret"},
            basic("s3cret", ""),
            basic("me", "s3cret2"),
            basic("me", "s3cre\u00e9"),
            {"Authorization": "Digest s3cret"},
        ],
        ids=str,
    )
    async def test_without_it_nothing_is_shown(
        self, store: EventStore, path: str, headers: Dict[str, str]
    ) -> None:
        answer = await get(store, path, headers, key="s3cret")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
        assert "s3cret" not in answer.text + str(answer.headers)

    @pytest.mark.parametrize("path", ["/", "/v1/view", "/v1/summary", "/static/page.js"])
    @pytest.mark.parametrize(
        "headers",
        [{"Authorization": "Bearer s3:cret"}, basic("", "s3:cret"), basic("me", "s3:cret")],
        ids=str,
    )
    async def test_as_bearer_or_password_it_lets_in(
        self, store: EventStore, path: str, headers: Dict[str, str]
    ) -> None:
        assert (await get(store, path, headers, key="s3:cret")).status_code == 200

    async def test_the_ingest_takes_the_bearer_only(self, store: EventStore) -> None:
        transport = httpx.ASGITransport(create_app(store, key="k"))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            sent = await client.post("/v1/ingest", content=body(), headers=basic("", "k"))
        assert sent.status_code == 401


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("host", ["127.0.0.1", "evil.example"])
async def test_every_answer_has_the_headers(store: EventStore, path: str, host: str) -> None:
    headers = (await get(store, path, {"Host": host})).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] in {"no-store", "no-cache"}
