"""
Poison: whatever is captured, in whatever field, costs no other event.

What passes `clean` is what the ingest accepts, whichever encoder wrote it; the rest is
dropped alone, counted and reported. Held against the validator of the local ingest.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
from datetime import datetime, timezone, tzinfo
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, NoReturn, Type

import pytest
from hypothesis import given
from hypothesis import strategies as st
from process.ingest_server import RecordingIngest
from support.events import event, numbers

from beaconhq import BeaconClient, BeaconEvent, MockTransport, wire
from beaconhq.errors import BeaconError, InvalidEvent
from beaconhq.local.validation import parse_batch
from beaconhq.wire import Unrepairable, clean

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELDS = BeaconEvent.__match_args__
KIND = ("GET", "/items/{id}", 200, None)
RECORD = (1780488000.0, KIND, "/items/00007", 12, "acme")
#: What a value may raise when it is looked at. An `Exception` is the harmless half.
RAISED: List[Type[BaseException]] = [
    RuntimeError,
    RecursionError,
    MemoryError,
    StopIteration,
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
    asyncio.CancelledError,
]


def hostile(error: Type[BaseException], *bases: type) -> type:
    """Make a class whose every method that the cleaning could meet raises `error`."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise error

    names = [
        "__str__", "__repr__", "__format__", "__bytes__", "__eq__", "__ne__", "__lt__", "__hash__", "__len__",
        "__bool__", "__int__", "__float__", "__index__", "__round__", "__trunc__", "__iter__", "__getitem__",
        "__contains__", "__mul__", "__rmul__", "__add__", "__abs__", "encode", "decode", "isascii", "replace",
        "isoformat", "get", "keys", "items", "bit_length", "__await__",
    ]  # fmt: skip
    return type("Hostile", bases or (object,), dict.fromkeys(names, refuse))


def unreadable(error: Type[BaseException]) -> object:
    """Make an object that raises `error` at any look at an attribute, its class and `ts` included."""

    class Unreadable:
        @property  # type: ignore[misc]
        def __class__(self) -> type:
            raise error

        def __getattr__(self, name: str) -> object:
            raise error

    return Unreadable()


