"""
The wire: what the ingest accepts, and how any captured value is made to fit.

Owns the limits, the cleaning and the encoding. Runs in the drain only, never on the
request path. The ingest refuses a whole batch for one bad event, so nothing that
leaves here may be invalid; what cannot be repaired raises `Unrepairable` and is
dropped alone.

Source of the limits: the ingest contract (docs/delivery.md, "The wire").
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, Callable, Dict, List, TypeVar, Union
from uuid import uuid4

try:
    from orjson import dumps as _fast_dumps
except ImportError:
    _has_orjson = False
else:
    _has_orjson = True


T = TypeVar("T")
Payload = Dict[str, Union[str, int, None]]

#: Most UTF-16 code units per text field.
MAX_METHOD, MAX_ROUTE, MAX_PATH, MAX_CONSUMER, MAX_ERROR = 16, 2048, 4096, 256, 8192
#: Longest duration sent, in milliseconds (24.8 days): what a signed 32-bit column holds.
MAX_DURATION_MS = 2**31 - 1
#: Parts of an `event.Record`, and of the `event.Kind` in it.
RECORD_LENGTH, KIND_LENGTH = 5, 4
#: The fields of a payload.
_FIELDS = ("ts", "method", "route", "path", "status", "duration_ms", "consumer", "error")
#: Longest integer that is written out, as `str` takes time by the square of its length on Python 3.9.
_MAX_INT_BITS = 4096
#: The route of a request that no template matched.
UNMATCHED = "(unmatched)"

#: What a time ends in: looking it up takes half the time of formatting it.
_ENDINGS = [f".{milliseconds:03d}+00:00" for milliseconds in range(1000)]
_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:?\d\d)?", re.ASCII)


class Unrepairable(ValueError):  # noqa: N818 - reads as the verdict that it is
    """The value cannot be made to fit the wire; the message names the field."""


class Batch(List[Payload]):
    """
    A sealed unit of payloads that goes out under one `Idempotency-Key`.

    It is an ordinary list of payload dicts, so that a custom transport may hand it to
    any JSON encoder. A retry sends the same set under the same key; a batch that is
    trimmed or halved is another set and gets another key.
    """

    __slots__ = ("_body", "idempotency_key", "is_spooled", "position", "tried")

    def __init__(self, payloads: list[Payload], body: bytes | None = None, position: int = 0) -> None:
        super().__init__(payloads)
        #: 32 hex digits, unique per set of events (the `Idempotency-Key` header).
        self.idempotency_key = uuid4().hex
        #: The number of its first event among all that were sealed: batches keep their order by it.
        self.position = position
        #: Whether a POST of it began: from then on its key is known outside.
        self.tried = False
        #: Whether it lies in the spool, too.
        self.is_spooled = False
        self._body = body

    @classmethod
    def from_spool(cls, payloads: list[Payload], key: str, body: bytes, position: int) -> Batch:
        """Return a batch as it was written to the spool."""
        batch = cls(payloads, body, position)
        batch.idempotency_key = key
        batch.tried = batch.is_spooled = True
        return batch

    @property
    def body(self) -> bytes:
        """The request body, `{"events": [...]}` in UTF-8; encoded once."""
        if self._body is None:
            self._body = encode(self)
        return self._body

    def halves(self) -> tuple[Batch, Batch]:
        """Split into two batches of at least one event each, in order."""
        middle = (len(self) + 1) // 2
        first, rest = self[:middle], self[middle:]
        return Batch(first, position=self.position), Batch(rest, position=self.position + middle)

    def without_oldest(self, count: int) -> Batch:
        """Return the batch without its `count` oldest events."""
        return Batch(self[count:], position=self.position + count)


def encode(payloads: list[Payload]) -> bytes:
    """Encode clean payloads as the body of one POST."""
    return join([encode_part(payloads)])


def encode_part(payloads: list[Payload]) -> bytes:
    """Encode some of a body's payloads; with orjson (extra `fast`) where it is installed."""
    encoded = _fast_dumps(payloads) if _has_orjson else _json.encode(payloads).encode()
    return encoded[1:-1]


def join(parts: list[bytes]) -> bytes:
    """Make the body of one POST of encoded parts."""
    return b'{"events":[' + b",".join(parts) + b"]}"


def clean(event: object) -> Payload:
    """
    Return the payload that the ingest accepts for a record, a `BeaconEvent` or a look-alike.

    Raises `Unrepairable` when there is no truthful way to do so.
    """
    if type(event) is tuple and len(event) == RECORD_LENGTH:
        ended, kind, path, duration_ms, consumer = event
        if type(kind) is not tuple or len(kind) != KIND_LENGTH:
            raise Unrepairable("event")
        method, route, status, error = kind
        ts = _format_time(ended) if type(ended) is float else _foreign(_clean_time, ended, "ts")
    else:
        ended, method, route, path, status, duration_ms, consumer, error = _foreign(_fields, event, "event")
        ts = _foreign(_clean_time, ended, "ts")
    return {
        "ts": ts,
        "method": _text(method, MAX_METHOD) or _refuse("method"),
        "route": _text(route, MAX_ROUTE) or UNMATCHED,
        # RFC 9112 section 3.2.1: an empty path is sent as "/".
        "path": _text(path, MAX_PATH) or "/",
        "status": status
        if type(status) is int and 100 <= status <= 599
        else _foreign(_clean_status, status, "status"),
        "duration_ms": duration_ms
        if type(duration_ms) is int and 0 <= duration_ms <= MAX_DURATION_MS
        else _clean_duration(duration_ms),
        "consumer": None if consumer is None else _text(consumer, MAX_CONSUMER),
        "error": None if error is None else _text(error, MAX_ERROR),
    }


