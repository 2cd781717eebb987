"""
The budgets: what must hold ("at most") and what we are after ("aim"), and the check.

Most are ratios to a floor of the same run, so that they mean the same on any machine;
those in microseconds are for a machine of about 2024 with nothing else to do.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional

Results = Dict[str, Any]

#: Longest time in milliseconds that the drain may hold an application's event loop.
LONGEST_STEP = 5.0


class Budget(NamedTuple):
    """One row; `measured` finds the figure in the results, or raises `KeyError` where it is not there."""

    what: str
    unit: str
    at_most: float
    aim: Optional[float]
    measured: Callable[[Results], float]


def value(results: Results, case: str, variant: str, metric: str = "thread") -> float:
    """Return the median of what one unit took."""
    found: float = results["cases"][case][variant]["value"][metric][1]
    return found


def added(results: Results, case: str, variant: str, metric: str = "thread") -> float:
    """Return the median of what a variant adds to the reference of its case."""
    found: float = results["cases"][case][variant]["added"][metric][1]
    return found


def _over_mincap(case: str) -> Callable[[Results], float]:
    def measured(results: Results) -> float:
        floor = added(results, case, "mincap")
        # A floor that is lost in the noise of the bare application is no floor.
        return added(results, case, "beaconhq") / floor if floor > 0 else math.nan

    return measured


def _added_microseconds(case: str) -> Callable[[Results], float]:
    return lambda results: added(results, case, "beaconhq") / 1000


def _more_routes(case: str) -> Callable[[Results], float]:
    return lambda results: added(results, f"{case}/300", "beaconhq") / added(results, f"{case}/1", "beaconhq")


def _beyond_noise(results: Results) -> float:
    """What Django ASGI costs above `noop`, in quartile ranges of what `noop` itself adds."""
    low, _, high = results["cases"]["django-asgi"]["noop"]["added"]["process"]
    above: float = added(results, "django-asgi", "beaconhq", "process") - added(
        results, "django-asgi", "noop", "process"
    )
    return max(0.0, above) / float(high - low)


def _microseconds(
    case: str, variant: str, floor: str = "", metric: str = "thread"
) -> Callable[[Results], float]:
    def measured(results: Results) -> float:
        beneath = value(results, case, floor, metric) if floor else 0.0
        return (value(results, case, variant, metric) - beneath) / 1000

    return measured


def _quotient(case: str, variant: str, floor: str) -> Callable[[Results], float]:
    return lambda results: value(results, case, variant) / value(results, case, floor)


def _step(case: str, variant: str) -> Callable[[Results], float]:
    return lambda results: value(results, case, variant) / 1e6


def _import(version: str) -> Budget:
    def milliseconds(results: Results) -> float:
        return added(results, f"import/{version}", "beaconhq", "process") / 1e6

    def of_asyncio(results: Results) -> float:
        return milliseconds(results) * 1e6 / added(results, f"import/{version}", "asyncio", "process")

    if version == "3.11":
        return Budget("`import beaconhq` on 3.11", "ms", 30, 15, milliseconds)
    return Budget(f"`import beaconhq` on {version}", "x `import asyncio`", 0.5, None, of_asyncio)


def _rows() -> List[Budget]:
    rows = []
    for case, name in (("asgi", "ASGI"), ("asgi-old", "ASGI, Starlette before 1.0")):
        rows += [
            Budget(f"{name}, {routes} route(s)", "x mincap", 3, 2, _over_mincap(f"{case}/{routes}"))
            for routes in (1, 60, 300)
        ]
        rows.append(Budget(f"{name}, 300 routes", "x 1 route", 1.1, None, _more_routes(case)))
        rows.append(Budget(f"{name}, 1 route(s), added", "us", 4, None, _added_microseconds(f"{case}/1")))
    rows += [
        Budget("Flask", "x mincap", 2, 1.5, _over_mincap("flask")),
        Budget("Flask, added", "us", 12, None, _added_microseconds("flask")),
        Budget("Django WSGI", "x mincap", 2, 1.5, _over_mincap("django-wsgi")),
        Budget("Django WSGI, added", "us", 6, None, _added_microseconds("django-wsgi")),
        Budget("Django ASGI, above noop", "x noise of noop", 1, None, _beyond_noise),
        Budget("`capture()`", "x lock + append", 1.5, 1, _quotient("capture", "not full", "lock+append")),
    ]
    rows += [
        Budget(f"`capture()`, {full}", "x not full", 1.2, None, _quotient("capture", full, "not full"))
        for full in ("full at 10000", "full at 100000")
    ]
    for suffix, name, most, aim in (("", "", 4.5, 2.0), ("/fast", " with `fast`", 2.5, 0.8)):
        clean = _microseconds(f"encode{suffix}", "clean+encode")
        rows.append(Budget(f"clean + encode an event{name}", "us", most, aim, clean))
        for size in (100, 1000):
            above = _microseconds(f"drain{suffix}", f"drain at {size}", f"httpx floor at {size}", "process")
            rows.append(Budget(f"drain an event, {size} a POST, above httpx{name}", "us", most, aim, above))
        whole = _microseconds(f"sustained{suffix}", "sdk at 2000/s", "producer at 2000/s", "process")
        rows.append(Budget(f"ship an event at 2,000/s{name}", "us", 4.5 if suffix else 7, 4, whole))
        rows += [
            Budget(f"longest step, {load}{name}", "ms", LONGEST_STEP, None, _step(f"steps{suffix}", load))
            for load in ("1,000 ordinary events", "10,000 ordinary events", "10,000 events of 13 kB")
        ]
    rows.append(
        Budget("memory of a buffered event", "bytes", 120, 80,
               lambda results: value(results, "memory", "buffered event", "bytes"))
    )  # fmt: skip
    return [*rows, *[_import(f"3.{minor}") for minor in range(9, 20)]]


BUDGETS = _rows()


def check(results: Results) -> List[Dict[str, Any]]:
    """Return one row for each budget whose figures were measured; None where noise hid them."""
    rows = []
    for budget in BUDGETS:
        try:
            measured = budget.measured(results)
        except KeyError:
            continue
        rows.append(
            {
                "what": budget.what,
                "unit": budget.unit,
                "measured": None if math.isnan(measured) else round(measured, 2),
                "at_most": budget.at_most,
                "aim": budget.aim,
                "met": measured <= budget.at_most,
            }
        )
    return rows
