"""The page of `beaconhq local` in a real browser; `conftest` asserts a silent console and one host only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Callable, Dict, List

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, Route, expect

from .conftest import WIDE, Ingest, ingest_with, seconds_ago

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.process

Open = Callable[..., Page]

NARROW = {"width": 390, "height": 844}
HOSTILE = [
    "<script>window.owned = 1</script>",
    "<img src=x onerror='window.owned = 1'>",
    "javascript:window.owned=1",
    "\"><svg onload='window.owned=1'>",
    "{{constructor.constructor('window.owned=1')()}}",
    "</td></table><style>body{display:none}</style>",
    "\u202egnp.exe\u200b\x1b[2J",
    "__proto__",
    "constructor",
]


@pytest.fixture(autouse=True)
def _patience() -> None:
    expect.set_options(timeout=30_000)


def row(page: Page, route: str) -> Locator:
    return page.locator("#route-table tbody tr").filter(
        has=page.get_by_role("button", name=f" {route}: open")
    )


def requests(page: Page, route: str) -> Locator:
    return row(page, route).locator("td.share")


def routes(page: Page) -> List[str]:
    return [name.split("/", 1)[1] for name in page.locator("#route-table tbody th").all_inner_texts()]


def some_traffic(ingest: Ingest) -> None:
    ingest.receive(
        *[{"route": "/slow", "path": "/slow", "duration_ms": 900, "consumer": "web"} for _ in range(3)],
        *[{"route": "/fast", "path": "/fast", "duration_ms": 3, "consumer": "app"} for _ in range(20)],
        *[
            {"route": "/broken", "path": f"/broken/{n}", "status": 503, "error": f"ValueError: {n}"}
            for n in range(2)
        ],
        {"route": "/fast", "path": "/fast/er", "duration_ms": 2, "status": 404, "consumer": None},
        {"route": "/early", "path": "/early", "ts": seconds_ago(1800)},
    )


class TestLive:
    def test_it_says_what_to_do_and_comes_alive_with_the_first_event(
        self, ingest: Ingest, open_page: Open
    ) -> None:
        page = open_page(ingest.url)
        expect(page.get_by_role("heading", name="Waiting for the first request")).to_be_visible()
        expect(page.locator("#variables")).to_have_text(
            f"BEACON_INGEST_URL={ingest.url} BEACON_INGEST_KEY=dev"
        )
        ingest.receive({"route": "/a"})
        expect(requests(page, "/a")).to_have_text("1")
        expect(page.locator("#welcome")).to_be_hidden()
        for sent in (2, 3):
            ingest.receive({"route": "/a"})
            expect(requests(page, "/a")).to_have_text(str(sent))
        expect(page.get_by_role("status")).to_have_text("Live")
        expect(page.locator("#traffic .scatterlayer path.js-line")).to_have_count(2)
        expect(page.locator("#traffic")).to_have_attribute("aria-label", re.compile(r"^3 requests, .* 0 % "))

    def test_the_numbers_do_not_wait_for_the_charts(self, ingest: Ingest, open_page: Open) -> None:
        some_traffic(ingest)
        page = open_page(ingest.url)
        lines = page.locator("#traffic path.js-line")
        expect(lines).to_have_count(2)
        held: List[Route] = []
        page.route("**/static/plotly.js", lambda request: held.append(request))  # noqa: PLW0108
        page.reload()
        expect(requests(page, "/fast")).to_have_text("21")
        expect(page.locator("#traffic")).to_have_attribute("aria-label", re.compile("^26 requests, "))
        expect(lines).to_have_count(0)
        for request in held:
            request.continue_()
        expect(lines).to_have_count(2)

    def test_pausing_holds_it_still(self, ingest: Ingest, open_page: Open) -> None:
        ingest.receive({"route": "/a"})
        page = open_page(ingest.url)
        expect(requests(page, "/a")).to_have_text("1")
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_role("status")).to_have_text("Paused")
        ingest.receive({"route": "/a"})
        other = open_page(ingest.url)
        expect(requests(other, "/a")).to_have_text("2")
        expect(requests(page, "/a")).to_have_text("1")
        page.get_by_role("button", name="Pause").click()
        expect(requests(page, "/a")).to_have_text("2")

    def test_it_says_that_the_server_stopped(self, open_page: Open) -> None:
        with ingest_with() as ingest:
            page = open_page(ingest.url)
            expect(page.get_by_role("status")).to_have_text("Live")
        expect(page.get_by_role("status")).to_have_text(re.compile("No connection|stopped"))

    def test_refused_batches_and_bad_templates_are_told(self, ingest: Ingest, open_page: Open) -> None:
        ingest.receive(*[{"route": f"/users/{n}"} for n in range(30)])
        with pytest.raises(AssertionError):
            ingest.receive({"status": 7})
        page = open_page(ingest.url)
        notices = page.locator(".notice")
        expect(notices.filter(has_text="status: must be 100 to 599")).to_be_visible()
        expect(notices.filter(has_text="30 routes look like concrete paths")).to_be_visible()


class TestTable:
    def test_it_sorts_by_each_column_both_ways(self, ingest: Ingest, open_page: Open) -> None:
        some_traffic(ingest)
        page = open_page(f"{ingest.url}/?window=1h")
        expect(requests(page, "/fast")).to_have_text("21")
        assert routes(page)[0] == "fast"
        header = page.locator("#route-table th[data-sort=p95]")
        header.get_by_role("button").click()
        expect(header).to_have_attribute("aria-sort", "descending")
        assert routes(page)[0] == "slow"
        header.get_by_role("button").press("Enter")
        expect(header).to_have_attribute("aria-sort", "ascending")
        assert routes(page)[0] == "fast"
        page.locator("#route-table th[data-sort=route]").get_by_role("button").click()
        assert routes(page) == ["broken", "early", "fast", "slow"]
        page.reload()
        expect(page.locator("#route-table th[data-sort=route]")).to_have_attribute("aria-sort", "ascending")
        expect(requests(page, "/fast")).to_have_text("21")
        assert routes(page) == ["broken", "early", "fast", "slow"]


class TestFilters:
    def test_they_narrow_what_is_shown_and_are_kept_in_the_url(self, ingest: Ingest, open_page: Open) -> None:
        some_traffic(ingest)
        page = open_page(ingest.url)
        rows = page.locator("#route-table tbody tr")
        expect(rows).to_have_count(3)
        page.get_by_text("1 h", exact=True).click()
        expect(rows).to_have_count(4)
        page.get_by_text("5xx", exact=True).first.click()
        expect(rows).to_have_count(1)
        expect(requests(page, "/broken")).to_have_text("2")
        page.get_by_text("Any", exact=True).click()
        page.get_by_role("combobox", name="Consumer").select_option(label="web")
        expect(rows).to_have_count(1)
        expect(requests(page, "/slow")).to_have_text("3")
        expect(page).to_have_url(f"{ingest.url}/?window=1h&consumer=web")

        page.reload()
        expect(rows).to_have_count(1)
        expect(page.get_by_role("combobox", name="Consumer")).to_have_value("is web")
        expect(page.get_by_label("1 h")).to_be_checked()
        page.go_back()
        expect(rows).to_have_count(4)
        page.get_by_role("button", name="no consumer").click()
        expect(requests(page, "/fast")).to_have_text("1")
        expect(page).to_have_url(re.compile("consumer=$"))
        page.get_by_role("button", name="Clear filters").click()
        expect(rows).to_have_count(4)

    def test_a_url_that_makes_no_sense_shows_the_default(self, ingest: Ingest, open_page: Open) -> None:
        some_traffic(ingest)
        page = open_page(f"{ingest.url}/?window=%22%5D&status=9&sort=__proto__&route=/x")
        expect(page.locator("#route-table tbody tr")).to_have_count(3)

    def test_nothing_in_the_window_offers_everything(self, ingest: Ingest, open_page: Open) -> None:
        ingest.receive({"ts": "2026-01-01T00:00:00Z", "route": "/old"})
        page = open_page(ingest.url)
        page.get_by_role("button", name="Show everything").click()
        expect(requests(page, "/old")).to_have_text("1")


class TestDrillDown:
    def test_it_shows_one_route_and_is_kept_in_the_url(self, ingest: Ingest, open_page: Open) -> None:
        some_traffic(ingest)
        page = open_page(ingest.url)
        row(page, "/broken").click()
        drawer = page.get_by_role("dialog", name="GET /broken")
        expect(drawer.locator("#failures li").first).to_contain_text("503")
        expect(drawer.locator("#failures .error")).to_have_text(["ValueError: 1", "ValueError: 0"])
        expect(drawer.locator("#slowest li")).to_have_count(2)
        expect(drawer.locator("#mix")).to_have_attribute("aria-label", "5xx 100 %")
        expect(drawer.locator("#callers tbody tr")).to_have_text(re.compile("mobile-app"))
        expect(drawer.locator("#histogram .bars path").first).to_be_visible()
        expect(page).to_have_url(f"{ingest.url}/?method=GET&route=%2Fbroken")

        ingest.receive({"route": "/broken", "path": "/broken/9", "status": 500, "error": "KeyError: 9"})
        expect(drawer.locator("#failures .error").first).to_have_text("KeyError: 9")

        page.reload()
        expect(drawer.locator("#failures li")).to_have_count(3)
        page.go_back()
        expect(drawer).to_be_hidden()
        expect(page.locator("#route-table tbody tr")).to_have_count(3)

    def test_its_filters_hold_inside(self, ingest: Ingest, open_page: Open) -> None:
        some_traffic(ingest)
        page = open_page(f"{ingest.url}/?method=GET&route=%2Ffast&status=4")
        drawer = page.get_by_role("dialog")
        expect(drawer.locator("#slowest li")).to_have_count(1)
        expect(drawer.locator("#slowest .path")).to_have_text("/fast/er")
        page.get_by_role("button", name="Close the route").click()
        expect(drawer).to_be_hidden()
        expect(page).not_to_have_url(re.compile("route"))


class TestKeyboard:
    def test_everything_is_reached_and_the_focus_comes_back(self, ingest: Ingest, open_page: Open) -> None:
        some_traffic(ingest)
        page = open_page(ingest.url)
        button = page.get_by_role("button", name="/slow: open")
        expect(button).to_be_visible()
        reached = []
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate(
                    "document.activeElement.getAttribute('aria-label')"
                    " ?? document.activeElement.textContent.trim()"
                )
            )
            if reached[-1] == "GET /slow: open":
                break
        assert reached[0] == "Skip to the routes"
        for name in ("Pause", "Colours: automatic", "Requests", "p95", "GET /slow: open"):
            assert name in reached
        page.keyboard.press("Enter")
        drawer = page.get_by_role("dialog", name="GET /slow")
        expect(drawer.locator("#slowest li").first).to_contain_text("900 ms")
        # The table goes on changing behind it.
        ingest.receive(*[{"route": "/slow", "duration_ms": 5} for _ in range(40)])
        expect(drawer.locator("#drawer-numbers dd").first).to_have_text("43")
        page.keyboard.press("Escape")
        expect(drawer).to_be_hidden()
        expect(button).to_be_focused()


#: The contrast of small text (WCAG 2.1, 1.4.3), asked of all text.
STRICT = {"contrastRatio": {size: {"expected": 4.5} for size in ("normal", "large")}}


def violations(page: Page) -> List[str]:
    """Return what axe-core objects to: names, roles, landmarks, contrast, focus order."""
    options = {"resultTypes": ["violations"], "checks": {"color-contrast": {"options": STRICT}}}
    found = Axe().run(page, options=options).response
    assert len(found["passes"]) > 20, "it looked"
    return [f"{each['id']}: {node['html']}" for each in found["violations"] for node in each["nodes"]]


class TestLooks:
    @pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_follows_the_system_and_axe_finds_nothing(
        self, ingest: Ingest, open_page: Open, scheme: str, viewport: Dict[str, int]
    ) -> None:
        page = open_page(ingest.url, color_scheme=scheme, viewport=viewport)
        assert is_dark(page) is (scheme == "dark")
        expect(page.get_by_role("heading", name="Waiting for the first request")).to_be_visible()
        assert violations(page) == []
        some_traffic(ingest)
        ingest.receive(*[{"route": f"/users/{n}", "method": "DELETE"} for n in range(30)])
        expect(requests(page, "/fast")).to_have_text("21")
        expect(page.locator(".notice")).to_have_count(1)
        expect(page.locator("#latency path.js-line")).to_have_count(3)
        assert violations(page) == []
        page.get_by_role("button", name="/broken: open").click()
        expect(page.locator("#failures li").first).to_contain_text("503")
        assert violations(page) == []

    def test_the_switch_overrules_the_system_and_is_remembered(self, ingest: Ingest, open_page: Open) -> None:
        ingest.receive({})
        page = open_page(ingest.url, color_scheme="dark")
        page.get_by_role("button", name="Colours: automatic").click()
        expect(page.get_by_role("button", name="Colours: light")).to_be_visible()
        assert not is_dark(page)
        page.reload()
        assert not is_dark(page)
        page.get_by_role("button", name="Colours: light").click()
        page.get_by_role("button", name="Colours: dark").click()
        assert is_dark(page)
        page.emulate_media(color_scheme="light")
        expect(page.get_by_role("button", name="Colours: automatic")).to_be_visible()
        assert not is_dark(page)

    def test_a_narrow_screen_does_not_scroll_sideways(self, ingest: Ingest, open_page: Open) -> None:
        some_traffic(ingest)
        long = "/" + "x" * 2000
        ingest.receive(
            {"route": long, "path": long, "consumer": "c" * 256, "error": "e" * 3000, "status": 500}
        )
        ingest.receive({"route": "/huge", "duration_ms": 2**53 - 1})
        page = open_page(ingest.url, viewport=NARROW)
        expect(page.locator("#route-table tbody tr")).to_have_count(5)
        assert overflow(page) == 0
        page.locator("#route-table tbody tr", has_text="xxxx").get_by_role("button").click()
        expect(page.locator("#failures li")).to_have_count(1)
        assert overflow(page) == 0
        assert page.evaluate("document.getElementById('drawer').scrollWidth") <= NARROW["width"]


def is_dark(page: Page) -> bool:
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall("[0-9]+", colour)[:3])) < 200


def overflow(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


class TestHostile:
    def test_what_callers_send_is_text(self, ingest: Ingest, open_page: Open) -> None:
        ingest.receive(
            *[{"route": text, "path": text, "consumer": text, "error": text, "status": 500, "method": "<b>"}
              for text in HOSTILE]
        )  # fmt: skip
        page = open_page(ingest.url)
        buttons = page.locator("#route-table tbody th button")
        expect(buttons).to_have_count(len(HOSTILE))
        shown = set(page.locator("#route-table tbody th").all_text_contents())
        visible = [*HOSTILE[:6], r"\u{202e}gnp.exe\u{200b}\u{1b}[2J", *HOSTILE[7:]]
        assert shown == {f"<b> {text}" for text in visible}
        for place in range(len(HOSTILE)):
            buttons.nth(place).click()
            expect(page.locator("#failures .error")).to_have_count(1)
            assert page.locator("#failures .error").inner_text() in visible
            page.keyboard.press("Escape")
        for text in HOSTILE:
            page.get_by_role("combobox", name="Consumer").select_option(value=f"is {text}")
            expect(buttons).to_have_count(1)
        assert page.evaluate("window.owned") is None
        assert page.locator("main script, main img, main style, main b").count() == 0

    @pytest.mark.parametrize(
        "script",
        [
            "document.body.append(Object.assign(document.createElement('script'), {text: 'window.owned=1'}))",
            "document.body.innerHTML = '<img src=x onerror=window.owned=1>'",
            "document.body.setAttribute('onclick', 'window.owned = 1'), document.body.click()",
        ],
    )
    def test_the_policy_would_stop_it_all_the_same(self, ingest: Ingest, browser: Any, script: str) -> None:
        """The second line: text that became HTML by a mistake of ours still runs nothing."""
        context = browser.new_context()
        try:
            page = context.new_page()
            page.goto(ingest.url)
            page.evaluate(f"() => {{ try {{ {script} }} catch {{ }} }}")
            page.wait_for_timeout(300)
            assert page.evaluate("window.owned") is None
        finally:
            context.close()


class TestKey:
    def test_the_browser_s_own_prompt_lets_in(self, open_page: Open) -> None:
        with ingest_with("--key", "s3cret", key="s3cret") as ingest:
            ingest.receive({"route": "/a"})
            page = open_page(ingest.url, http_credentials={"username": "me", "password": "s3cret"})
            expect(requests(page, "/a")).to_have_text("1")


APP = """
from fastapi import FastAPI

app = FastAPI()


@app.get("/orders/{order_id}", deprecated=True)
def order(order_id: int) -> None: ...


@app.post("/orders")
def create() -> None: ...
"""


def test_the_routes_that_nobody_called(tmp_path: Path, open_page: Open) -> None:
    (tmp_path / "shop.py").write_text(APP)
    with ingest_with("--app", "shop:app", PYTHONPATH=str(tmp_path)) as ingest:
        ingest.receive({}, {"route": "/gone"})
        page = open_page(ingest.url)
        expect(page.get_by_text("1 of 2 never called, 1 deprecated and still called")).to_be_visible()
        rows = page.locator("#coverage-table tbody tr")
        expect(rows.nth(0)).to_contain_text("POST")
        expect(rows.nth(0)).to_contain_text("never")
        expect(rows.nth(1)).to_contain_text("mobile-app (1)")
        expect(page.locator("#foreign")).to_have_text("Called, but not in this app: GET /gone")
        ingest.receive({"method": "POST", "route": "/orders", "consumer": "web"})
        expect(page.get_by_text("0 of 2 never called")).to_be_visible()
