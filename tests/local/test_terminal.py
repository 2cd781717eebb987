from __future__ import annotations

import io
import re
import time
from dataclasses import replace
from typing import Optional

import pytest
from rich.console import Console

from beaconhq.local.summary import ConsumerCount, RouteSummary, Summary, Totals
from beaconhq.local.terminal import LiveDisplay, PlainDisplay, is_interactive, make_display, render, say

#: What rich itself sends to a terminal: colours, cursor, erasing. Nothing else may contain an ESC.
RICH_CONTROLS = re.compile(r"\x1b\[(?:[0-9;]*m|[0-9]*A|2K|\?25[lh])")
HOSTILE = "/\x1b[2J\x07\x9b\u202e\u2066\u200b[bold red]x[/bold red][link=http://e]y[/]:bomb:\r\n\x08"


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def console_on(file: io.StringIO, *, width: int = 80, height: int = 24) -> Console:
    return Console(
        file=file,
        width=width,
        height=height,
        highlight=False,
        markup=False,
        emoji=False,
        force_terminal=file.isatty(),
        legacy_windows=False,
        _environ={"TERM": "xterm-256color"},
    )


ROUTE = RouteSummary(
    method="GET",
    route="/orders/{order_id}",
    count=1234,
    errors=1,
    error_rate=0.125,
    p50_ms=12,
    p95_ms=2345,
    p99_ms=9_007_199_254_740_991,
    consumer_count=5,
    consumers=(ConsumerCount("mobile-app", 4), ConsumerCount("web", 3), ConsumerCount("x", 2)),
    last_seen="2026-06-03T12:00:00.000+00:00",
)
TOTALS = Totals(stored=1234, batches=1, duplicates=0, rejected=0, last_rejection=None)


def summary_of(*routes: RouteSummary, totals: Totals = TOTALS, route_count: Optional[int] = None) -> Summary:
    return Summary(totals, len(routes) if route_count is None else route_count, routes)


def shown(summary: Summary, *, width: int = 80, max_rows: Optional[int] = None) -> str:
    file = io.StringIO()
    console = console_on(file, width=width)
    console.print(render(summary, console, max_rows=max_rows))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


class TestRender:
    def test_a_row_in_80_columns(self) -> None:
        today = time.strftime("%Y-%m-%d", time.gmtime())
        lines = shown(summary_of(replace(ROUTE, last_seen=f"{today}T23:59:58.000+00:00"))).splitlines()
        if time.strftime("%Y-%m-%d", time.gmtime()) != today:
            pytest.skip("midnight")
        assert lines[0] == "stored 1,234 events, 1 batch, 1 route"
        assert lines[-1].split() == [
            "GET",
            "/orders/{order_id}",
            "1,234",
            "12.5",
            "12",
            "2,345",
            "9e+15",
            "5",
            "23:59:58",
        ]
        assert max(map(len, lines)) <= 80

    def test_an_earlier_day_is_shown_as_a_date(self) -> None:
        assert shown(summary_of(replace(ROUTE, last_seen="2001-02-03T04:05:06.000+00:00"))).endswith(
            "2001-02-03"
        )

    def test_a_wide_terminal_names_the_consumers(self) -> None:
        assert "mobile-app, web, x, 2 more" in shown(summary_of(ROUTE), width=140)
        assert "mobile-app" not in shown(summary_of(ROUTE), width=100)

    def test_no_events_yet(self) -> None:
        assert shown(summary_of(totals=Totals(0, 0, 0, 0, None))) == "no events yet"

    def test_duplicates_refusals_and_the_last_reason(self) -> None:
        totals = Totals(
            stored=2, batches=2, duplicates=1, rejected=3, last_rejection="400: body \x1b[2J is not JSON"
        )
        lines = shown(summary_of(totals=totals)).splitlines()
        assert " ".join(lines) == (
            "stored 2 events, 2 batches, 0 routes, 1 repeated batch, 3 refused batches"
            r" last refused: 400: body \x1b[2J is not JSON"
        )

    def test_routes_that_are_not_shown_are_counted(self) -> None:
        routes = [replace(ROUTE, route=f"/r{number}") for number in range(5)]
        text = shown(summary_of(*routes, route_count=1005), max_rows=2)
        assert text.endswith("and 1,003 more routes")
        assert "/r1" in text
        assert "/r2" not in text

    @pytest.mark.parametrize("width", [20, 40, 80, 110, 200])
    def test_no_line_is_wider_than_the_terminal(self, width: int) -> None:
        wide = replace(
            ROUTE, route="/long" * 400, method="X" * 16, count=10**12, last_seen="2001-02-03T04:05"
        )
        lines = shown(summary_of(wide, ROUTE), width=width).splitlines()
        assert max(map(len, lines)) <= width

    @pytest.mark.parametrize("width", [80, 140])
    def test_hostile_text_cannot_drive_the_terminal(self, width: int) -> None:
        """Looks at what is written to a terminal that understands everything."""
        file = Tty()
        console = console_on(file, width=width)
        hostile = replace(
            ROUTE,
            method="[i]\x1b[2J",
            route=HOSTILE,
            consumers=(ConsumerCount("\x1b[31m[blue]", 1), ConsumerCount("\u202e\x9b", 1)),
        )
        totals = replace(TOTALS, rejected=1, last_rejection=f"{HOSTILE}[dim]")
        console.print(render(summary_of(hostile, totals=totals), console))
        rest = RICH_CONTROLS.sub("", file.getvalue())
        assert not [c for c in rest if c != "\n" and (ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0)]
        assert not set(rest) & set("\u202e\u2066\u200b")

    def test_markup_is_text(self) -> None:
        marked = replace(
            ROUTE,
            method="[i]",
            route="/[bold red]x[/bold red]",
            consumer_count=1,
            consumers=(ConsumerCount("[blue]:bomb:", 1),),
        )
        totals = replace(TOTALS, rejected=1, last_rejection="400: [link=http://e]y[/]")
        text = shown(summary_of(marked, totals=totals), width=140)
        for expected in ("[i] ", "/[bold red]x[/bold red] ", " [blue]:bomb: ", "400: [link=http://e]y[/]"):
            assert expected in text


