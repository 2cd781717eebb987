"""Shows how far a known number of steps has come: a bar on a terminal, a line per quarter elsewhere."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Callable, Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from .terminal import is_interactive, say

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_LINES = 4


@contextlib.contextmanager
def showing(console: Console, what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show progress inside the block; call what it yields once per step. The bar is gone afterwards."""
    if is_interactive(console):
        with Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            console=console,
            transient=True,
        ) as bar:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)
    else:
        yield _PlainProgress(console, what, total).advance


class _PlainProgress:
    def __init__(self, console: Console, what: str, total: int) -> None:
        self._console = console
        self._what = what
        self._total = total
        self._done = 0
        self._stride = max(total // _PLAIN_LINES, 1)

    def advance(self) -> None:
        self._done += 1
        if self._done == self._total or self._done % self._stride == 0:
            say(self._console, f"{self._what}: {self._done:,} of {self._total:,}")