class NamelessType(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


class Nameless(metaclass=NamelessType):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class SlyText(str):
    """Text that becomes another text, and another, whenever it is cut or copied."""

    __slots__ = ()

    def __getitem__(self, _: Any) -> str:
        return SlyText("\0" * 100_000)

    def replace(self, *_: Any) -> str:
        return SlyText("\0" * 100_000)

    def __str__(self) -> str:
        return self


class Sly:
    def __str__(self) -> str:
        return SlyText("\ud800 a text \0")


class Liar:
    """Says that it is an int, a dict, a text."""

    def __init__(self, cls: type) -> None:
        self._cls = cls

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return self._cls


class BadZone(tzinfo):
    def utcoffset(self, _: object) -> NoReturn:
        raise SystemExit

    def tzname(self, _: object) -> NoReturn:
        raise SystemExit

    def dst(self, _: object) -> NoReturn:
        raise SystemExit


class WithPayload:
    """A look-alike of a `BeaconEvent` whose `to_payload` does what it is told to."""

    def __init__(self, result: object) -> None:
        self._result = result

    def to_payload(self) -> object:
        if isinstance(self._result, type) and issubclass(self._result, BaseException):
            raise self._result
        return self._result


def nested(depth: int) -> List[Any]:
    inner: List[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


def recursive() -> Dict[str, Any]:
    itself: Dict[str, Any] = {}
    itself["itself"] = itself
    return itself


HOSTILE = [
    *(hostile(error)() for error in RAISED),
    *(hostile(error, str)("text") for error in RAISED),
    *(hostile(error, int)(200) for error in RAISED),
    *(hostile(error, float)(0.5) for error in RAISED),
    *(hostile(error, bytes)(b"bytes") for error in RAISED),
    *(hostile(error, dict)(path="/") for error in RAISED),
    *(hostile(error, datetime)(2026, 6, 3) for error in RAISED),
    *(unreadable(error) for error in RAISED),
    *(Liar(cls) for cls in (str, int, float, bool, bytes, dict, datetime, tuple)),
    Nameless(),
    SlyText("/path"),
    Sly(),
    datetime(2026, 6, 3, tzinfo=BadZone()),
    nested(100_000),
    recursive(),
]
PLAIN = [
    None, True, False, 0, -1, 200, 2**31, 2**53, 10**400, -(10**400), 10**100_000, 0.5, math.nan, math.inf,
    -math.inf, 1e308, Decimal("NaN"), Decimal(7), 1j, "", "\0", "\ud800", "\udfff\ud800", "😀" * 5000,
    "x" * 10_000, "/" + "ü" * 10_000, "9" * 5000, "nan", "1e999", "0x10", " 7 ", "٣",
    "\u2028\u2029\x85\x7f\x1b[0m", b"", b"\xff", bytearray(b"bytes"), memoryview(b"bytes"), (), [], {}, set(),
    range(3), object(), type, print, Ellipsis, NotImplemented, ValueError("text"),
    datetime(1, 1, 1, tzinfo=timezone.utc), "0000-01-01T00:00:00Z", "0001-01-01T00:00:00",
    "9999-12-31T23:59:59.999999999999+23:59", "2026-06-03T12:00:00-00:00",
]  # fmt: skip

anything = st.one_of(
    st.sampled_from(PLAIN),
    st.integers(0, len(HOSTILE) - 1).map(HOSTILE.__getitem__),  # nobody else may look at them
    st.integers(),
    st.floats(),
    st.text(alphabet=st.characters(codec=None)),  # lone surrogates and NUL among them
    st.text(alphabet="a\0\ud83d\ude00ü😀", min_size=250, max_size=260),
    st.binary(),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.builds(datetime.isoformat, st.datetimes()),
    st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)),
)


def _event_with(fields: Mapping[str, Any]) -> BeaconEvent:
    changed = event(7)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


#: Anything that could be handed to `capture`.
captured = st.one_of(
    st.builds(_event_with, st.fixed_dictionaries(dict.fromkeys(FIELDS, anything))),
    st.builds(_event_with, st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, anything))),
    st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, anything)),
    st.tuples(*[anything] * 5),
    st.tuples(
        *[st.just(value) | anything for value in RECORD[:1]],
        st.tuples(*[st.just(value) | anything for value in KIND]) | anything,
        *[st.just(value) | anything for value in RECORD[2:]],
    ),
    st.lists(anything, max_size=10).map(tuple),
    st.builds(WithPayload, anything | st.sampled_from(RAISED)),
    st.builds(WithPayload, st.fixed_dictionaries(dict.fromkeys(FIELDS, anything))),
    anything,
)


@contextlib.contextmanager
def encoder(name: str) -> Iterator[None]:
    """Let one encoder write inside this block. Not a fixture: hypothesis runs many examples in one test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "_has_orjson", name == "orjson")
        yield


@pytest.mark.parametrize("name", ["orjson", "json"])
@given(captured)
def test_what_passes_is_accepted_and_the_rest_is_refused_alone(name: str, what: object) -> None:
    try:
        payload = clean(what)
    except Unrepairable:
        return
    assert {type(value) for value in payload.values()} <= {str, int, type(None)}
    with encoder(name):
        body = wire.encode([clean(RECORD), payload, clean(RECORD)])
    _, accepted, _ = parse_batch(body)
    assert {field: getattr(accepted, field) for field in FIELDS} == payload


@pytest.mark.parametrize("field", ["path", "consumer", "error"])
def test_text_that_cannot_be_shown_is_shown_by_its_type(field: str) -> None:
    """These fields never cost an event: there is always something true to say."""
    for value in HOSTILE:
        assert type(clean(_event_with({field: value}))[field]) is str
    assert clean(_event_with({field: Nameless()}))[field] == "<Nameless>"


def test_a_huge_number_does_not_hold_up_the_drain() -> None:
    """Writing it out takes minutes on Python 3.9, in the application's event loop."""
    assert clean(event(consumer=1 << 100_000_000))["consumer"] == "<int>"


