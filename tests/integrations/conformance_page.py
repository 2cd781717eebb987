"""
Writes docs/conformance.md from `conformance.py`:

    python -m tests.integrations.conformance_page
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, List

from .conformance import CASES, DIFFERENCES, Case, Difference

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"

_TEMPLATE = """\
# Conformance

The same request becomes the same event in every framework. One application, built with FastAPI, Starlette,
Flask and Django (under WSGI and under ASGI), is asked each of the requests below with the SDK and without it;
the event must be the one in the table, and the answer the same as without. FastAPI and Starlette are asked
twice: with `add_middleware`, and wrapped from outside.

The tests that hold this are in `tests/integrations/test_conformance.py`. This page is written from their
table by `python -m tests.integrations.conformance_page`, and a test fails where it is out of date.

Parameters of routes stand here as FastAPI and Starlette show them, `/items/{item_id}`. Flask and Django show
`/items/<item_id>`: a template is reported as its framework writes it, without Starlette's convertors.

## Events

CASES
## Differences

This is all in which the event is not the same everywhere.

DIFFERENCES
Two more things are outside of what an adapter can see:

- A Django middleware sees the requests that Django has accepted. Where the client leaves during the upload,
  or Django refuses the request by itself (a head that is no text, a body that is too large, under ASGI),
  there is no request and no event.
- What another middleware, outside of ours, answers is not seen, in any framework.
"""


def page() -> str:
    """Return the whole page."""
    cases = _table(["what", "request", "options", "route", "status", "consumer", "error"], map(_case, CASES))
    differences = _table(["what", "where", "instead", "why"], map(_difference, DIFFERENCES))
    return _TEMPLATE.replace("CASES\n", cases + "\n").replace("DIFFERENCES\n", differences + "\n")


def _case(case: Case) -> List[str]:
    request = case.request
    asked = [f"`{request.method} {_short(request.path)}`", *(f"`{name}`" for name, _ in request.headers)]
    if request.leaves:
        asked.append(f"the client leaves {request.leaves} the answer")
    options = [f"`{name}`" for name in case.adapter] + [f"client's `{name}`" for name in case.client]
    return [
        case.behaviour,
        ", ".join(asked),
        ", ".join(options),
        f"`{case.route}`",
        str(case.status),
        _short(case.consumer or ""),
        _short(case.error or ""),
    ]


def _difference(difference: Difference) -> List[str]:
    families = {
        "fastapi": "FastAPI",
        "flask": "Flask",
        "django": "Django",
        "django-wsgi": "Django under WSGI",
        "django-asgi": "Django under ASGI",
    }
    where = ", ".join(families[name] for name in difference.frameworks)
    instead = ", ".join(f"{field} `{value}`" for field, value in difference.instead.items())
    versions = f", {difference.versions}" if difference.versions else ""
    return [difference.behaviour, where + versions, instead, difference.why]


def _short(text: str) -> str:
    return text if len(text) < 60 else f"{text[:20]}... ({len(text):,} characters)"


def _table(header: List[str], rows: Iterable[List[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n".replace("  ", " ") for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
