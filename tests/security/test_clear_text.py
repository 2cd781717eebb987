"""A key that would cross the network readable is told of: once, and without harm."""

from __future__ import annotations

import functools
import logging
from typing import Any, Callable, List

import httpx
import pytest
from support.events import event

from beaconhq import BeaconClient, MockTransport
from beaconhq.errors import InsecureUrl
from beaconhq.options import sends_in_clear

#: Takes everything, and contacts nobody.
NOBODY = functools.partial(httpx.AsyncClient, transport=httpx.MockTransport(lambda _: httpx.Response(202)))
URL = "http://ingest.example"


@pytest.mark.parametrize(
    "url",
    ["http://ingest.example", "HTTP://ingest.example:80/x", "http://localhost.example", "http://notlocalhost",
     "http://10.0.0.1", "http://192.168.0.1:8787", "http://0.0.0.0", "http://[2001:db8::1]:8787", "http://ingest"],
)  # fmt: skip
def test_another_host_without_tls_is_in_the_clear(url: str) -> None:
    assert sends_in_clear(url)


@pytest.mark.parametrize(
    "url",
    ["https://ingest.example", "HTTPS://10.0.0.1", "http://localhost", "http://LOCALHOST.:8787", "http://a.localhost",
     "http://127.0.0.1:8787", "http://127.255.3.4", "http://[::1]:8787/v1/ingest"],
)  # fmt: skip
def test_tls_and_this_machine_are_not(url: str) -> None:
    assert not sends_in_clear(url)


def deliver(client: BeaconClient, times: int = 3) -> None:
    for number in range(times):
        client.capture(event(number))
        assert client.flush_sync(30).delivered == 1
    client.shutdown()


def test_it_is_reported_once_and_everything_is_delivered(
    make_client: Callable[..., BeaconClient], reported: List[BaseException]
) -> None:
    client = make_client(ingest_url=URL, client_factory=NOBODY)
    assert reported == [], "construction does nothing"
    deliver(client)
    deliver(client)  # a second run of the drain
    assert [type(error) for error in reported] == [InsecureUrl]
    assert "http://ingest.example/v1/ingest is not https" in str(reported[0])
    assert "test-key" not in str(reported[0])


async def test_it_is_reported_in_an_event_loop_as_well(
    make_client: Callable[..., BeaconClient], reported: List[BaseException]
) -> None:
    async with make_client(ingest_url=URL, client_factory=NOBODY) as client:
        client.capture(event())
        await client.flush(30)
    assert [type(error) for error in reported] == [InsecureUrl]


def test_where_nobody_listens_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing else is, without `debug`: but this loss shows in no count."""
    deliver(BeaconClient("k", URL, client_factory=NOBODY, register_atexit=False))
    assert [(record.name, record.levelno) for record in caplog.records] == [("beaconhq", logging.WARNING)]
    assert "InsecureUrl" in caplog.text


def test_a_hook_silences_the_log(caplog: pytest.LogCaptureFixture) -> None:
    deliver(BeaconClient("k", URL, client_factory=NOBODY, register_atexit=False, on_error=lambda _: None))
    assert caplog.records == []


@pytest.mark.parametrize(
    "options",
    [
        {"ingest_url": "http://127.0.0.1:1", "client_factory": NOBODY},
        {"ingest_url": "https://ingest.example", "client_factory": NOBODY},
        {"ingest_url": URL, "transport": MockTransport()},
        {"ingest_url": URL, "dry_run": True},
    ],
)
def test_nothing_is_said_where_nothing_is_readable(
    options: Any, make_client: Callable[..., BeaconClient], reported: List[BaseException]
) -> None:
    client = make_client(**options)
    deliver(client)
    assert reported == []
    assert client.stats()["last_error"] is None
