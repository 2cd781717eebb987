"""
Shows a summary in the terminal: a live table on a tty, plain lines and one table at the end elsewhere.

Owns the layout. It reads no database and runs no loop: it is handed one `Summary` after another. Every text
that came in over the network passes `printable`, and is a `Text`, whose brackets rich does not interpret.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Callable, List, Optional, Protocol

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .printable import printable

if TYPE_CHECKING:
    from .summary import RouteSummary, Summary

#: A terminal this wide (columns) has room for the consumers' names; a narrower one shows how many there are.
WIDE = 110
#: Seconds between two plain lines while events arrive.
PLAIN_INTERVAL = 5.0

_ROUTE_LIMIT = 72  # characters; three lines in 80 columns
_CONSUMER_LIMIT = 16
_METHOD_LIMIT = 8
_NAMED_CONSUMERS = 3
_REASON_LIMIT = 160
# Totals, a refusal on two lines, header on two, rule, the line on what is not shown, the cursor's line.
_LINES_AROUND_THE_ROWS = 8


class Display(Protocol):
    """Where summaries are shown, one after another; `finish` once, last, and `close` in any case."""

    def update(self, summary: Summary) -> None:
        """Show the state of the moment."""

    def finish(self, summary: Summary) -> None:
        """Show the final state."""

    def close(self) -> None:
        """Give the terminal back; idempotent."""


def make_console() -> Console:
    """Return a console on standard output that adds no colour of its own to paths, numbers or words."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False)


def say(console: Console, line: str) -> None:
    """Print one line, unwrapped: a URL or a command stays whole when it is copied."""
    console.print(line, soft_wrap=True)


def make_display(console: Console) -> Display:
    """Return the live table for a terminal that can redraw, plain lines for a pipe or a file."""
    return LiveDisplay(console) if is_interactive(console) else PlainDisplay(console)


def is_interactive(console: Console) -> bool:
    """Tell whether the console can redraw; FORCE_COLOR asks for colours in a pipe, not for redrawing."""
    return console.file.isatty() and not console.is_dumb_terminal


class LiveDisplay:
    """A table that is redrawn in place, at most as tall as the terminal; the full one stays at the end."""

    def __init__(self, console: Console) -> None:
        """Draw nothing yet."""
        self._console = console
        self._live: Optional[Live] = None

    def update(self, summary: Summary) -> None:
        """Redraw."""
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        rows = max(self._console.height - _LINES_AROUND_THE_ROWS, 1)
        self._live.update(render(summary, self._console, max_rows=rows), refresh=True)

    def finish(self, summary: Summary) -> None:
        """Replace it by the table of all routes, the ones that did not fit included."""
        self.close()
        self._console.print(render(summary, self._console))

    def close(self) -> None:
        """Remove the table and show the cursor again."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class PlainDisplay:
    """A line every few seconds while events arrive, and the table at the end; no control sequences."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Print nothing yet."""
        self._console = console
        self._clock = clock
        self._next_line: Optional[float] = None

    def update(self, summary: Summary) -> None:
        """Print one line, unless there was one in the last `PLAIN_INTERVAL`."""
        now = self._clock()
        if self._next_line is not None and now < self._next_line:
            return
        self._next_line = now + PLAIN_INTERVAL
        self._console.print(_totals_line(summary))

    def finish(self, summary: Summary) -> None:
        """Print the table of all routes."""
        self._console.print(render(summary, self._console))

    def close(self) -> None:
        """Do nothing: there is nothing to restore."""


def render(summary: Summary, console: Console, *, max_rows: Optional[int] = None) -> Group:
    """Lay out a summary for this console's width; None as `max_rows` shows every route it holds."""
    # The table comes last: where rows fold and the screen is too small, the end of the table is what is cut.
    lines: List[RenderableType] = [_totals_line(summary)]
    if summary.totals.last_rejection is not None:
        reason = printable(summary.totals.last_rejection, limit=_REASON_LIMIT, encoding=console.encoding)
        lines.append(Text(f"last refused: {reason}", style="red"))
    routes = summary.routes[:max_rows]
    if routes:
        table = _empty_table(wide=console.width >= WIDE)
        for route in routes:
            table.add_row(*_cells(route, console))
        lines.append(table)
    if summary.route_count > len(routes):
        lines.append(Text(f"and {summary.route_count - len(routes):,} more routes", style="dim"))
    return Group(*lines)


def _empty_table(*, wide: bool) -> Table:
    # Headers of two lines: 80 columns leave 25 for the route.
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, show_edge=False)
    table.add_column("method", no_wrap=True)
    table.add_column("route", overflow="fold", ratio=1, min_width=16)
    for header in ("count", "5xx\n%", "p50\nms", "p95\nms", "p99\nms"):
        table.add_column(header, justify="right", no_wrap=True)
    if wide:
        table.add_column("consumers", overflow="fold")
    else:
        table.add_column("con-\nsumers", justify="right", no_wrap=True)
    table.add_column("last\nseen", justify="right", no_wrap=True)
    return table


def _cells(route: RouteSummary, console: Console) -> List[Text]:
    encoding = console.encoding
    return [
        Text(printable(route.method, limit=_METHOD_LIMIT, encoding=encoding)),
        Text(printable(route.route, limit=_ROUTE_LIMIT, encoding=encoding)),
        Text(f"{route.count:,}"),
        Text(f"{100 * route.error_rate:.1f}", style="red" if route.errors else "dim"),
        Text(_duration(route.p50_ms)),
        Text(_duration(route.p95_ms)),
        Text(_duration(route.p99_ms)),
        Text(_consumers(route, console)),
        Text(_last_seen(route.last_seen)),
    ]


def _duration(milliseconds: int) -> str:
    # The ingest accepts up to 2**53 ms; such a value must not push the other columns off the screen.
    return f"{milliseconds:,}" if milliseconds < 10_000_000 else f"{milliseconds:.0e}"


def _consumers(route: RouteSummary, console: Console) -> str:
    if console.width < WIDE:
        return f"{route.consumer_count:,}"
    named = route.consumers[:_NAMED_CONSUMERS]
    names = [printable(each.consumer, limit=_CONSUMER_LIMIT, encoding=console.encoding) for each in named]
    more = route.consumer_count - len(named)
    return ", ".join([*names, f"{more:,} more"] if more else names)


def _last_seen(timestamp: str) -> str:
    """Shorten `2026-06-03T12:00:00.000+00:00` to the time of day if that is today (UTC), else to the date."""
    day, _, moment = timestamp.partition("T")
    return moment[:8] if day == time.strftime("%Y-%m-%d", time.gmtime()) else day


def _totals_line(summary: Summary) -> Text:
    totals = summary.totals
    if not (totals.stored or totals.batches or totals.rejected):
        return Text("no events yet", style="bold")
    counts = [
        _counted(totals.stored, "event", "events"),
        _counted(totals.batches, "batch", "batches"),
        _counted(summary.route_count, "route", "routes"),
    ]
    if totals.duplicates:
        counts.append(_counted(totals.duplicates, "repeated batch", "repeated batches"))
    if totals.rejected:
        counts.append(_counted(totals.rejected, "refused batch", "refused batches"))
    return Text(f"stored {', '.join(counts)}", style="bold")


def _counted(number: int, singular: str, plural: str) -> str:
    return f"{number:,} {singular if number == 1 else plural}"
