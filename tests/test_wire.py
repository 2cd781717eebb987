"""Whatever is captured leaves valid, or not at all."""

from __future__ import annotations

import enum
import json
import math
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from typing import Any, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import event

from beaconhq import BeaconEvent, utc_now_iso, wire
from beaconhq.wire import Batch, Unrepairable, clean

RECORD = (1780488000.0, ("GET", "/items/{id}", 200, None), "/items/00007", 12, "acme")
EXPECTED = {
    "ts": "2026-06-03T12:00:00.000+00:00",
    "method": "GET",
    "route": "/items/{id}",
    "path": "/items/00007",
    "status": 200,
    "duration_ms": 12,
    "consumer": "acme",
    "error": None,
}


def with_field(name: str, value: Any) -> BeaconEvent:
    """Make a valid event but for one field."""
    changed = event(7, consumer="acme")
    setattr(changed, name, value)
    return changed


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def test_a_record_becomes_the_payload_of_the_contract() -> None:
    assert clean(RECORD) == EXPECTED


def test_a_valid_event_passes_unchanged() -> None:
    assert clean(event(7, consumer="acme")) == EXPECTED


def test_consumer_and_error_are_always_sent() -> None:
    payload = clean(event())
    assert payload["consumer"] is None
    assert payload["error"] is None


@pytest.mark.parametrize(
    "pass_as", [BeaconEvent.to_payload, vars, lambda e: e], ids=["dict", "namespace", "event"]
)
def test_look_alikes_are_taken(pass_as: Any) -> None:
    class Own:
        def __init__(self, **fields: Any) -> None:
            vars(self).update(fields)

        def to_payload(self) -> Dict[str, Any]:
            return vars(self)

    own = Own(**EXPECTED)
    assert clean(own if pass_as is vars else pass_as(event(7, consumer="acme"))) == EXPECTED


@pytest.mark.parametrize("what", [None, 1, "text", b"x", object(), (), (1, 2), [], tuple("12345678"), print])
def test_what_is_no_event_is_refused(what: object) -> None:
    with pytest.raises(Unrepairable):
        clean(what)


def test_a_raising_to_payload_costs_only_its_event() -> None:
    class Broken:
        def to_payload(self) -> Dict[str, Any]:
            raise RuntimeError("no")

    with pytest.raises(Unrepairable):
        clean(Broken())


# -- text -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "limit"), [("method", 16), ("route", 2048), ("path", 4096), ("consumer", 256), ("error", 8192)]
)
@pytest.mark.parametrize("letter", ["a", "é", "😀"])
def test_long_text_is_cut_to_the_limit_in_utf16_units(field: str, limit: int, letter: str) -> None:
    text = clean(with_field(field, letter * 10_000))[field]
    assert isinstance(text, str)
    assert units(text) == limit - (limit % units(letter))
    assert set(text) == {letter}


def test_a_cut_never_leaves_half_of_a_character() -> None:
    text = clean(event(consumer="a" * 255 + "😀"))["consumer"]
    assert text == "a" * 255


@pytest.mark.parametrize("bad", ["\0", "\ud800", "\udfff", "\udc00"])  # noqa: PT014 - four characters
def test_nul_and_lone_surrogates_are_replaced(bad: str) -> None:
    assert clean(event(path=f"/a{bad}b"))["path"] == "/a\ufffdb"


def test_two_halves_of_a_character_are_joined() -> None:
    assert clean(event(path="/\ud83d\ude00"))["path"] == "/😀"


@pytest.mark.parametrize(
    ("value", "text"),
    [(b"acme", "acme"), (b"\xff", "\ufffd"), (17, "17"), (True, "True"), ("", "")],
)
def test_a_consumer_that_is_no_text_becomes_text(value: object, text: str) -> None:
    assert clean(event(consumer=value))["consumer"] == text


def test_a_consumer_that_cannot_be_shown_costs_nothing_else() -> None:
    class Shy:
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert clean(event(consumer=Shy()))["consumer"] == "<Shy>"


def test_a_str_subclass_is_sent_as_its_text() -> None:
    class Method(str, enum.Enum):
        GET = "GET"

    assert clean(event(method=Method.GET))["method"] == "GET"


def test_empty_required_text_has_a_truthful_stand_in_or_none() -> None:
    assert clean(event(path=""))["path"] == "/"
    assert clean(event(route=""))["route"] == "(unmatched)"
    with pytest.raises(Unrepairable, match="method"):
        clean(event(method=""))


# -- numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "status"),
    [(200, 200), ("404", 404), (HTTPStatus.GONE, 410), (503.0, 503), (0, 100), (-5, 100), (1000, 599)],
)
def test_a_status_is_read_and_clamped(value: object, status: int) -> None:
    assert clean(event(status=value))["status"] == status


