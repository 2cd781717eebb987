"""
The Markdown files of the project, and what is in them: headings, links, tables and code blocks.

A block of Python is a complete program where a comment on the line above its fence says so:

    <!-- test: run JOB /jobs/{id} 200; GET / 200 -->     run to its end; these events arrive (or none)
    <!-- test: serve GET /users/7 -> /users/{id} 200 caller; ... -->   serve `app`, send these requests
    <!-- test: serve table -->     the same, with the requests of the next table that has such a column
    <!-- test: pytest -->          run as a test module; ini options may follow: pytest beaconhq_fixture=true
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
#: What users read.
PAGES = [README, *sorted(path for path in DOCS.glob("**/*.md") if DOCS / "_build" not in path.parents)]

_FENCE = re.compile(r"(?P<fence>`{3,}|~{3,})(?P<language>\w*)")
_MARKER = re.compile(r"<!-- test: (\w+)(?: (.+?))? -->")
_HEADING = re.compile(r"#{1,6} +(.+?) *#*")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+(?:\([^()]*\))?)\)")

Table = List[Dict[str, str]]


class Block(NamedTuple):
    """A fenced code block."""

    page: Path
    #: The line of its first line of code, from 1.
    line: int
    language: str
    source: str
    #: The kind of the marker above it, or "".
    kind: str
    #: What follows the kind, or "".
    argument: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


class Page:
    """One Markdown file, parsed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blocks: List[Block] = []
        self.lines = path.read_text("utf-8").splitlines()
        #: The lines outside of code blocks.
        self.prose: List[str] = []
        self._read()

    def _read(self) -> None:
        numbered = iter(enumerate(self.lines, 1))
        for number, line in numbered:
            fence = _FENCE.match(line)
            if fence is None:
                self.prose.append(line)
                continue
            marker = _MARKER.fullmatch(self.lines[number - 2]) if number > 1 else None
            code = []
            for _, inside in numbered:
                if inside.startswith(fence["fence"]):
                    break
                code.append(inside)
            else:
                raise AssertionError(f"{self.path}:{number}: the code block has no end")
            kind, argument = (marker[1], marker[2] or "") if marker else ("", "")
            source = "\n".join([*code, ""])
            self.blocks.append(Block(self.path, number + 1, fence["language"], source, kind, argument))

    @property
    def headings(self) -> List[str]:
        found = (_HEADING.fullmatch(line) for line in self.prose)
        return [match[1] for match in found if match]

    @property
    def anchors(self) -> List[str]:
        """The fragments by which GitHub links to the headings."""
        seen: Dict[str, int] = {}
        anchors = []
        for heading in self.headings:
            slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            seen[slug] = seen.get(slug, -1) + 1
            anchors.append(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        return anchors

    @property
    def links(self) -> Iterator[str]:
        # Code spans hold no links.
        for line in self.prose:
            yield from _LINK.findall(re.sub(r"`[^`]*`", "code", line))

    @property
    def tables(self) -> List[Table]:
        """Every table, each row by its column's header; a cell that is one code span loses its marks."""
        tables: List[Table] = []
        header: Optional[List[str]] = None
        for line in self.prose:
            if not line.startswith("|"):
                header = None
                continue
            cells = [_plain(cell) for cell in line.strip("|").split("|")]
            if header is None:
                header = cells
                tables.append([])
            elif set("".join(cells)) != {"-"}:
                assert len(cells) == len(header), f"{self.path}: {line}"
                tables[-1].append(dict(zip(header, cells)))
        return tables

    def table(self, *columns: str) -> Table:
        """Return the one table with these columns."""
        (table,) = [table for table in self.tables if table and set(columns) <= set(table[0])]
        return table


def _plain(cell: str) -> str:
    code = re.fullmatch(r"`([^`]*)`", cell.strip())
    return code[1] if code else cell.strip()


def python_blocks() -> List[Block]:
    return [block for path in PAGES for block in Page(path).blocks if block.language == "python"]
