"""
How long the page of `beaconhq local` takes to show what is stored.

    PYTHONPATH=tests python -m benchmarks.page [EVENTS]

100,000 events of the last hour, unless told otherwise: 20 routes, 10 consumers. From the start of the
navigation to the rows of the routes, and to the last chart drawn, in milliseconds: in a browser just started,
which compiles the 4.8 MB of plotly.js, and for each window in one whose tab was at the page before.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, List, Tuple

from browser import chromium
from browser.conftest import WIDE, ingest_with

from beaconhq.local.store import EventStore
from beaconhq.local.validation import parse_batch

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WINDOWS = ("5m", "15m", "1h", "6h", "24h", "all")
ROUNDS = 5
SPAN = 3500.0

#: Notes when the rows and the charts are there.
_WATCH = """
globalThis.seen = new Promise((done) => {
  let rows = null;
  new MutationObserver((_, observer) => {
    if (document.querySelector("#route-table tbody td")) rows ??= performance.now();
    if (document.querySelectorAll(".main-svg .js-line").length < 5) return;
    observer.disconnect();
    done([rows, performance.now()]);
  }).observe(document, { childList: true, subtree: true });
});
"""


def fill(path: Path, count: int) -> None:
    """Store `count` events."""
    store = EventStore(path)
    pick = random.Random(1)
    now = time.time()
    try:
        for start in range(0, count, 1000):
            events = []
            for number in range(start, min(count, start + 1000)):
                route = f"/service-{pick.randrange(20)}"
                moment = datetime.fromtimestamp(now - SPAN * (1 - number / count), timezone.utc)
                events.append(
                    {
                        "ts": moment.isoformat(timespec="milliseconds"),
                        "method": "GET",
                        "route": f"{route}/{{id}}",
                        "path": f"{route}/{number}",
                        "status": pick.choice([200] * 20 + [404, 500]),
                        "duration_ms": int(pick.expovariate(1 / 30)),
                        "consumer": f"consumer-{pick.randrange(10)}",
                        "error": None,
                    }
                )
            store.add(parse_batch(json.dumps({"events": events}).encode()))
    finally:
        store.close()


def new_page(browser: Browser) -> Page:
    page = browser.new_page(viewport=WIDE)
    page.add_init_script(_WATCH)
    return page


def look(page: Page, url: str) -> Tuple[float, float]:
    """Go to `url`; return the times to its rows and to its charts, in milliseconds."""
    page.goto(url)
    rows, charts = page.evaluate("seen")
    return rows, charts


def tell(name: str, figures: List[Tuple[float, float]]) -> None:
    rows, charts = zip(*figures)
    sys.stdout.write(
        f"{name:>10}: rows {statistics.median(rows):5.0f} ms (at most {max(rows):5.0f}), "
        f"charts {statistics.median(charts):5.0f} ms (at most {max(charts):5.0f})\n"
    )
    sys.stdout.flush()


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "events.db"
        fill(database, count)
        size = database.stat().st_size / 1e6
        sys.stdout.write(f"{count:,} events, {size:.0f} MB; {ROUNDS} times each, medians\n")
        options = ("--db", str(database), "--keep-events", str(10 * count))
        with ingest_with(*options) as ingest:
            first = []
            for _ in range(ROUNDS):
                with chromium.launched(chromium.need()) as browser:
                    first.append(look(new_page(browser), ingest.url))
            tell("first time", first)
            with chromium.launched(chromium.need()) as browser:
                page = new_page(browser)
                look(page, ingest.url)
                for window in WINDOWS:
                    tell(window, [look(page, f"{ingest.url}/?window={window}") for _ in range(ROUNDS)])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
