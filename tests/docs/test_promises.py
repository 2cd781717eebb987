"""Where a page names the test that holds a promise, there is such a test; some pages do it throughout."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Iterator, List, Tuple

import pytest

from .pages import DOCS, PAGES, Page

if TYPE_CHECKING:
    from pathlib import Path

#: [`test_name`](../tests/test_module.py), or with the class of the test.
_TEST_LINK = re.compile(r"\[`([^`]+)`\]\(((?:\.\./)*tests/[\w/]+\.py)\)")
#: Pages with a table of all their promises.
_COLUMNS = {"section", "promise", "held by"}
PROMISING = [
    path for path in PAGES if any(table and set(table[0]) >= _COLUMNS for table in Page(path).tables)
]


def named_tests(page: Page) -> List[Tuple[str, Path]]:
    found = [match for line in page.prose for match in _TEST_LINK.findall(line)]
    return [(name, (page.path.parent / file).resolve()) for name, file in found]


def functions_of(module: Path) -> Iterator[str]:
    """Return the names of a module's functions, and of its classes' with the class."""
    for prefix, body in _scopes(ast.parse(module.read_text("utf-8"))):
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield prefix + node.name


def _scopes(module: ast.Module) -> Iterator[Tuple[str, List[ast.stmt]]]:
    yield "", module.body
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            yield f"{node.name}.", node.body


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_tests_that_a_page_names_exist(path: Path) -> None:
    for name, module in named_tests(Page(path)):
        assert name.rsplit(".", 1)[-1].startswith("test_"), name
        assert name in functions_of(module), f"{module.name}: {name}"


def test_the_pages_that_must_name_all_their_tests_do() -> None:
    assert {DOCS / "delivery.md", DOCS / "security.md"} <= set(PROMISING)


@pytest.mark.parametrize("path", PROMISING, ids=lambda path: path.name)
def test_every_section_has_its_tests(path: Path) -> None:
    page = Page(path)
    sections = [heading for heading in page.headings[1:] if not heading.startswith("The tests behind")]
    rows = page.table("section", "promise", "held by")
    assert [row["section"] for row in rows if row["section"]] == [
        f"[{section}](#{anchor})" for section, anchor in zip(sections, page.anchors[1:])
    ]
    assert all(_TEST_LINK.search(row["held by"]) for row in rows)
