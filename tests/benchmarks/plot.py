"""The plot: what each SDK adds to a request of a FastAPI application, against its number of routes."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Tuple
from xml.sax.saxutils import escape

#: The lines, with colours that the colour-blind can tell apart (Okabe and Ito).
_LINES = {
    "mincap": "#999999",
    "beaconhq": "#d55e00",
    "beaconhq-0.2.0": "#e69f00",
    "apitally": "#0072b2",
    "sentry-sdk": "#009e73",
    "opentelemetry": "#cc79a7",
}
_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 560, 40, 350


def draw(results: Dict[str, Any]) -> str:
    """Return the plot as SVG: microseconds on a logarithmic axis, of CPU time in the request's thread."""
    lines = {name: _points(results, name) for name in _LINES}
    lines = {name: points for name, points in lines.items() if points}
    values = [value for points in lines.values() for _, value in points]
    low = 10 ** math.floor(math.log10(min(values)))
    high = 10 ** math.ceil(math.log10(max(values)))
    most = max(routes for points in lines.values() for routes, _ in points)

    def x(routes: float) -> float:
        return round(_LEFT + routes / most * (_RIGHT - _LEFT), 1)

    def y(value: float) -> float:
        return round(_BOTTOM - math.log(value / low) / math.log(high / low) * (_BOTTOM - _TOP), 1)

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            'font-family="sans-serif" font-size="13">'
        ),
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">CPU time added to a FastAPI request, in µs</text>',
    ]
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        at = y(10**power)
        parts += [
            f'<line x1="{_LEFT}" y1="{at}" x2="{_RIGHT}" y2="{at}" stroke="#dddddd"/>',
            f'<text x="{_LEFT - 8}" y="{at + 4}" text-anchor="end">{10**power:g}</text>',
        ]
    for routes in sorted({routes for points in lines.values() for routes, _ in points}):
        parts.append(f'<text x="{x(routes)}" y="{_BOTTOM + 20}" text-anchor="middle">{routes}</text>')
    middle = (_LEFT + _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{_BOTTOM + 40}" text-anchor="middle">routes of the application</text>'
    )
    for (name, points), label_y in zip(lines.items(), _label_heights([y(p[-1][1]) for p in lines.values()])):
        path = " ".join(f"{x(routes)},{y(value)}" for routes, value in points)
        color = _LINES[name]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(r)}" cy="{y(v)}" r="3" fill="{color}"/>' for r, v in points]
        label = escape(f"{name}, {_round(points[-1][1])}")
        parts.append(f'<text x="{_RIGHT + 10}" y="{label_y + 4}" fill="{color}">{label}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _points(results: Dict[str, Any], name: str) -> List[Tuple[int, float]]:
    """Return what a subject adds by number of routes; nothing where it is lost in noise (0 or less)."""
    points = []
    for key, case in results["cases"].items():
        if key.startswith("fastapi/") and "added" in case.get(name, {}):
            microseconds = case[name]["added"]["thread"][1] / 1000
            if microseconds > 0:
                points.append((int(key.partition("/")[2]), microseconds))
    return sorted(points)


def _label_heights(wanted: List[float]) -> List[float]:
    """Move labels apart that would overlap, keeping their order."""
    heights = list(wanted)
    order = sorted(range(len(heights)), key=heights.__getitem__)
    for above, below in zip(order, order[1:]):
        heights[below] = max(heights[below], heights[above] + 16)
    return heights


def _round(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
