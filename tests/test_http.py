"""The HTTP transport: one POST, translated once."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import socket
import ssl
import sys
import traceback
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, List, Optional

import anyio
import httpx
import pytest
import respx
from support.events import event

from beaconhq import HttpTransport, SendResult, errors
from beaconhq.http import retry_after
from beaconhq.wire import Batch, clean

KEY = "secret-key-0123456789"
URL = "https://ingest.example/v1/ingest"
EVENTS = [event().to_payload()]


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    transport = HttpTransport(URL, KEY)
    yield transport
    await transport.release()


# -- the request ------------------------------------------------------------------------


@respx.mock
async def test_the_request_is_the_contract_s(transport: HttpTransport) -> None:
    route = respx.post(URL).respond(202)
    batch = Batch([clean(event(1))])
    assert await transport.send(batch) == SendResult(ok=True, status=202)
    request = route.calls.last.request
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["idempotency-key"] == batch.idempotency_key
    assert request.headers["user-agent"].startswith("beaconhq-python/")
    assert json.loads(request.content) == {"events": batch}


@respx.mock
async def test_plain_lists_of_payloads_may_be_sent(transport: HttpTransport) -> None:
    route = respx.post(URL).respond(200)
    await transport.send(EVENTS)
    assert json.loads(route.calls.last.request.content) == {"events": EVENTS}


@respx.mock
async def test_a_redirect_is_not_followed(transport: HttpTransport) -> None:
    respx.post(URL).respond(307, headers={"location": "https://elsewhere.example/"})
    elsewhere = respx.post("https://elsewhere.example/").respond(200)
    assert await transport.send(EVENTS) == SendResult(ok=False, status=307)
    assert not elsewhere.called


@pytest.mark.parametrize("status", [200, 204, 299, 400, 401, 413, 429, 500, 599])
@respx.mock
async def test_the_status_is_handed_on(transport: HttpTransport, status: int) -> None:
    respx.post(URL).respond(status)
    assert await transport.send(EVENTS) == SendResult(ok=status < 300, status=status)


@respx.mock
async def test_a_huge_answer_does_not_matter(transport: HttpTransport) -> None:
    respx.post(URL).respond(200, content=b"x" * 10_000_000)
    assert (await transport.send(EVENTS)).ok


@respx.mock
async def test_it_opens_again_after_it_was_released(transport: HttpTransport) -> None:
    respx.post(URL).respond(200)
    for _ in range(2):
        assert (await transport.send(EVENTS)).ok
        await transport.release()


# -- failures ---------------------------------------------------------------------------

FAILURES = [
    httpx.ConnectError("Bearer " + KEY),
    httpx.LocalProtocolError(f"Illegal header value b'Bearer {KEY}'"),
    httpx.ReadError(KEY),
    httpx.UnsupportedProtocol(KEY),
    RuntimeError(KEY),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@respx.mock
async def test_foreign_errors_become_ours_without_their_text(
    transport: HttpTransport, failure: Exception
) -> None:
    respx.post(URL).mock(side_effect=failure)
    with pytest.raises(errors.NetworkError) as caught:
        await transport.send(EVENTS)
    assert type(failure).__name__ in str(caught.value)
    assert caught.value.__context__ is None
    assert KEY not in "".join(traceback.format_exception(caught.type, caught.value, caught.tb))
    assert KEY not in repr(transport)


async def test_a_factory_that_fails_is_an_error_that_says_what_to_check() -> None:
    def factory() -> httpx.AsyncClient:
        raise FileNotFoundError(KEY)

    transport = HttpTransport(URL, KEY, client_factory=factory)
    with pytest.raises(errors.TransportError, match="SSL_CERT_FILE") as caught:
        await transport.send(EVENTS)
    assert "FileNotFoundError" in str(caught.value)
    assert KEY not in "".join(traceback.format_exception(caught.type, caught.value, caught.tb))


@pytest.mark.parametrize(
    ("variable", "value"), [("ALL_PROXY", "socks9://localhost:1"), ("SSL_CERT_FILE", "/nonexistent")]
)
async def test_a_bad_environment_is_a_failure_like_others(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    transport = HttpTransport("https://localhost:9", KEY)
    with pytest.raises(errors.ExportError):
        await transport.send(EVENTS)
    await transport.release()


# -- a real server ----------------------------------------------------------------------

Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> Dict[str, str]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
    await reader.readexactly(int(headers["content-length"]))
    return headers


@asynccontextmanager
async def serving(answering: Answering) -> AsyncIterator[str]:
    tasks: List[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            await answering(reader, writer)
        writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.ensure_future(handle(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


OK_ANSWER = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}"


async def test_a_reset_on_a_reused_connection_is_tried_again_under_the_same_key() -> None:
    seen: List[str] = []

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await read_request(reader))["idempotency-key"])
        writer.write(OK_ANSWER)
        await writer.drain()
        seen.append((await read_request(reader))["idempotency-key"])
        writer.transport.abort()

    async with serving(answering) as url:
        transport = HttpTransport(url, KEY)
        assert (await transport.send(Batch([clean(event())]))).ok
        assert (await transport.send(Batch([clean(event())]))).ok
        await transport.release()
    assert len(seen) == 3
    assert seen[1] == seen[2]


async def test_a_reset_on_a_new_connection_is_a_failure() -> None:
    connections: List[int] = []

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await read_request(reader)
        writer.transport.abort()

    async with serving(answering) as url:
        transport = HttpTransport(url, KEY)
        with pytest.raises(errors.NetworkError):
            await transport.send(EVENTS)
        await transport.release()
    assert len(connections) == 1


async def test_the_connection_is_used_again() -> None:
    connections: List[int] = []

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        while True:
            await read_request(reader)
            writer.write(OK_ANSWER)

    async with serving(answering) as url:
        transport = HttpTransport(url, KEY)
        for _ in range(5):
            assert (await transport.send(EVENTS)).ok
        await transport.release()
    assert len(connections) == 1


@pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 200 OK\r\n", b"H"])
async def test_an_answer_that_does_not_come_ends_with_the_timeout(drip: bytes) -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(drip)
        for letter in b"x-dripping: " + 1000 * b"y":
            await asyncio.sleep(0.02)
            if drip:
                writer.write(bytes([letter]))
                await writer.drain()

    async with serving(answering) as url:
        transport = HttpTransport(url, KEY, timeout=0.2)
        with pytest.raises(errors.ExportTimeout, match=r"0\.2 s"):
            await transport.send(EVENTS)
        await transport.release()


@pytest.mark.parametrize("then", ["drip", "reset"])
async def test_once_the_status_is_there_the_batch_is_decided(then: str) -> None:
    """A body that drips or breaks off must not make a stored batch go again."""

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 1000\r\n\r\n{")
        await writer.drain()
        if then == "reset":
            writer.transport.abort()
        else:
            await asyncio.sleep(30)

    async with serving(answering) as url:
        transport = HttpTransport(url, KEY, timeout=0.2)
        assert await transport.send(EVENTS) == SendResult(ok=True, status=202)
        await transport.release()


async def test_a_stop_that_runs_out_while_the_body_drips_does_not_undo_it() -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 1000\r\n\r\n{")
        await asyncio.sleep(30)

    async def note(_: httpx.Response) -> None:
        has_head.set()

    async def stop() -> None:
        await has_head.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        scope.cancel()

    has_head = asyncio.Event()
    factory = functools.partial(httpx.AsyncClient, event_hooks={"response": [note]})
    async with serving(answering) as url:
        transport = HttpTransport(url, KEY, client_factory=factory)
        stopping = asyncio.ensure_future(stop())
        with anyio.CancelScope() as scope:
            answer = await transport.send(EVENTS)
        await stopping
        assert answer == SendResult(ok=True, status=202)
        await transport.release()


async def test_a_refused_connection_says_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        transport = HttpTransport(f"http://127.0.0.1:{unused.getsockname()[1]}", KEY)
        with pytest.raises(errors.NetworkError, match="Connection refused"):
            await transport.send(EVENTS)
        await transport.release()


async def test_our_traffic_stays_out_of_the_host_s_log(caplog: pytest.LogCaptureFixture) -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(OK_ANSWER)

    caplog.set_level(logging.DEBUG)
    async with serving(answering) as url:
        transport = HttpTransport(url, KEY)
        await transport.send(EVENTS)
        await transport.release()
        assert [record.name for record in caplog.records if record.name.startswith("http")] == []
        async with httpx.AsyncClient() as own:
            await own.post(url, content=b"{}")
    assert "httpx" in {record.name for record in caplog.records}, "everybody else's stays"


# -- factories --------------------------------------------------------------------------


def _made_by(factory: Optional[Callable[..., Any]], url: str = URL) -> Any:
    transport = HttpTransport(url, KEY, client_factory=factory, keepalive=77)
    transport.prepare()
    return transport.forget()


def _keepalive(client: Any) -> float:
    return float(client._transport._pool._keepalive_expiry)


def test_connections_outlive_the_cadence() -> None:
    assert _keepalive(_made_by(None)) == 77
    assert _keepalive(_made_by(httpx.AsyncClient)) == 77
    assert _keepalive(_made_by(functools.partial(httpx.AsyncClient, trust_env=False))) == 77


def test_a_factory_s_own_limits_win() -> None:
    limits = httpx.Limits(keepalive_expiry=3)
    assert _keepalive(_made_by(functools.partial(httpx.AsyncClient, limits=limits))) == 3


def test_a_factory_without_parameters_is_called_without() -> None:
    def bare() -> httpx.AsyncClient:
        return httpx.AsyncClient()

    assert _keepalive(_made_by(bare)) == 5


def test_certificates_are_verified() -> None:
    context = _made_by(None)._transport._pool._ssl_context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.get_ca_certs()


def test_without_tls_no_ca_store_is_loaded_and_nobody_is_trusted() -> None:
    context = _made_by(None, url="http://127.0.0.1")._transport._pool._ssl_context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.get_ca_certs() == []


@pytest.mark.skipif(sys.version_info < (3, 11), reason="httpx2 needs Python 3.11")
async def test_httpx2_serves_as_well() -> None:
    import httpx2

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await read_request(reader)
            writer.write(OK_ANSWER)
            await writer.drain()
        await read_request(reader)
        writer.transport.abort()

    async with serving(answering) as url:
        transport = HttpTransport(url, KEY, client_factory=httpx2.AsyncClient)
        for _ in range(4):  # the third meets a reset on a reused connection
            assert (await transport.send(EVENTS)).ok
        await transport.release()
    with pytest.raises(errors.NetworkError):
        await transport.send(EVENTS)
    await transport.release()


# -- Retry-After ------------------------------------------------------------------------

NOW = datetime(2026, 6, 3, 12, tzinfo=timezone.utc)


def http_date(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("120", 120), (" 7 ", 7), ("0", 0), (http_date(90), 90), (http_date(-90), 0), ("9" * 50, 9999999999)],
)
def test_retry_after_is_read_in_both_forms(value: str, seconds: float) -> None:
    assert retry_after({"retry-after": value, "date": http_date(0)}) == seconds


@pytest.mark.parametrize("value", ["", "soon", "-5", "1.5", "Wed, 99 Foo 2026 12:00:00 GMT", "٣"])
def test_a_retry_after_that_says_nothing_is_none(value: str) -> None:
    assert retry_after({"retry-after": value}) is None


def test_a_date_is_held_against_our_clock_where_the_answer_has_none() -> None:
    value = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=100), usegmt=True)
    assert 90 < (retry_after({"retry-after": value}) or 0) <= 100


# -- options ----------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "5"])
def test_a_nonsensical_timeout_is_refused(timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout"):
        HttpTransport(URL, KEY, timeout)
