from __future__ import annotations

import io
from typing import List

import pytest
from rich.console import Console

from beaconhq.local.progress import showing


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (600, ["sent: 150 of 600", "sent: 300 of 600", "sent: 450 of 600", "sent: 600 of 600"]),
        (1, ["sent: 1 of 1"]),
        (3, ["sent: 1 of 3", "sent: 2 of 3", "sent: 3 of 3"]),
        (10, ["sent: 2 of 10", "sent: 4 of 10", "sent: 6 of 10", "sent: 8 of 10", "sent: 10 of 10"]),
    ],
)
def test_a_pipe_gets_a_few_plain_lines(total: int, expected: List[str]) -> None:
    file = io.StringIO()
    with showing(Console(file=file), "sent", total) as advance:
        for _ in range(total):
            advance()
    assert file.getvalue().splitlines() == expected


def test_a_terminal_gets_a_bar_that_goes_away() -> None:
    file = Tty()
    console = Console(file=file, force_terminal=True, width=80, _environ={"TERM": "xterm"})
    with showing(console, "sent", 4) as advance:
        for _ in range(4):
            advance()
    assert "4/4" in file.getvalue()
    assert file.getvalue().endswith("\x1b[2K")
    assert file.getvalue().count("\x1b[?25l") == file.getvalue().count("\x1b[?25h") == 1
