"""What the pages list is what the code has."""

from __future__ import annotations

import ast
import inspect
import re
from importlib.metadata import requires
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Type

import pytest

import beaconhq
import beaconhq.testing
from beaconhq import BeaconClient, client, errors
from beaconhq.cli import make_parser
from beaconhq.doctor.words import WORDS
from beaconhq.integrations.asgi import BeaconASGIMiddleware
from beaconhq.local.validation import check_event

from .pages import DOCS, PAGES, README, ROOT, Page

PACKAGE = Path(beaconhq.__file__).parent
CONFIGURATION = Page(DOCS / "configuration.md")
DELIVERY = Page(DOCS / "delivery.md")
ERRORS = Page(DOCS / "errors.md")

SET_UP = [
    "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/beaconhq demo",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/pytest",
]


# -- README -----------------------------------------------------------------------------


def test_the_readme_has_the_set_up_lines_whole_in_a_code_block() -> None:
    (block,) = [block for block in Page(README).blocks if ".venv/bin/pip install" in block.source]
    assert block.source.splitlines() == SET_UP


def test_every_page_is_on_the_map_once() -> None:
    """The site's navigation is made of the first columns of its tables."""
    rows = [row for table in Page(DOCS / "index.md").tables for row in table]
    links = [re.findall(r"\]\(([^)]+)\)", row["page"]) for row in rows]
    assert sorted(DOCS / link for (link,) in links) == sorted(set(PAGES) - {README, DOCS / "index.md"})


def test_the_readme_leads_to_the_map() -> None:
    assert "docs/index.md" in set(Page(README).links)


def test_the_reference_has_every_public_name() -> None:
    """Except a constant and the version, which `docs/configuration.md` and pip tell."""
    text = "\n".join(path.read_text("utf-8") for path in (DOCS / "reference").glob("*.md"))
    listed = set(re.findall(r"^\.\. auto\w+:: beaconhq\.(?:testing\.)?(\w+)", text, re.MULTILINE))
    public = {*beaconhq.__all__, *beaconhq.testing.__all__} - {"DEFAULT_INGEST_URL", "__version__", "ANY"}
    assert public <= listed


# -- options ----------------------------------------------------------------------------


def _signature(of: Any) -> List[Tuple[str, Any]]:
    parameters = list(inspect.signature(of).parameters.values())
    empty = inspect.Parameter.empty
    return [(each.name, "required" if each.default is empty else each.default) for each in parameters]


def test_the_options_are_those_of_the_client() -> None:
    table = CONFIGURATION.table("option", "default", "unit")
    documented = [(row["option"], _value(row["default"])) for row in table]
    assert documented == _signature(BeaconClient)


def _value(text: str) -> Any:
    return text if text == "required" else ast.literal_eval(text)


def test_the_options_have_the_types_of_the_signature() -> None:
    signature = inspect.signature(BeaconClient).parameters
    for row in CONFIGURATION.table("option", "default", "unit"):
        annotation = str(signature[row["option"]].annotation)
        annotation = annotation.replace("Union[str, os.PathLike[str], None]", "str")
        kind = re.sub(r"Optional\[(.+)\]", r"\1", annotation).replace("ConsumerResolver", "Callable")
        assert kind.split("[")[0] == row["type"], row["option"]


def test_the_new_options_are_those_that_0_1_did_not_have() -> None:
    table = CONFIGURATION.table("option", "default", "unit")
    new = {row["option"] for row in table if row["meaning"].endswith(" New.")}
    assert new == {
        "max_batch_size",
        "max_batch_bytes",
        "shutdown_timeout",
        "client_factory",
        "capture_error_text",
        "spool",
        "spool_max_bytes",
        "spool_max_age",
    }


def test_the_attributes_that_can_be_read_are_there() -> None:
    text = " ".join(CONFIGURATION.prose)
    (sentence,) = re.findall(r"`ingest_url` \(as the full endpoint\), .* can be read from the client", text)
    beacon = BeaconClient("k")
    for name in re.findall(r"`(\w+)`", sentence):
        assert hasattr(beacon, name), name


