"""Every relative link of every Markdown file leads somewhere, to the heading that it names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from .pages import PAGES, README, ROOT, Page

if TYPE_CHECKING:
    from pathlib import Path

MARKDOWN = sorted({*PAGES, *ROOT.glob("*.md")})
_each = pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))


@_each
def test_relative_links_resolve(path: Path) -> None:
    for link in Page(path).links:
        if re.match(r"[a-z]+:", link):
            continue
        file, _, fragment = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert ROOT in target.parents, link
        assert not fragment or fragment in Page(target).anchors, link


@pytest.mark.parametrize(
    "path", [path for path in PAGES if path != README], ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_site_is_whole_without_the_readme(path: Path) -> None:
    """The site does not have it."""
    assert [link for link in Page(path).links if "README" in link] == []


@_each
def test_external_links_are_https_and_few(path: Path) -> None:
    external = [link for link in Page(path).links if "://" in link]
    assert {link.partition("://")[0] for link in external} <= {"https"}
    hosts = {link.split("/")[2] for link in external}
    assert hosts <= {"beacon.skyware.dev", "keepachangelog.com", "semver.org"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_has_one_title_and_no_heading_twice(path: Path) -> None:
    page = Page(path)
    assert sum(line.startswith("# ") for line in page.prose) == 1
    assert len(set(page.headings)) == len(page.headings)