def test_an_interrupt_that_is_not_the_value_s_own_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while an ordinary event is cleaned is not swallowed; the drain puts the batch back."""

    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(wire, "_format_time", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clean(RECORD)


# -- through a client -------------------------------------------------------------------

POISON: List[object] = [
    *HOSTILE,
    *PLAIN,
    *((*RECORD[:3], value, None) for value in HOSTILE),
    *((value, *RECORD[1:]) for value in HOSTILE),
    *((RECORD[0], (*KIND[:2], value, None), *RECORD[2:]) for value in HOSTILE),
    *(_event_with({field: value}) for field in FIELDS for value in HOSTILE),
    *(_event_with({field: value}) for field in FIELDS for value in PLAIN),
    *(WithPayload(value) for value in (*RAISED, *HOSTILE, *PLAIN)),
    *({"ts": value, "path": "/poison"} for value in HOSTILE),
]


def _capture_between(client: BeaconClient) -> int:
    """Capture each poison between two good events; return how many good ones that were."""
    for number, poison in enumerate(POISON):
        client.capture(event(number, route="/neighbour"))
        client.capture(poison)  # type: ignore[arg-type]
    client.capture(event(len(POISON), route="/neighbour"))
    return len(POISON) + 1


def _check(client: BeaconClient, ingest: RecordingIngest, reported: List[BeaconError], good: int) -> None:
    for post in ingest.posts:
        assert len(parse_batch(post.body)) == len(post.events)
    arrived = [each for post in ingest.posts for each in post.events]
    assert numbers(each for each in arrived if each["route"] == "/neighbour") == list(range(good))
    stats = client.stats()
    lost = stats["dropped"]["invalid"]
    assert stats["dropped"] == {"invalid": lost}
    assert stats["captured"] == good + len(POISON) == stats["delivered"] + lost
    assert len(arrived) == stats["delivered"]
    assert {type(error) for error in reported} == {InvalidEvent}
    assert sum(error.count for error in reported if isinstance(error, InvalidEvent)) == lost
    assert lost > len(POISON) / 3


@pytest.fixture
def ingest() -> Iterator[RecordingIngest]:
    with RecordingIngest() as ingest:
        yield ingest


@pytest.mark.parametrize("host", ["event_loop", "thread"])
@pytest.mark.parametrize("batch", [7, 1000])
async def test_every_neighbour_of_poison_is_delivered_once(
    host: str,
    batch: int,
    ingest: RecordingIngest,
    make_client: Callable[..., BeaconClient],
    reported: List[BeaconError],
) -> None:
    client = make_client(ingest_url=ingest.url, max_batch_size=batch, timeout=30, shutdown_timeout=60)
    if host == "event_loop":
        async with client:
            good = _capture_between(client)
            assert client.stats()["host"] == host
    else:
        good = _capture_between(client)
        await client.aclose()
    _check(client, ingest, reported, good)


def test_stats_and_repr_bear_whatever_is_the_oldest() -> None:
    for what in [(), (1,), tuple("12345678"), *POISON]:
        client = BeaconClient("k", transport=MockTransport(), register_atexit=False)
        client._lifecycle.queue._append(what)  # no drain that could take it away
        assert client.stats()["pending"] == 1
        assert "pending=1" in repr(client)


@pytest.mark.parametrize("ts", ["0001-01-01T00:00:00", "9999-12-31T23:59:59", "now", None, 7, math.nan])
def test_a_time_that_says_nothing_has_no_age_or_a_finite_one(ts: Any) -> None:
    client = BeaconClient("k", transport=MockTransport(), register_atexit=False)
    client._lifecycle.queue._append(event(ts=ts))
    age = client.stats()["oldest_pending_age"]
    assert age is None or 0 <= age < sys.maxsize