@pytest.mark.parametrize("value", [None, True, "ok", math.nan, math.inf, 10**400, [], b"200"])
def test_a_status_that_says_nothing_drops_the_event(value: object) -> None:
    with pytest.raises(Unrepairable, match="status"):
        clean(event(status=value))


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [(0, 0), (0.4, 0), (0.5, 1), (12.7, 13), (-3, 0), (-0.2, 0), ("15", 15), (2**40, 2**31 - 1)],
)
def test_a_duration_is_rounded_and_clamped(value: object, milliseconds: int) -> None:
    assert clean(event(duration_ms=value))["duration_ms"] == milliseconds


@pytest.mark.parametrize("value", [None, False, math.nan, math.inf, -math.inf, "slow", 10**400])
def test_a_duration_that_says_nothing_drops_the_event(value: object) -> None:
    with pytest.raises(Unrepairable, match="duration_ms"):
        clean(event(duration_ms=value))


@pytest.mark.parametrize("duration", [math.nan, math.inf, "soon", None])
def test_a_record_with_a_broken_duration_is_dropped_alone(duration: Any) -> None:
    with pytest.raises(Unrepairable):
        clean((*RECORD[:3], duration, None))


@pytest.mark.parametrize("kind", [None, "GET/", ("GET", "/", 200), ["GET", "/", 200, None]])
def test_a_record_with_a_broken_kind_is_dropped_alone(kind: Any) -> None:
    with pytest.raises(Unrepairable, match="event"):
        clean((RECORD[0], kind, *RECORD[2:]))


# -- time -------------------------------------------------------------------------------


def test_utc_now_iso_is_accepted_as_it_is() -> None:
    now = utc_now_iso()
    assert now.endswith("+00:00")
    assert clean(event(ts=now))["ts"] == now


@pytest.mark.parametrize(
    ("value", "ts"),
    [
        ("2026-06-03T12:00:00Z", "2026-06-03T12:00:00Z"),
        ("2026-06-03T12:00:00.5+02:00", "2026-06-03T12:00:00.5+02:00"),
        ("2026-06-03 12:00:00+02:00", "2026-06-03T12:00:00+02:00"),
        ("2026-06-03T12:00:00+0200", "2026-06-03T12:00:00+02:00"),
        ("2026-06-03T12:00:00", "2026-06-03T12:00:00+00:00"),
        (1780488000, "2026-06-03T12:00:00.000+00:00"),
        (1780488000.25, "2026-06-03T12:00:00.250+00:00"),
        (datetime(2026, 6, 3, 12, tzinfo=timezone(timedelta(hours=2))), "2026-06-03T12:00:00+02:00"),
    ],
)
def test_times_are_brought_to_iso_8601_with_offset(value: object, ts: str) -> None:
    assert clean(event(ts=value))["ts"] == ts


@pytest.mark.parametrize(
    "value",
    ["", "now", None, True, "2026-02-30T00:00:00Z", "2026-06-03T25:00:00Z", "2026-06-03T12:00:00+25:00",
     "2026-06-03", "٢٠٢٦-06-03T12:00:00Z", math.nan, 1e30],
)  # fmt: skip
def test_a_time_that_says_nothing_drops_the_event(value: object) -> None:
    with pytest.raises(Unrepairable, match="ts"):
        clean(event(ts=value))


@given(st.floats(min_value=0, max_value=4e9))
def test_any_clock_reading_is_formatted_to_the_millisecond(epoch: float) -> None:
    ts = str(clean((epoch, *RECORD[1:]))["ts"])
    assert abs(datetime.fromisoformat(ts).timestamp() - epoch) <= 0.001


# -- batches ----------------------------------------------------------------------------


def test_the_body_is_the_contract_s_json() -> None:
    batch = Batch([clean(RECORD), clean(event(1, path="/ü/😀"))])
    decoded = json.loads(batch.body.decode("utf-8"))
    assert decoded == {"events": list(batch)}


def test_both_encoders_write_the_same_json(monkeypatch: pytest.MonkeyPatch) -> None:
    payloads = [clean(event(1, path="/ü/😀", error='say "no"\n\\'))]
    bodies = []
    for has_orjson in (True, False):
        monkeypatch.setattr(wire, "_has_orjson", has_orjson)
        bodies.append(wire.encode(payloads))
    assert bodies[0] == bodies[1]


def test_halves_keep_order_and_get_keys_of_their_own() -> None:
    batch = Batch([clean(event(n)) for n in range(5)])
    first, rest = batch.halves()
    assert [*first, *rest] == batch
    assert len({batch.idempotency_key, first.idempotency_key, rest.idempotency_key}) == 3


def test_a_batch_is_an_ordinary_list_for_custom_transports() -> None:
    batch = Batch([clean(RECORD)])
    assert json.loads(json.dumps({"events": batch})) == {"events": [EXPECTED]}