def test_the_middleware_s_options_are_those_of_its_signature() -> None:
    text = " ".join((DOCS / "asgi.md").read_text("utf-8").split())
    assert "`BeaconASGIMiddleware(app, client, *, consumer_header=None, consumer_resolver=None)`" in text
    assert _signature(BeaconASGIMiddleware) == [
        ("app", "required"),
        ("client", "required"),
        ("consumer_header", None),
        ("consumer_resolver", None),
    ]


def test_the_environment_variables_are_those_of_the_client() -> None:
    documented = {row["variable"] for row in CONFIGURATION.table("variable", "meaning")}
    assert documented == {client.ENV_INGEST_KEY, client.ENV_INGEST_URL, client.ENV_ENABLED, client.ENV_SPOOL}


def test_the_versions_are_the_floors_of_the_distribution() -> None:
    floors: Dict[str, str] = {}
    for requirement in requires("beaconhq") or []:
        match = re.match(r"([\w-]+)>=([0-9.]+)", requirement)
        if match:
            floors[match[1]] = match[2]
    for row in CONFIGURATION.table("package", "at least"):
        assert floors[row["package"]] == row["at least"]


# -- errors and counts ------------------------------------------------------------------


def _errors() -> Dict[str, Type[errors.BeaconError]]:
    classes = [each for each in vars(errors).values() if isinstance(each, type)]
    return {each.__name__: each for each in classes if issubclass(each, errors.BeaconError)}


def _tree(lines: List[str]) -> Dict[str, str]:
    """Return the base of every class in a tree that is drawn with `├──`."""
    path: List[str] = []
    found = {}
    for line in lines:
        match = re.match(r"([│├└─ ]*)(\w+)", line)
        assert match is not None, line
        depth = len(match[1]) // 4
        del path[depth:]
        if path:
            found[match[2]] = path[-1]
        path.append(match[2])
    return found


def _drawn_tree() -> List[str]:
    (block,) = [block for block in ERRORS.blocks if block.language == "text"]
    return block.source.splitlines()


def test_the_tree_of_errors_is_that_of_the_code() -> None:
    drawn = _tree(_drawn_tree())
    real = {name: error.__bases__[0].__name__ for name, error in _errors().items() if name != "BeaconError"}
    assert drawn == real


def test_the_tree_of_errors_is_that_of_the_module_s_docstring() -> None:
    documented = (errors.__doc__ or "").splitlines()
    for line in _drawn_tree():
        assert line in documented


def test_the_tree_has_the_reasons_of_the_errors() -> None:
    drawn = dict(re.findall(r"── (\w+) +\"(\w+)\"", "\n".join(_drawn_tree())))
    assert drawn == _reasons()


def _reasons() -> Dict[str, str]:
    return {
        name: error.reason
        for name, error in _errors().items()
        if issubclass(error, errors.EventsDropped) and error is not errors.EventsDropped
    }


def test_what_can_be_lost_is_counted_under_the_reasons_of_the_errors() -> None:
    table = DELIVERY.table("counted under", "reported as")
    assert {row["reported as"]: row["counted under"] for row in table} == _reasons()


def test_the_keys_of_stats_are_those_of_the_code() -> None:
    documented = [row["key"] for row in ERRORS.table("key", "meaning")]
    assert documented == list(BeaconClient("k").stats()) == list(client.Stats.__annotations__)


def test_the_states_are_those_of_the_code() -> None:
    documented = {row["state"] for row in ERRORS.table("state", "meaning")}
    assert documented == set(re.findall(r'"(\w+)"', inspect.getsource(BeaconClient._state)))


def test_the_errors_of_the_answers_exist() -> None:
    table = DELIVERY.table("answer", "`on_error` receives")
    assert all(hasattr(errors, row["`on_error` receives"]) for row in table if row["`on_error` receives"])


# -- the wire ---------------------------------------------------------------------------

VALID: Dict[str, Any] = {
    "ts": "2026-06-03T12:00:00.000+00:00",
    "method": "GET",
    "route": "/",
    "path": "/",
    "status": 200,
    "duration_ms": 0,
    "consumer": None,
    "error": None,
}


