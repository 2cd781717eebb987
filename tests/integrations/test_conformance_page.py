"""docs/conformance.md shows the table that the adapters are tested against."""

from __future__ import annotations

from .conformance_page import PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: python -m tests.integrations.conformance_page"
