"""docs/performance.md is what the committed figures give."""

from __future__ import annotations

import json
from typing import Any, Dict
from xml.etree import ElementTree as ET

import pytest

from .plan import ALL, cases
from .plot import draw
from .report import FIGURES, PAGE, PLOT, page, tables
from .stats import quartiles, summarize


@pytest.fixture(scope="module")
def results() -> Dict[str, Any]:
    figures: Dict[str, Any] = json.loads(FIGURES.read_text("utf-8"))
    return figures


def test_the_page_is_what_the_figures_give(results: Dict[str, Any]) -> None:
    text = PAGE.read_text("utf-8")
    assert page(results, text) == text, "run: PYTHONPATH=tests python -m benchmarks.report"


def test_the_plot_is_what_the_figures_give(results: Dict[str, Any]) -> None:
    assert draw(results) == PLOT.read_text("utf-8"), "run: PYTHONPATH=tests python -m benchmarks.report"


def test_the_figures_are_of_a_whole_run(results: Dict[str, Any]) -> None:
    assert {case.key for case in cases()} <= set(results["cases"])
    assert set(results["versions"]) | set(results["not_installed"]) == set(ALL)


def test_the_plot_is_valid_and_names_every_subject(results: Dict[str, Any]) -> None:
    text = "".join(ET.fromstring(draw(results)).itertext())
    assert [name for name in ALL if name in results["versions"] and name not in text] == []


def test_a_subject_that_could_not_be_installed_is_named() -> None:
    machine = dict.fromkeys(("date", "cpu", "cores", "system", "python"), "x")
    results = {"machine": machine, "quick": False, "versions": {}, "cases": {}, "budgets": []}
    assert "- sentry-sdk: not measured, no wheel" in tables(
        {**results, "not_installed": {"sentry-sdk": "no wheel"}}
    )


def test_differences_are_taken_within_a_round() -> None:
    readings = {"bare": [{"wall": 10.0}, {"wall": 100.0}], "ours": [{"wall": 11.0}, {"wall": 101.0}]}
    summary = summarize(readings, "bare")
    assert summary["ours"]["added"]["wall"] == [1.0, 1.0, 1.0]
    assert summary["ours"]["value"]["wall"] == quartiles([11.0, 101.0])
    assert "added" not in summary["bare"]


def test_what_is_lost_in_noise_is_not_drawn() -> None:
    def added(microseconds: float) -> Dict[str, Any]:
        return {"added": {"thread": [microseconds * 1000] * 3}}

    cases = {
        "fastapi/1": {"beaconhq": added(4), "mincap": added(2)},
        "fastapi/300": {"beaconhq": added(-50), "mincap": added(2)},
    }
    circles = ET.fromstring(draw({"cases": cases})).findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 3
