from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import threading
from typing import TYPE_CHECKING, AsyncIterator, Dict, Optional

import httpx
import pytest

from beaconhq.local.app import MAX_BODY_BYTES, create_app

from .samples import body, payload

if TYPE_CHECKING:
    from beaconhq.local.store import EventStore

BEARER = {"Authorization": "Bearer dev"}


@contextlib.asynccontextmanager
async def client_of(
    store: EventStore, *, key: Optional[str] = None, max_body_bytes: int = MAX_BODY_BYTES
) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(store, key=key, max_body_bytes=max_body_bytes))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=BEARER) as client:
        yield client


@pytest.fixture
async def client(store: EventStore) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(store) as opened:
        yield opened


class TestIngest:
    async def test_a_valid_batch_is_accepted_and_stored(
        self, client: httpx.AsyncClient, store: EventStore
    ) -> None:
        answer = await client.post("/v1/ingest", content=body(payload(), payload()))
        assert (answer.status_code, answer.json()) == (202, {"stored": 2})
        assert store.summary().totals.stored == 2

    async def test_an_empty_batch_stores_nothing(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/ingest", content=body())
        assert (answer.status_code, answer.json()) == (202, {"stored": 0})

    async def test_a_post_repeated_under_its_key_is_answered_and_stored_once(
        self, client: httpx.AsyncClient, store: EventStore
    ) -> None:
        headers = {"Idempotency-Key": "batch-1"}
        first = await client.post("/v1/ingest", content=body(payload()), headers=headers)
        again = await client.post("/v1/ingest", content=body(payload()), headers=headers)
        assert (first.status_code, first.json()) == (202, {"stored": 1})
        assert (again.status_code, again.json()) == (202, {"stored": 1, "duplicate": True})
        assert store.summary().totals.stored == 1

    async def test_a_refused_batch_does_not_use_up_its_key(
        self, client: httpx.AsyncClient, store: EventStore
    ) -> None:
        headers = {"Idempotency-Key": "batch-1"}
        refused = await client.post("/v1/ingest", content=body(payload(status=0)), headers=headers)
        accepted = await client.post("/v1/ingest", content=body(payload()), headers=headers)
        assert (refused.status_code, accepted.status_code) == (400, 202)
        assert store.summary().totals.stored == 1

    async def test_concurrent_posts_under_one_key_are_stored_once(
        self, client: httpx.AsyncClient, store: EventStore
    ) -> None:
        headers = {"Idempotency-Key": "batch-1"}
        posts = [client.post("/v1/ingest", content=body(payload()), headers=headers) for _ in range(20)]
        answers = await asyncio.gather(*posts)
        assert {answer.status_code for answer in answers} == {202}
        assert sum("duplicate" not in answer.json() for answer in answers) == 1
        assert store.summary().totals.stored == 1

    async def test_one_bad_event_refuses_the_batch_with_its_place(
        self, client: httpx.AsyncClient, store: EventStore
    ) -> None:
        sent = body(payload(), payload(), payload(), payload(status=600), payload(method=""))
        answer = await client.post("/v1/ingest", content=sent)
        assert (answer.status_code, answer.json()) == (
            400,
            {"error": "invalid_event", "index": 3, "field": "status", "reason": "must be 100 to 599"},
        )
        totals = store.summary().totals
        assert (totals.stored, totals.rejected) == (0, 1)
        assert totals.last_rejection == "400: event 3, status: must be 100 to 599"

    async def test_a_body_that_is_no_batch_is_refused(
        self, client: httpx.AsyncClient, store: EventStore
    ) -> None:
        answer = await client.post("/v1/ingest", content=b"[]")
        assert (answer.status_code, answer.json()) == (
            400,
            {"error": "invalid_body", "reason": "must be a JSON object"},
        )
        assert store.summary().totals.last_rejection == "400: body must be a JSON object"

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
    async def test_other_methods_are_not_allowed(self, client: httpx.AsyncClient, method: str) -> None:
        answer = await client.request(method, "/v1/ingest")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"

    async def test_a_store_that_cannot_write_asks_the_sender_to_come_again(
        self, client: httpx.AsyncClient, store: EventStore
    ) -> None:
        """A 5xx: the SDK keeps the batch."""
        with contextlib.closing(sqlite3.connect(store.path)) as connection:
            connection.execute("DROP TABLE batches")
        answer = await client.post("/v1/ingest", content=body(payload()))
        assert answer.status_code == 503
        assert answer.json()["error"] == "store_unavailable"

    async def test_a_refusal_stands_though_it_cannot_be_counted(
        self, client: httpx.AsyncClient, store: EventStore
    ) -> None:
        store.close()
        answer = await client.post("/v1/ingest", content=body(payload(status=0)))
        assert answer.status_code == 400


class TestAuthorization:
    @pytest.mark.parametrize(
        "authorization", ["", "Bearer", "Bearer ", "Bearer   ", "Basic ZGV2", "dev", "Token dev"]
    )
    async def test_without_a_bearer_the_answer_is_401(
        self, client: httpx.AsyncClient, store: EventStore, authorization: str
    ) -> None:
        answer = await client.post(
            "/v1/ingest", content=body(payload()), headers={"Authorization": authorization}
        )
        assert answer.status_code == 401
        assert answer.json()["error"] == "unauthorized"
        assert answer.headers["www-authenticate"] == "Bearer"
        totals = store.summary().totals
        assert (totals.stored, totals.rejected) == (0, 1)

    @pytest.mark.parametrize("authorization", ["Bearer x", "bearer x", "BEARER  x "])
    async def test_without_a_key_any_bearer_will_do(
        self, client: httpx.AsyncClient, authorization: str
    ) -> None:
        answer = await client.post("/v1/ingest", content=body(), headers={"Authorization": authorization})
        assert answer.status_code == 202

    @pytest.mark.parametrize(
        ("authorization", "status"),
        [
            (b"Bearer secret", 202),
            (b"Bearer secret ", 202),
            (b"Bearer Secret", 401),
            (b"Bearer secre", 401),
            (b"Bearer secret2", 401),
            (b"Bearer s\xe9cret", 401),
            (b"Bearer", 401),
        ],
    )
    async def test_with_a_key_only_that_bearer_will_do(
        self, store: EventStore, authorization: bytes, status: int
    ) -> None:
        async with client_of(store, key="secret") as client:
            headers = [(b"Authorization", authorization)]
            posted = await client.post("/v1/ingest", content=body(), headers=headers)
            read = await client.get("/v1/summary", headers=headers)
        assert posted.status_code == status
        assert read.status_code == (200 if status == 202 else 401)

    async def test_the_bearer_is_checked_before_the_body(self, store: EventStore) -> None:
        async with client_of(store, key="secret") as client:
            answer = await client.post("/v1/ingest", content=b"{")
        assert answer.status_code == 401


class TestBodyLimit:
    async def test_a_body_of_exactly_the_limit_is_read(self, store: EventStore) -> None:
        sent = body(payload())
        async with client_of(store, max_body_bytes=len(sent)) as client:
            assert (await client.post("/v1/ingest", content=sent)).status_code == 202

    async def test_one_byte_more_is_413(self, store: EventStore) -> None:
        sent = body(payload())
        async with client_of(store, max_body_bytes=len(sent) - 1) as client:
            answer = await client.post("/v1/ingest", content=sent)
        assert answer.status_code == 413
        assert answer.json() == {
            "error": "body_too_large",
            "limit_bytes": len(sent) - 1,
            "reason": f"the body is larger than {len(sent) - 1} bytes",
        }
        assert store.summary().totals.rejected == 1

    @pytest.mark.parametrize("length", [b"1001", b"9" * 5000])
    async def test_an_announced_length_is_refused_before_the_first_byte(
        self, store: EventStore, length: bytes
    ) -> None:
        status, chunks = await post_raw(store, {b"content-length": length}, max_body_bytes=1000)
        assert (status, chunks) == (413, 0)

    async def test_a_body_without_a_length_is_read_no_further_than_the_limit(self, store: EventStore) -> None:
        status, chunks = await post_raw(store, {b"transfer-encoding": b"chunked"}, max_body_bytes=1000)
        assert (status, chunks) == (413, 11)

    async def test_a_false_length_does_not_lift_the_limit(self, store: EventStore) -> None:
        status, chunks = await post_raw(store, {b"content-length": b"5"}, max_body_bytes=1000)
        assert (status, chunks) == (413, 11)

    async def test_a_sender_that_leaves_in_the_middle_is_no_error(self, store: EventStore) -> None:
        status, _ = await post_raw(store, {}, max_body_bytes=1000, disconnect_after=3)
        assert status == 400
        assert store.summary().totals.rejected == 0


async def post_raw(
    store: EventStore, headers: Dict[bytes, bytes], *, max_body_bytes: int, disconnect_after: int = 1000
) -> tuple[int, int]:
    """POST chunks of 100 bytes without end; return the status and how many chunks were taken."""
    chunks = 0
    statuses = []

    async def receive() -> Dict[str, object]:
        nonlocal chunks
        if chunks == disconnect_after:
            return {"type": "http.disconnect"}
        chunks += 1
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    async def send(message: Dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/ingest",
        "raw_path": b"/v1/ingest",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "headers": [(b"authorization", b"Bearer dev"), *headers.items()],
    }
    await create_app(store, max_body_bytes=max_body_bytes)(scope, receive, send)  # type: ignore[arg-type]
    (status,) = statuses
    assert isinstance(status, int)
    return status, chunks


class TestSummary:
    async def test_it_is_the_stores_summary_as_json(
        self, client: httpx.AsyncClient, store: EventStore
    ) -> None:
        await client.post("/v1/ingest", content=body(payload(), payload(duration_ms=30, status=500)))
        await client.post("/v1/ingest", content=b"")
        answer = await client.get("/v1/summary")
        assert answer.status_code == 200
        summary = answer.json()
        reason = summary["totals"].pop("last_rejection")
        assert reason.startswith("400: body is not JSON")
        assert summary == {
            "totals": {"stored": 2, "batches": 1, "duplicates": 0, "rejected": 1},
            "route_count": 1,
            "routes": [
                {
                    "method": "GET",
                    "route": "/orders/{order_id}",
                    "count": 2,
                    "errors": 1,
                    "error_rate": 0.5,
                    "p50_ms": 12,
                    "p95_ms": 30,
                    "p99_ms": 30,
                    "consumer_count": 1,
                    "consumers": [{"consumer": "mobile-app", "count": 2}],
                    "last_seen": "2026-06-03T12:00:00.000+00:00",
                }
            ],
        }

    async def test_without_a_key_it_needs_no_bearer(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/v1/summary", headers={"Authorization": ""})
        assert answer.status_code == 200

    async def test_a_store_that_cannot_read_is_503(
        self, client: httpx.AsyncClient, store: EventStore
    ) -> None:
        store.close()
        answer = await client.get("/v1/summary")
        assert (answer.status_code, answer.json()["error"]) == (503, "store_unavailable")

    async def test_hostile_text_is_escaped(self, client: httpx.AsyncClient) -> None:
        """`curl` prints the answer to a terminal."""
        hostile = "/\x1b[2J\x9b2J\u202e\u200b"
        await client.post("/v1/ingest", content=body(payload(route=hostile)))
        answer = await client.get("/v1/summary")
        assert all(0x20 <= byte < 0x7F for byte in answer.content)
        assert json.loads(answer.content)["routes"][0]["route"] == hostile


async def test_health_needs_no_bearer(store: EventStore) -> None:
    async with client_of(store, key="secret") as client:
        answer = await client.get("/healthz", headers={"Authorization": ""})
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_the_event_loop_runs_while_a_batch_is_checked_and_stored(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite may wait for the disk or for another process; other requests must not."""
    loop = asyncio.get_running_loop()
    storing, loop_went_on = asyncio.Event(), threading.Event()
    store_add = store.add

    def slow_add(*arguments: object) -> object:
        loop.call_soon_threadsafe(storing.set)
        assert loop_went_on.wait(10), "the event loop stood still"
        return store_add(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "add", slow_add)
    async with client_of(store) as client:
        post = asyncio.ensure_future(client.post("/v1/ingest", content=body(payload())))
        await storing.wait()
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/v1/summary")).status_code == 200
        loop_went_on.set()
        assert (await post).status_code == 202