def test_the_fields_of_the_wire_are_those_of_the_ingest() -> None:
    assert [row["field"] for row in DELIVERY.table("field", "the ingest accepts")] == list(VALID)
    check_event(0, VALID)


@pytest.mark.parametrize("row", DELIVERY.table("field", "the ingest accepts"), ids=lambda row: row["field"])
def test_the_limits_of_the_wire_are_those_of_the_ingest(row: Dict[str, str]) -> None:
    for value, accepted in _around_the_limits(row["the ingest accepts"]):
        event = {**VALID, row["field"]: value}
        if accepted:
            check_event(0, event)
        else:
            with pytest.raises(ValueError, match=row["field"]):
                check_event(0, event)


def _around_the_limits(text: str) -> List[Tuple[Any, bool]]:
    numbers = [int(number.replace(",", "")) for number in re.findall(r"[0-9][0-9,]*", text)]
    if "ISO 8601" in text:
        return [("2026-06-03T12:00:00", False)]
    if text.startswith("integer"):
        low, high = numbers[0], numbers[1] if len(numbers) > 1 else None
        above: List[Tuple[Any, bool]] = [] if high is None else [(high, True), (high + 1, False)]
        return [(low, True), (low - 1, False), *above]
    empty = "at most" in text
    return [("x" * numbers[-1], True), ("x" * (numbers[-1] + 1), False), ("", empty), (None, "null" in text)]


# -- the commands and the modules -------------------------------------------------------


@pytest.mark.parametrize("command", ["local", "demo"])
def test_the_flags_are_those_of_the_command(command: str) -> None:
    page = Page(DOCS / "local.md")
    (subparsers,) = [action for action in make_parser()._actions if action.choices]
    choices: Any = subparsers.choices
    defaults = {
        action.option_strings[-1]: action.default
        for action in choices[command]._actions
        if action.dest != "help"
    }
    (table,) = [
        table
        for table in page.tables
        if "flag" in table[0] and {row["flag"] for row in table} == set(defaults)
    ]
    words = {"a temporary file": None, "any": None, "none": None, "off": False}
    documented = {row["flag"]: words.get(row["default"], row["default"]) for row in table}
    assert {flag: _text(default) for flag, default in defaults.items()} == documented


def _text(default: Any) -> Any:
    return default if default is None or default is False else str(default)


def test_the_map_of_the_modules_has_them_all() -> None:
    blocks = Page(DOCS / "how-it-works.md").blocks
    (block,) = [block for block in blocks if block.source.startswith("beaconhq/\n")]
    drawn = set(re.findall(r"(\w+\.py)\b", block.source))
    real = {path.name for path in PACKAGE.glob("*.py")}
    real |= {path.name for path in PACKAGE.glob("integrations/*.py")}
    assert drawn == real


def test_the_codes_of_the_doctor_are_those_of_its_words() -> None:
    documented = {
        row["code"]: set(row["level"].split(", "))
        for row in Page(DOCS / "how-to" / "doctor.md").table("code", "level")
    }
    real: Dict[str, set[str]] = {}
    for level, code, _, _ in WORDS.values():
        real.setdefault(code, set()).add(level)
    real["slow"].add("warning")  # from half of the time on
    assert documented == real


# -- what the code refers to ------------------------------------------------------------


def _references() -> List[Tuple[str, str, Optional[str]]]:
    """Return (file, page, heading or None) wherever the code says docs/PAGE.md, "HEADING"."""
    found = []
    for path in [*PACKAGE.glob("**/*.py"), ROOT / "noxfile.py", ROOT / "CHANGELOG.md"]:
        text = re.sub(r"\n[#: ]*", " ", path.read_text("utf-8"))
        for page, heading in re.findall(r"\bdocs/([\w/-]+\.md)(?:, \"([^\"]+)\")?", text):
            found.append((path.name, page, heading or None))
    return found


@pytest.mark.parametrize(("source", "page", "heading"), _references())
def test_what_the_code_refers_to_is_there(source: str, page: str, heading: Optional[str]) -> None:
    assert (DOCS / page).is_file()
    assert heading is None or heading in Page(DOCS / page).headings