class TestPlainDisplay:
    def test_a_line_now_and_then_and_the_table_at_the_end(self) -> None:
        file, now = io.StringIO(), [100.0]
        display = PlainDisplay(console_on(file), clock=lambda: now[0])
        for moment, stored in [(100.0, 1), (101.0, 2), (104.9, 3), (105.0, 4), (109.0, 5)]:
            now[0] = moment
            display.update(summary_of(ROUTE, totals=replace(TOTALS, stored=stored)))
        assert file.getvalue().splitlines() == [
            "stored 1 event, 1 batch, 1 route",
            "stored 4 events, 1 batch, 1 route",
        ]
        display.finish(summary_of(ROUTE))
        display.close()
        assert "/orders/{order_id}" in file.getvalue()
        assert "\x1b" not in file.getvalue()


class TestLiveDisplay:
    def test_it_redraws_and_leaves_the_full_table_and_the_cursor(self) -> None:
        file = Tty()
        display = LiveDisplay(console_on(file, height=12))
        routes = [replace(ROUTE, route=f"/r{number:03}") for number in range(40)]
        display.update(summary_of(*routes))
        drawn = file.getvalue()
        assert "\x1b[?25l" in drawn
        assert "/r003" in drawn
        assert "/r004" not in drawn
        assert "and 36 more routes" in drawn
        display.update(summary_of(*routes))
        display.finish(summary_of(*routes))
        display.close()
        final = file.getvalue()[len(drawn) :]
        assert "/r039" in final
        assert final.rindex("\x1b[?25h") < final.index("/r039")

    def test_close_gives_the_cursor_back_without_a_last_table(self) -> None:
        file = Tty()
        display = LiveDisplay(console_on(file))
        display.update(summary_of(ROUTE))
        display.close()
        display.close()
        assert file.getvalue().count("\x1b[?25h") == 1

    def test_a_display_that_never_drew_writes_nothing(self) -> None:
        file = Tty()
        LiveDisplay(console_on(file)).close()
        assert file.getvalue() == ""


class TestMakeDisplay:
    def test_a_pipe_is_plain_even_when_colours_are_forced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        console = Console(file=io.StringIO())
        assert not is_interactive(console)
        assert isinstance(make_display(console), PlainDisplay)

    def test_a_terminal_is_live_and_a_dumb_one_plain(self) -> None:
        assert isinstance(make_display(console_on(Tty())), LiveDisplay)
        dumb = Console(file=Tty(), _environ={"TERM": "dumb"})
        assert isinstance(make_display(dumb), PlainDisplay)


def test_say_keeps_a_long_line_whole() -> None:
    file = io.StringIO()
    line = " ".join(["BEACON_INGEST_URL=http://127.0.0.1:8787"] * 5)
    say(console_on(file, width=40), line)
    assert file.getvalue() == line + "\n"
