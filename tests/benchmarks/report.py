"""
The tables of docs/performance.md, and the page itself, from the figures of one run.

    python -m benchmarks.report docs/performance.json     writes the page's tables and the plot

What stands between the page's two marks is replaced; the words around it are written by
hand. A test holds that the page is what the committed figures give.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence

from .environments import ROOT
from .plan import PEERS
from .plot import draw

PAGE = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "docs" / "performance.json"
PLOT = ROOT / "docs" / "performance.svg"
BEGIN = "<!-- begin: python -m benchmarks.report -->"
END = "<!-- end -->"

_REQUESTS = {
    "fastapi/1": "FastAPI, 1 route",
    "fastapi/60": "FastAPI, 60 routes",
    "fastapi/300": "FastAPI, 300 routes",
    "flask": "Flask",
    "django-wsgi": "Django, WSGI",
    "django-asgi": "Django, ASGI",
}
_RAW = {
    f"{case}/{routes}": f"{name}, {routes} route{'s' if routes > 1 else ''}"
    for case, name in (("asgi", "ASGI"), ("asgi-old", "ASGI, Starlette before 1.0"))
    for routes in (1, 60, 300)
}
_VARIANTS = ("noop", "mincap", "beaconhq", *PEERS)


def tables(results: Dict[str, Any]) -> str:
    """Return everything that was measured, as Markdown."""
    cases = results["cases"]
    parts = [_machine(results)]
    if results["budgets"]:
        parts += ["### Budgets", _budgets(results["budgets"])]
    rows = [_added_row(name, cases[key]) for key, name in {**_RAW, **_REQUESTS}.items() if key in cases]
    if rows:
        parts += [
            "### Added to a request",
            (
                "Microseconds of CPU time in the thread that serves the request (Django ASGI: the process), "
                "over the bare application: the median, and the quartiles of the paired differences."
            ),
            _table(["", *_VARIANTS], rows),
        ]
    if "uvicorn" in cases:
        parts += [
            "### uvicorn under load",
            (
                "Microseconds of the server's CPU time for a request, all included: FastAPI with 60 routes, "
                "16 connections, events shipped."
            ),
            _table(
                ["", "CPU per request", "added"],
                [
                    [name, _us(case["value"]["process"]), _us(case.get("added", {}).get("process"))]
                    for name, case in cases["uvicorn"].items()
                ],
            ),
        ]
    rows = [
        [key, variant, _us(summary["value"]["thread"]), _us(summary["value"].get("process"))]
        for key, case in cases.items()
        if key.split("/")[0] in ("capture", "encode", "drain", "sustained", "steps")
        for variant, summary in case.items()
    ]
    if rows:
        parts += [
            "### Shipping",
            (
                "Microseconds of CPU time for an event (steps: for the longest step of the event loop). "
                "`/fast` is with orjson."
            ),
            _table(["case", "what", "thread", "process"], rows),
        ]
    rows = [
        [key.partition("/")[2], variant, _ms(summary["added"]["process"])]
        for key, case in cases.items()
        if key.startswith("import/")
        for variant, summary in case.items()
        if "added" in summary
    ]
    if rows:
        parts += [
            "### Importing",
            "Milliseconds of CPU time over a Python that imports nothing.",
            _table(["Python", "what", "added"], rows),
        ]
    return "\n\n".join(parts) + "\n"


def page(results: Dict[str, Any], text: str) -> str:
    """Return the page with the tables of these results in the place of its present ones."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables(results)}\n{END}{after}"


def _machine(results: Dict[str, Any]) -> str:
    machine = results["machine"]
    rounds = " (a quick run: few rounds)" if results["quick"] else ""
    measured = f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}"
    lines = [f"Measured on {machine['date']}: {measured}{rounds}.", ""]
    for subject, versions in results["versions"].items():
        listed = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        lines.append(f"- {subject}: {listed}")
    lines += [f"- {name}: not measured, {reason}" for name, reason in results["not_installed"].items()]
    return "\n".join(lines)


def _budgets(rows: Sequence[Dict[str, Any]]) -> str:
    return _table(
        ["what", "measured", "at most", "aim", "met"],
        [
            [
                row["what"],
                "lost in noise" if row["measured"] is None else f"{row['measured']:g} {row['unit']}",
                f"{row['at_most']:g}",
                "-" if row["aim"] is None else f"{row['aim']:g}",
                "yes" if row["met"] else "**no**",
            ]
            for row in rows
        ],
    )


def _added_row(name: str, case: Dict[str, Any]) -> List[str]:
    metric = "process" if name == _REQUESTS["django-asgi"] else "thread"
    return [name, *[_us(case.get(variant, {}).get("added", {}).get(metric)) for variant in _VARIANTS]]


def _us(quartiles: Any) -> str:
    if quartiles is None:
        return "-"
    low, median, high = (_digits(value / 1000) for value in quartiles)
    return f"{median} ({low} to {high})"


def _ms(quartiles: Any) -> str:
    low, median, high = (_digits(value / 1e6) for value in quartiles)
    return f"{median} ({low} to {high})"


def _digits(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv: Sequence[str]) -> None:
    """Write the page and the plot from a file of figures, which becomes the committed one."""
    figures = Path(argv[0]) if argv else FIGURES
    results = json.loads(figures.read_text("utf-8"))
    if figures.resolve() != FIGURES.resolve():
        FIGURES.write_text(figures.read_text("utf-8"), "utf-8")
    PAGE.write_text(page(results, PAGE.read_text("utf-8")), "utf-8")
    PLOT.write_text(draw(results), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
