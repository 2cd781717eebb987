"""
Warns when the routes are not templates: when the SDK could not resolve them, or there are too many.

Owns the thresholds and the words. It looks at names and counts only, at a bounded number of them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, Iterable, List, Sequence, Tuple

from beaconhq.wire import UNMATCHED

if TYPE_CHECKING:
    import sqlite3

#: From this share of the requests on, what matched no route is worth a warning.
UNMATCHED_SHARE = 0.2
#: From so many requests on: the first few say little.
FEWEST_REQUESTS = 20
#: So many routes that differ in one id only are no templates.
ALIKE = 5
#: More distinct routes than this are no API's.
MANY_ROUTES = 500

# Looking at more costs more than it tells.
_LOOKED_AT = 2000
# A number, a UUID, a long hexadecimal or mixed token: what an id looks like in a path.
_ID = re.compile(
    r"[0-9]+|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{12,}"
    r"|(?=[^/]*[0-9])(?=[^/]*[A-Za-z])[0-9A-Za-z_-]{16,}"
)


@dataclass(frozen=True)
class Advice:
    """One warning: what is the case, what to do, and a few routes that show it."""

    kind: str  #: "unmatched", "concrete" or "many"
    says: str
    examples: Tuple[str, ...] = ()


def advise(connection: sqlite3.Connection, rows: Sequence[Tuple[str, str, int]]) -> Tuple[Advice, ...]:
    """
    Return what is wrong with the routes, if anything is. Raises `sqlite3.Error`.

    `rows` are method, route and requests in the window. How many routes there are counts over all events.
    """
    advice: List[Advice] = []
    total = sum(count for _, _, count in rows)
    unmatched = sum(count for _, route, count in rows if route == UNMATCHED)
    if total >= FEWEST_REQUESTS and unmatched >= UNMATCHED_SHARE * total:
        advice.append(
            Advice(
                "unmatched",
                f"{100 * unmatched // total} % of the requests matched no route. Scanners and broken links do"
                " that; if these are requests that your app serves, the middleware cannot see its router.",
            )
        )
    alike = _alike(route for _, route, _ in rows[:_LOOKED_AT])
    if alike:
        advice.append(
            Advice(
                "concrete",
                f"{len(alike):,} routes look like concrete paths, not templates: each id makes a route of its"
                " own. Wrap the app that has the router, or route these requests by a template.",
                tuple(alike[:3]),
            )
        )
    (distinct,) = connection.execute("SELECT COUNT(*) FROM routes").fetchone()
    if distinct > MANY_ROUTES:
        advice.append(
            Advice(
                "many", f"{distinct:,} distinct routes are stored. A route should be a template, not a path."
            )
        )
    return tuple(advice)


def _alike(routes: Iterable[str]) -> List[str]:
    """Return the routes that differ from `ALIKE` - 1 others in their ids only."""
    shapes: Dict[str, List[str]] = defaultdict(list)
    for route in routes:
        shape = "/".join("*" if _ID.fullmatch(part) else part for part in route.split("/"))
        if shape != route:
            shapes[shape].append(route)
    return [route for group in shapes.values() if len(group) >= ALIKE for route in group]
