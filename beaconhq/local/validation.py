"""
What the ingest accepts: one POST body in, checked events out, or the first reason to refuse the batch.

Owns the wire table (fields, types, lengths). It does no I/O, knows no HTTP status and imports no framework,
so the SDK's encoder can be fuzzed against it. Source: docs/delivery.md, "The wire".
"""

from __future__ import annotations

import json
import re
from datetime import date, timedelta
from typing import Any, Callable, Dict, List, NamedTuple, NoReturn, Optional, Tuple

MAX_METHOD = 16  #: UTF-16 code units, as every length on this page
MAX_ROUTE = 2048
MAX_PATH = 4096
MAX_CONSUMER = 256
MAX_ERROR = 8192
#: The largest integer that JavaScript, and so the hosted ingest, represents exactly.
MAX_SAFE_INTEGER = 2**53 - 1

# A longer run of digits is beyond every limit; `int()` of a few megabytes of digits takes minutes on 3.9.
_MAX_INTEGER_DIGITS = 32

_TIMESTAMP = re.compile(
    r"([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"T([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]+))?"
    r"(?:Z|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_EPOCH = date(1970, 1, 1)
_MISSING = object()


class InvalidBody(ValueError):  # noqa: N818 - named after what the ingest answers: invalid_body
    """The body as a whole is not a batch; `str()` of it is the reason."""


class InvalidEvent(ValueError):  # noqa: N818 - as above: invalid_event
    """
    One event is not acceptable, and with it the whole batch.

    `index` counts from 0; `field` is None where the event is no object; `reason` never repeats the value.
    """

    def __init__(self, index: int, field: Optional[str], reason: str) -> None:
        """Remember where and why."""
        super().__init__(f"event {index}, {field or 'whole'}: {reason}")
        self.index = index
        self.field = field
        self.reason = reason


class ValidEvent(NamedTuple):
    """One accepted event; unknown fields are gone, `ts_ms` is `ts` in milliseconds since 1970 (UTC)."""

    ts: str
    ts_ms: int
    method: str
    route: str
    path: str
    status: int
    duration_ms: int
    consumer: Optional[str]
    error: Optional[str]


class _Refused(Exception):  # noqa: N818 - control flow: a field's check does not know index and field
    pass


def parse_batch(body: bytes) -> List[ValidEvent]:
    """
    Check one POST body; an empty `events` list is a valid batch of nothing.

    Raises `InvalidBody` where it is not `{"events": [...]}` in UTF-8 JSON, and `InvalidEvent` at the first
    event that breaks a rule.
    """
    document = _decode(body)
    if not isinstance(document, dict):
        raise InvalidBody("must be a JSON object")
    if "events" not in document:
        raise InvalidBody("has no events")
    events = document["events"]
    if not isinstance(events, list):
        raise InvalidBody("events must be a list")
    return [check_event(index, event) for index, event in enumerate(events)]


def check_event(index: int, event: object) -> ValidEvent:
    """Check one decoded event; `index` is its place in the batch. Raises `InvalidEvent`."""
    if not isinstance(event, dict):
        raise InvalidEvent(index, None, "must be an object")
    checked: Dict[str, Any] = {}
    field = None
    try:
        for field, (check, default) in _FIELDS.items():
            checked[field] = check(event.get(field, default))
    except _Refused as refused:
        raise InvalidEvent(index, field, str(refused)) from None
    return ValidEvent(ts=event["ts"], ts_ms=checked.pop("ts"), **checked)


def _decode(body: bytes) -> object:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidBody("is not UTF-8") from None
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_int=_parse_integer)
    except json.JSONDecodeError as error:
        raise InvalidBody(f"is not JSON: {error}") from None
    except RecursionError:
        raise InvalidBody("is nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    # Python reads NaN and Infinity, JSON does not have them.
    raise InvalidBody(f"is not JSON: {name}")


def _parse_integer(digits: str) -> object:
    return int(digits) if len(digits) <= _MAX_INTEGER_DIGITS else float(digits)


def _text(minimum: int, maximum: int) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str):
            raise _wrong_type(value, "a string")
        # The usual value is short ASCII: its length needs no encoding.
        length = len(value) if value.isascii() else _utf16_length(value)
        if not minimum <= length <= maximum:
            raise _Refused(f"must have {minimum} to {maximum} UTF-16 units, has {length}")
        if "\x00" in value:
            raise _Refused("must not contain NUL")
        return value

    return check


def _utf16_length(value: str) -> int:
    if _LONE_SURROGATE.search(value):
        raise _Refused("must not contain a lone surrogate")
    return len(value.encode("utf-16-le")) // 2


def _or_null(check: Callable[[object], str]) -> Callable[[object], Optional[str]]:
    def check_or_null(value: object) -> Optional[str]:
        return None if value is None else check(value)

    return check_or_null


def _integer(minimum: int, maximum: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        # True is an int to Python, not to JSON.
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong_type(value, "an integer")
        if not minimum <= value <= maximum:
            raise _Refused(f"must be {minimum} to {maximum}")
        return value

    return check


def _timestamp_ms(value: object) -> int:
    if not isinstance(value, str):
        raise _wrong_type(value, "a string")
    match = _TIMESTAMP.fullmatch(value)
    if match is None:
        raise _Refused("must be ISO 8601 with an offset, as 2026-06-03T12:00:00.000+00:00")
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    try:
        since_epoch = date(int(year), int(month), int(day)) - _EPOCH
    except ValueError:
        raise _Refused("is not a calendar date") from None
    # A timedelta, not a datetime: an offset at either end of the calendar must not overflow.
    since_epoch += timedelta(hours=int(hour), minutes=int(minute), seconds=int(second))
    since_epoch += timedelta(milliseconds=int((fraction or "")[:3].ljust(3, "0")))
    if sign:
        offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
        since_epoch += offset if sign == "-" else -offset
    return since_epoch // timedelta(milliseconds=1)


def _wrong_type(value: object, wanted: str) -> _Refused:
    return _Refused("is required" if value is _MISSING else f"must be {wanted}")


#: Per field: its check, and what stands for it where the event lacks it. The checks run in this order.
_FIELDS: Dict[str, Tuple[Callable[[object], Any], object]] = {
    "ts": (_timestamp_ms, _MISSING),
    "method": (_text(1, MAX_METHOD), _MISSING),
    "route": (_text(1, MAX_ROUTE), _MISSING),
    "path": (_text(1, MAX_PATH), _MISSING),
    "status": (_integer(100, 599), _MISSING),
    "duration_ms": (_integer(0, MAX_SAFE_INTEGER), _MISSING),
    "consumer": (_or_null(_text(0, MAX_CONSUMER)), None),
    "error": (_or_null(_text(0, MAX_ERROR)), None),
}
