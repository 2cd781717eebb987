"""The report as text for people. Colour only where a terminal shows it."""

from __future__ import annotations

import os
from textwrap import wrap
from typing import Any, Dict, List, TextIO

_WIDTH = 100
_COLOURS = {"fault": "1;31", "warning": "33", "note": "36", "ok": "32"}


def as_text(report: Dict[str, Any], *, colour: bool, sent: bool) -> str:
    """Return the report (`Report.to_json()`) as lines of text; `sent`: whether `--send` was given."""
    key = {True: "set", False: "not set", None: "unknown"}[report["has_key"]]
    lines = [
        f"beaconhq doctor {report['beaconhq']}",
        "",
        f"  configuration  {report['source']}",
        f"  ingest         {report['ingest_url'] or 'unknown'}",
        f"  key            {key}",
        f"  proxy          {report['proxy'] or 'none'}",
        *_versions(report["versions"]),
        "",
    ]
    for step in report["steps"]:
        mark = _paint("ok  " if step["ok"] else "FAIL", "ok" if step["ok"] else "fault", colour=colour)
        lines.append(
            f"  {mark} {step['name']:<8} {step['seconds'] * 1000:8.1f} ms  {step['detail']}".rstrip()
        )
    lines += [""] if report["steps"] else []
    for finding in report["findings"]:
        level = finding["level"]
        first, *more = wrap(f"{level}: {finding['message']}", _WIDTH, subsequent_indent="  ") or [level]
        lines.append(_paint(level, level, colour=colour) + first[len(level) :])
        lines += [*more, *wrap(finding["advice"], _WIDTH, initial_indent="  ", subsequent_indent="  ")]
    lines += [""] if report["findings"] else []
    lines.append(_summary(report, sent=sent))
    return "\n".join(lines) + "\n"


def _versions(versions: Dict[str, str]) -> List[str]:
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    indent = " " * 17
    return wrap(text, _WIDTH, initial_indent="  versions       ", subsequent_indent=indent)


def _summary(report: Dict[str, Any], *, sent: bool) -> str:
    counts = [sum(each["level"] == level for each in report["findings"]) for level in ("fault", "warning")]
    if counts[0]:
        return f"{counts[0]} fault(s), {counts[1]} warning(s)."
    text = "No fault found" + (f", {counts[1]} warning(s)." if counts[1] else ".")
    return text if sent else f"{text} The key was not tried: --send posts one event with it."


def wants_colour(stream: TextIO) -> bool:
    """Whether a stream shows colours (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _paint(text: str, level: str, *, colour: bool) -> str:
    return f"\x1b[{_COLOURS[level]}m{text}\x1b[0m" if colour else text
