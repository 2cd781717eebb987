from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import httpx
import pytest

from beaconhq.local.demo import Balance

from .processes import PATIENCE, run, running

if TYPE_CHECKING:
    import subprocess


@pytest.mark.process
class TestCommand:
    def test_everything_sent_is_stored(self) -> None:
        """A dead proxy in the environment proves that nothing goes by way of it."""
        dead = "http://127.0.0.1:1"
        done = run("-m", "beaconhq", "demo", "--requests", "60", HTTP_PROXY=dead, ALL_PROXY=dead)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        lines = done.stdout.splitlines()
        assert lines[-1] == "sent 60, stored 60, lost 0"
        assert "requests sent: 60 of 60" in lines
        assert any(re.match(r"stored 60 events, [1-9][0-9]* batch(es)?, 7 routes$", line) for line in lines)
        rows = {tuple(line.split()[:2]) for line in lines}
        assert rows >= {
            ("GET", "/api/v1/orders"),
            ("POST", "/api/v1/orders"),
            ("GET", "/api/v1/orders/{order_id}"),
            ("GET", "/shop/products/{product_id}"),
            ("GET", "/exports/{year}"),
            ("GET", "/reports/{report_id}"),
            ("GET", "(unmatched)"),
        }
        assert "\x1b" not in done.stdout
        assert "Traceback" not in done.stdout

    def test_keep_stays_up_until_ctrl_c(self) -> None:
        with running("-m", "beaconhq", "demo", "--requests", "20", "--keep") as process:
            app = process.wait_for(r"app: +(http://127\.0\.0\.1:[0-9]+)$")[1]
            summary = process.wait_for(r"summary: +(http://127\.0\.0\.1:[0-9]+/v1/summary)$")[1]
            process.wait_for("Ctrl-C stops it")
            with httpx.Client(trust_env=False, timeout=PATIENCE) as visitor:
                assert visitor.get(f"{app}/api/v1/orders/1").status_code == 200
                assert visitor.get(summary).json()["totals"]["rejected"] == 0
            assert process.stop(signal.SIGINT) == 0
        closing = re.fullmatch(r"sent ([0-9]+), stored ([0-9]+), lost 0\n", process.output[-1])
        assert closing is not None, process.output
        sent, stored = map(int, closing.groups())
        assert sent >= 20
        assert stored == sent + 1


#: What stands in for the ingest; `make_ingest` is the seam.
ANSWERS = """
async def answer(request):
    await request.body()
    return JSONResponse({"reason": chr(27) + "[2J"}, status_code=STATUS)

def make_ingest(store):
    return Starlette(routes=[Route("/v1/ingest", answer, methods=["POST"])])
"""
STORES_TWICE = """
def make_ingest(store):
    add = store.add
    def twice(events, key):
        add(events)
        return add(events, key)
    store.add = twice
    return demo.create_app(store)
"""


def demo_with(ingest: str) -> subprocess.CompletedProcess[str]:
    """Run the demo of 30 requests with another ingest."""
    script = f"""
import sys
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from beaconhq.local import demo
{ingest}
sys.exit(demo.run(requests=30, make_ingest=make_ingest))
"""
    return run("-c", script)


@pytest.mark.process
class TestLoss:
    def test_an_ingest_that_refuses_fails_the_demo(self) -> None:
        done = demo_with(ANSWERS.replace("STATUS", "400"))
        assert done.returncode == 1
        lines = done.stdout.splitlines()
        assert lines[-1] == "sent 30, stored 0, lost 30"
        assert lines[-2].startswith("the SDK reported: ")
        assert "\x1b" not in done.stdout

    def test_an_ingest_that_only_says_it_stored_fails_the_demo(self) -> None:
        """What counts is what the database holds, not what the SDK was told."""
        done = demo_with(ANSWERS.replace("STATUS", "202"))
        assert done.returncode == 1
        assert done.stdout.splitlines()[-1] == "sent 30, stored 0, lost 30"

    def test_an_ingest_that_stores_twice_fails_the_demo(self) -> None:
        done = demo_with(STORES_TWICE)
        assert done.returncode == 1
        assert done.stdout.splitlines()[-2:] == ["sent 30, stored 60, lost 0", "stored more than once: 30"]

    def test_what_does_not_end_in_time_is_one_line(self) -> None:
        done = run(
            "-c",
            "import sys; from beaconhq.local import demo;"
            "demo._TIME_LIMIT, demo._TIME_PER_REQUEST = 0.3, 0.0;"
            "sys.exit(demo.run(requests=1000))",
        )
        assert (done.returncode, done.stderr) == (1, "beaconhq demo: not finished within 0.3 s\n")


@pytest.mark.parametrize(
    ("balance", "lost", "complete"),
    [
        (Balance(sent=5, unanswered=0, captured=5, stored=5), 0, True),
        (Balance(sent=5, unanswered=0, captured=7, stored=7), 0, True),
        (Balance(sent=5, unanswered=0, captured=5, stored=4), 1, False),
        (Balance(sent=5, unanswered=0, captured=4, stored=4), 1, False),
        (Balance(sent=5, unanswered=0, captured=7, stored=6), 1, False),
        (Balance(sent=5, unanswered=0, captured=5, stored=6), 0, False),
        (Balance(sent=5, unanswered=1, captured=6, stored=6), 0, False),
        (Balance(sent=0, unanswered=3, captured=0, stored=0), 0, False),
    ],
)
def test_balance(balance: Balance, lost: int, complete: bool) -> None:
    assert (balance.lost, balance.complete) == (lost, complete)