def _foreign(read: Callable[[Any], T], value: object, field: str) -> T:
    """
    Run what may call code of the value's own class; whatever is raised concerns this event alone.

    Also a KeyboardInterrupt or SystemExit: it would come again with every attempt and hold
    up all that is behind it. Values of the expected built-in types do not come here, so an
    interrupt that is the interpreter's own passes, and the drain puts the batch back.
    """
    try:
        return read(value)
    except BaseException as err:
        raise Unrepairable(field) from err


def _fields(event: Any) -> list[Any]:
    """Read the fields of whatever was captured."""
    to_payload = getattr(event, "to_payload", None)
    fields = event if to_payload is None else to_payload()
    if not isinstance(fields, dict):
        raise TypeError("not an event")
    return [fields.get(name) for name in _FIELDS]


def _refuse(field: str) -> Any:
    raise Unrepairable(field)


def _text(value: object, limit: int) -> str:
    # Nearly every value takes this line: `isascii` is a flag, the search is a memchr.
    if type(value) is str and len(value) <= limit and value.isascii() and "\0" not in value:
        return value
    return _repair_text(value if type(value) is str else _coerce(value), limit)


def _repair_text(text: str, limit: int) -> str:
    """Cut to `limit` UTF-16 units; replace NUL and lone surrogates."""
    text = text[:limit].replace("\0", "\ufffd")
    units = text.encode("utf-16-le", "surrogatepass")[: 2 * limit]
    if len(units) == 2 * limit and 0xD8 <= units[-1] <= 0xDB:
        units = units[:-2]  # never cut a surrogate pair in two
    return units.decode("utf-16-le", "replace")


def _coerce(value: object) -> str:
    """Make text of anything; a value that has none is shown by its type."""
    if value is None:
        return ""
    try:
        return _foreign(_show, value, "text")
    except Unrepairable:
        return f"<{_type_name(type(value))}>"


def _show(value: Any) -> str:
    if isinstance(value, bytes):
        return bytes.decode(value, "utf-8", "replace")
    if isinstance(value, bytearray):
        return bytearray.decode(value, "utf-8", "replace")
    if isinstance(value, int) and int.bit_length(value) > _MAX_INT_BITS:
        raise ValueError("too long")
    # The text of a subclass, or what `__str__` returned, may have methods of its own.
    return str.__str__(value if isinstance(value, str) else str(value))


#: The name of a class, whatever its metaclass says.
_type_name: Callable[[type], str] = vars(type)["__name__"].__get__


def _clean_status(value: object) -> int:
    return min(max(int(_number(value)), 100), 599)


def _clean_duration(value: object) -> int:
    number = value if type(value) is float else _foreign(_number, value, "duration_ms")
    try:
        rounded = int(number + 0.5)
    except (ValueError, OverflowError):  # NaN, infinity
        raise Unrepairable("duration_ms") from None
    return 0 if rounded < 0 else min(rounded, MAX_DURATION_MS)


def _number(value: object) -> float:
    """Read a number from an int, a float or their text; a bool is a mistake, not a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError("not a number")
    number = float(value)
    if not abs(number) < 2**53:  # also NaN
        raise ValueError("no such number of milliseconds, and no status")
    return number


def _format_time(epoch: float) -> str:
    try:
        seconds, milliseconds = divmod(int(epoch * 1000), 1000)
        return _format_second(seconds) + _ENDINGS[milliseconds]
    except (ValueError, OverflowError, OSError):
        raise Unrepairable("ts") from None


@lru_cache(maxsize=64)
def _format_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()[:19]


def _clean_time(value: object) -> str:
    """Return ISO 8601 with offset; a naive time is taken as UTC, a number as seconds since the epoch."""
    if isinstance(value, datetime):
        value = value.isoformat()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _format_time(float(value))
    match = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a time")
    date, time, fraction, offset = match.groups()
    if offset is None:
        offset = "+00:00"
    elif offset != "Z" and ":" not in offset:
        offset = f"{offset[:3]}:{offset[3:]}"
    # The calendar's own check: 30 February, hour 24, offset +25:00.
    datetime.fromisoformat(f"{date}T{time}{'+00:00' if offset == 'Z' else offset}")
    return f"{date}T{time}{(fraction or '')[:10]}{offset}"
