"""A real ingest in a process of its own, and pages of it in a real browser."""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List
from urllib.parse import urlsplit

import httpx
import pytest
from local.processes import PATIENCE, running
from local.samples import body, payload

from . import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize


WIDE: ViewportSize = {"width": 1280, "height": 900}


def seconds_ago(seconds: float) -> str:
    """Return a `ts`."""
    return (datetime.now(timezone.utc) - timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


class Ingest:
    """One `beaconhq local`."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._headers = {"Authorization": f"Bearer {key}"}

    def receive(self, *changes: Dict[str, Any]) -> None:
        """Send events of this moment, with the given fields changed."""
        events = [payload(**{"ts": seconds_ago(0), **each}) for each in changes]
        with httpx.Client(trust_env=False, timeout=PATIENCE) as client:
            answer = client.post(f"{self.url}/v1/ingest", content=body(*events), headers=self._headers)
        assert answer.status_code == 202, answer.text


@contextmanager
def ingest_with(*options: str, key: str = "dev", **environment: str) -> Iterator[Ingest]:
    """Run `beaconhq local` with more options."""
    command = ("-m", "beaconhq", "local", "--port", "0", *options)
    with running(*command, **environment) as process:
        url = process.wait_for(r"listens on (http://127\.0\.0\.1:[0-9]+)$")[1]
        process.wait_for("Ctrl-C")
        yield Ingest(url, key)


@pytest.fixture
def ingest() -> Iterator[Ingest]:
    with ingest_with() as running_ingest:
        yield running_ingest


# Not for the whole session: while Playwright runs, no test of another module could run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.launched(chromium.need()) as started:
        yield started


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """
    Open pages, in a context of options of Playwright's.

    Each test with it also asserts that nothing appeared in the console, no error was thrown and no request
    left for another host.
    """
    said: List[str] = []
    hosts = set()
    expected = set()
    contexts = []

    def open_one(url: str, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": WIDE, **options})
        context.set_default_timeout(1000 * PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        expected.add(urlsplit(url).netloc)
        page.goto(url)
        return page

    yield open_one
    for context in contexts:
        context.close()
    # A server that a test has stopped is no longer there to connect to.
    assert [each for each in said if not re.search("ERR_CONNECTION_REFUSED|ERR_INCOMPLETE", each)] == []
    assert hosts == expected
