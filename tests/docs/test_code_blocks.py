"""Every block of Python in the documentation compiles, and what is a complete program runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

import pytest
from local.processes import run

from .pages import DOCS, ROOT, Block, Page, python_blocks
from .servers import serving

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Ingest

BLOCKS = python_blocks()
#: Sent with every request: what `consumer_header` and the resolvers of the pages read.
HEADERS = {"x-api-key": "caller"}
#: The TestClient of Starlette 0.36 uses a deprecated part of httpx 0.27, and leaves streams open.
_OLD_TEST_CLIENT = (
    "-W=ignore:The 'app' shortcut is now deprecated:DeprecationWarning",
    "-W=ignore:Unclosed <MemoryObject:ResourceWarning",
)
#: What the ingest that is not ours must never see.
_OWN_KEYS = re.compile(r"BeaconClient\((?!.*(dry_run|transport)=)")
#: Run by test_tutorials.py and test_recipes.py.
_RUN_ELSEWHERE = {
    *(DOCS / "tutorial").glob("*.md"),
    *(DOCS / "how-to" / f"{name}.md" for name in ("celery", "lambda", "rq")),
}
#: Comments, then an import.
_COMPLETE = re.compile(r"(#.*\n|\n)*(from|import) ")
#: As users have it: without the project's own settings, and with what has no types.
_MYPY = ("--config-file=", "--check-untyped-defs", "--ignore-missing-imports", "--no-error-summary")
#: Without the plugin, which warns where it is not configured.
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", *_OLD_TEST_CLIENT)


def _marked(kind: str) -> pytest.MarkDecorator:
    blocks = [block for block in BLOCKS if block.kind == kind]
    assert blocks
    return pytest.mark.parametrize("block", blocks, ids=[block.name for block in blocks])


@pytest.mark.parametrize("block", BLOCKS, ids=[block.name for block in BLOCKS])
def test_it_compiles(block: Block) -> None:
    # Blank lines in front: errors name the line of the page.
    compile("\n" * (block.line - 1) + block.source, str(block.page), "exec")


def test_what_does_not_run_has_the_right_types(tmp_path: Path) -> None:
    """A block that begins with its imports is complete; what begins otherwise belongs to another block."""
    modules = {}
    for number, block in enumerate(BLOCKS):
        if not block.kind and block.page not in _RUN_ELSEWHERE and _COMPLETE.match(block.source):
            module = tmp_path / f"block_{number}.py"
            # As above: the lines are the page's.
            module.write_text("\n" * (block.line - 1) + block.source, "utf-8")
            modules[module.name] = str(block.page.relative_to(ROOT))
    assert modules
    done = run("-m", "mypy", *_MYPY, f"--cache-dir={tmp_path / 'cache'}", str(tmp_path), PYTHONWARNINGS="")
    errors = re.sub(r"\S*(block_\d+\.py)", lambda match: modules[match[1]], done.stdout)
    assert done.returncode == 0, errors + done.stderr


def test_the_markers_are_known() -> None:
    assert {block.kind for block in BLOCKS} == {"", "run", "serve", "pytest"}


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS}), ids=lambda page: page.name)
def test_each_marker_belongs_to_a_block(page: Path) -> None:
    markers = sum(line.startswith("<!-- test:") for line in Page(page).lines)
    assert markers == sum(bool(block.kind) for block in BLOCKS if block.page == page)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind], ids=lambda block: block.name)
def test_what_runs_sends_to_the_ingest_of_the_test(block: Block) -> None:
    """A client that is made with a key would send to the hosted ingest."""
    assert _OWN_KEYS.search(block.source) is None


@pytest.mark.process
@_marked("run")
def test_a_program_runs_and_its_events_arrive(block: Block, ingest: Ingest, tmp_path: Path) -> None:
    program = _write(block, tmp_path, "program.py")
    done = run(str(program), **ingest.environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    arrived = [f"{event.method} {event.route} {event.status}" for event in ingest.events()]
    assert arrived == [each.strip() for each in block.argument.split(";") if each]


@pytest.mark.process
@_marked("pytest")
def test_a_test_passes(block: Block, ingest: Ingest, tmp_path: Path) -> None:
    module = _write(block, tmp_path, "test_block.py")
    options = [part for option in block.argument.split() for part in ("-o", option)]
    done = run(*PYTEST, *options, str(module), **ingest.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^[1-9][0-9]* passed in", done.stdout, re.MULTILINE)
    assert ingest.events() == []


@pytest.mark.process
@_marked("serve")
def test_an_app_reports_what_it_is_asked(block: Block, ingest: Ingest, tmp_path: Path) -> None:
    """The events are there when the server has ended: its lifespan delivered them."""
    _write(block, tmp_path, "block.py")
    expected = _expected(block)
    with serving("block", tmp_path, **ingest.environment) as visitor:
        for (method, path), _ in expected:
            visitor.request(method, path, headers=_headers(method))
    arrived = [
        ((event.method, event.path), (event.route, str(event.status), event.consumer, event.error))
        for event in ingest.events()
    ]
    assert arrived == expected


Request = Tuple[str, str]
#: Route, status, consumer and error.
Reported = Tuple[str, str, Optional[str], Optional[str]]


def _expected(block: Block) -> List[Tuple[Request, Reported]]:
    """Return the requests to send, and what becomes of each."""
    if block.argument == "table":
        return [
            (
                _request(row["request"]),
                (row["route"], row["status"], None, None if row["error"] == "null" else row["error"]),
            )
            for row in Page(block.page).table("request", "route", "status", "error")
        ]
    expected: List[Tuple[Request, Reported]] = []
    for each in block.argument.split(";"):
        request, _, reported = each.partition("->")
        route, status, *consumer = reported.split()
        expected.append((_request(request), (route, status, consumer[0] if consumer else None, None)))
    return expected


def _request(text: str) -> Request:
    method, path = text.split()
    return method, path


def _headers(method: str) -> Dict[str, str]:
    preflight = {"origin": "https://elsewhere.example", "access-control-request-method": "GET"}
    return {**HEADERS, **(preflight if method == "OPTIONS" else {})}


def _write(block: Block, folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text(block.source, "utf-8")
    return path
