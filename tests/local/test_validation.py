from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconhq.local import validation
from beaconhq.local.validation import InvalidBody, InvalidEvent, ValidEvent, parse_batch

from .samples import Payload, body, payload, unhurried

# Astral characters count twice: stay far below the limit, the limits have tests of their own.
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=128)
some_text = texts.filter(bool)
timestamps = st.datetimes(
    timezones=st.builds(
        lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)),
        st.integers(-23 * 60 - 59, 23 * 60 + 59),
    )
)
valid_payloads: st.SearchStrategy[Payload] = st.fixed_dictionaries(
    {
        "ts": timestamps.map(dt.datetime.isoformat),
        "method": st.text(
            st.characters(exclude_characters="\x00", max_codepoint=0x7FF), min_size=1, max_size=16
        ),
        "route": some_text,
        "path": some_text,
        "status": st.integers(100, 599),
        "duration_ms": st.integers(0, 2**53 - 1),
    },
    optional={"consumer": st.none() | texts, "error": st.none() | texts, "unknown": st.integers() | texts},
)

TIMESTAMP = "must be ISO 8601 with an offset, as 2026-06-03T12:00:00.000+00:00"
SURROGATE = "must not contain a lone surrogate"
REFUSED: List[Tuple[str, Any, str]] = [
    ("ts", None, "must be a string"),
    ("ts", 1780488000, "must be a string"),
    ("ts", "", TIMESTAMP),
    ("ts", "2026-06-03", TIMESTAMP),
    ("ts", "2026-06-03T12:00:00", TIMESTAMP),
    ("ts", "2026-06-03 12:00:00+00:00", TIMESTAMP),
    ("ts", "2026-06-03T12:00+00:00", TIMESTAMP),
    ("ts", "2026-06-03t12:00:00z", TIMESTAMP),
    ("ts", "2026-06-03T12:00:00.+00:00", TIMESTAMP),
    ("ts", "2026-06-03T12:00:00+0000", TIMESTAMP),
    ("ts", "2026-06-03T12:00:00+24:00", TIMESTAMP),
    ("ts", "2026-06-03T12:00:00+00:60", TIMESTAMP),
    ("ts", "2026-06-03T12:00:00\u221200:00", TIMESTAMP),
    ("ts", "2026-06-03T24:00:00Z", TIMESTAMP),
    ("ts", "2026-06-03T12:60:00Z", TIMESTAMP),
    ("ts", "2026-06-03T12:00:60Z", TIMESTAMP),
    ("ts", "2026-13-03T12:00:00Z", TIMESTAMP),
    ("ts", "2026-06-03T12:00:00Z\n", TIMESTAMP),
    ("ts", " 2026-06-03T12:00:00Z", TIMESTAMP),
    ("ts", "\u0662026-06-03T12:00:00Z", TIMESTAMP),
    ("ts", "12026-06-03T12:00:00Z", TIMESTAMP),
    ("ts", "2026-02-29T12:00:00Z", "is not a calendar date"),
    ("ts", "2026-06-31T12:00:00Z", "is not a calendar date"),
    ("ts", "0000-01-01T12:00:00Z", "is not a calendar date"),
    ("method", None, "must be a string"),
    ("method", "", "must have 1 to 16 UTF-16 units, has 0"),
    ("method", "X" * 17, "must have 1 to 16 UTF-16 units, has 17"),
    ("method", "GE\x00T", "must not contain NUL"),
    ("route", "", "must have 1 to 2048 UTF-16 units, has 0"),
    ("route", "/" * 2049, "must have 1 to 2048 UTF-16 units, has 2049"),
    ("route", "\U0001f600" * 1025, "must have 1 to 2048 UTF-16 units, has 2050"),
    ("route", "/\ud800", SURROGATE),
    ("path", "", "must have 1 to 4096 UTF-16 units, has 0"),
    ("path", "/" * 4097, "must have 1 to 4096 UTF-16 units, has 4097"),
    ("path", "/\u00e9\x00", "must not contain NUL"),
    ("path", "\udc00\ud800", SURROGATE),
    ("path", ["/"], "must be a string"),
    ("status", "200", "must be an integer"),
    ("status", None, "must be an integer"),
    ("status", True, "must be an integer"),
    ("status", 200.0, "must be an integer"),
    ("status", 99, "must be 100 to 599"),
    ("status", 600, "must be 100 to 599"),
    ("status", -200, "must be 100 to 599"),
    ("duration_ms", None, "must be an integer"),
    ("duration_ms", False, "must be an integer"),
    ("duration_ms", 0.5, "must be an integer"),
    ("duration_ms", "12", "must be an integer"),
    ("duration_ms", -1, "must be 0 to 9007199254740991"),
    ("duration_ms", 2**53, "must be 0 to 9007199254740991"),
    ("duration_ms", 10**40, "must be an integer"),
    ("consumer", 7, "must be a string"),
    ("consumer", "c" * 257, "must have 0 to 256 UTF-16 units, has 257"),
    ("consumer", "\U0001f600" * 129, "must have 0 to 256 UTF-16 units, has 258"),
    ("consumer", "\x00", "must not contain NUL"),
    ("error", {"type": "ValueError"}, "must be a string"),
    ("error", "e" * 8193, "must have 0 to 8192 UTF-16 units, has 8193"),
    ("error", "\udfff", SURROGATE),
]


class TestAccepted:
    @unhurried
    @given(st.lists(valid_payloads, max_size=4))
    def test_every_valid_batch_comes_out_as_it_went_in(self, payloads: List[Payload]) -> None:
        accepted = parse_batch(body(*payloads))
        assert len(accepted) == len(payloads)
        for event, sent in zip(accepted, payloads):
            fields = event._asdict()
            del fields["ts_ms"]
            assert fields == {
                "consumer": None,
                "error": None,
                **{name: value for name, value in sent.items() if name != "unknown"},
            }

    @unhurried
    @given(timestamps)
    def test_ts_ms_is_the_moment_in_utc(self, moment: dt.datetime) -> None:
        (event,) = parse_batch(body(payload(ts=moment.isoformat())))
        # Without the offset first: at the ends of the calendar `astimezone` overflows.
        offset = moment.utcoffset()
        assert offset is not None
        local = moment.replace(tzinfo=dt.timezone.utc) - dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
        assert event.ts_ms == (local - offset) // dt.timedelta(milliseconds=1)

    @pytest.mark.parametrize(
        ("ts", "ts_ms"),
        [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.9999999Z", 999),
            ("1970-01-01T01:30:00.5+01:30", 500),
            ("1969-12-31T23:59:59.999-00:00", -1),
            ("2024-02-29T00:00:00+00:00", 1709164800000),
            ("0001-01-01T00:00:00+23:59", -62135683140000),
            ("9999-12-31T23:59:59.999-23:59", 253402387139999),
        ],
    )
    def test_timestamp(self, ts: str, ts_ms: int) -> None:
        (event,) = parse_batch(body(payload(ts=ts)))
        assert (event.ts, event.ts_ms) == (ts, ts_ms)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("method", "X" * 16),
            ("method", "\U0001f600" * 8),
            ("route", "\U0001f600" * 1024),
            ("path", "/" * 4096),
            ("status", 100),
            ("status", 599),
            ("duration_ms", 0),
            ("duration_ms", 2**53 - 1),
            ("consumer", ""),
            ("consumer", "\U0001f600" * 128),
            ("consumer", None),
            ("error", "\u00e9" * 8192),
            ("error", "a\nb\x1b\ufeff"),
        ],
    )
    def test_the_limits_are_inclusive_and_count_utf16_units(self, field: str, value: object) -> None:
        (event,) = parse_batch(body(payload(**{field: value})))
        assert getattr(event, field) == value

    def test_an_empty_list_is_a_batch_of_nothing(self) -> None:
        assert parse_batch(b'{"events": []}') == []

    def test_consumer_and_error_may_be_absent_and_unknown_fields_are_ignored(self) -> None:
        sent = payload(region="eu", consumer="x")
        del sent["consumer"], sent["error"]
        assert parse_batch(body(sent)) == [
            ValidEvent(
                "2026-06-03T12:00:00.000+00:00",
                1780488000000,
                "GET",
                "/orders/{order_id}",
                "/orders/7",
                200,
                12,
                None,
                None,
            )
        ]

    def test_an_escaped_surrogate_pair_is_one_character(self) -> None:
        sent = json.dumps({"events": [payload(path="@")]}).replace("@", "/\\ud83d\\ude00")
        assert parse_batch(sent.encode())[0].path == "/\U0001f600"


class TestRefusedEvent:
    @pytest.mark.parametrize(("field", "value", "reason"), REFUSED)
    def test_one_bad_field_is_named(self, field: str, value: object, reason: str) -> None:
        with pytest.raises(InvalidEvent) as refused:
            parse_batch(body(payload(), payload(**{field: value}), payload(status="later")))
        assert (refused.value.index, refused.value.field, refused.value.reason) == (1, field, reason)

    @unhurried
    @given(
        st.lists(valid_payloads, min_size=1, max_size=5),
        st.integers(0, 4),
        st.sampled_from(REFUSED),
    )
    def test_in_any_batch_at_any_place(
        self, payloads: List[Payload], place: int, mutation: Tuple[str, Any, str]
    ) -> None:
        index = place % len(payloads)
        field, value, reason = mutation
        payloads[index] = {**payloads[index], field: value}
        with pytest.raises(InvalidEvent) as refused:
            parse_batch(body(*payloads))
        assert (refused.value.index, refused.value.field, refused.value.reason) == (index, field, reason)

    @pytest.mark.parametrize("field", ["ts", "method", "route", "path", "status", "duration_ms"])
    def test_a_missing_field_is_named(self, field: str) -> None:
        sent = payload()
        del sent[field]
        with pytest.raises(InvalidEvent, match=f"^event 0, {field}: is required$"):
            parse_batch(body(sent))

    @pytest.mark.parametrize("event", [None, [], "GET /", 7, True])
    def test_an_event_that_is_no_object_has_no_field(self, event: object) -> None:
        with pytest.raises(InvalidEvent) as refused:
            parse_batch(body(payload(), payload(), event))
        assert (refused.value.index, refused.value.field) == (2, None)
        assert refused.value.reason == "must be an object"

    def test_the_first_bad_field_of_the_first_bad_event_counts(self) -> None:
        with pytest.raises(InvalidEvent, match=r"^event 1, ts:"):
            parse_batch(body(payload(), payload(ts="", status=0), payload(method="")))


class TestRefusedBody:
    @pytest.mark.parametrize(
        ("sent", "reason"),
        [
            (b"", "is not JSON"),
            (b"{", "is not JSON"),
            (b"{'events': []}", "is not JSON"),
            (b'\xef\xbb\xbf{"events": []}', "is not JSON"),
            (b'{"events": []} {}', "is not JSON"),
            (b'{"events": [NaN]}', "is not JSON: NaN"),
            (b'{"events": [-Infinity]}', "is not JSON: -Infinity"),
            (b'{"events": "\xff"}', "is not UTF-8"),
            ('{"events": []}'.encode("utf-16"), "is not UTF-8"),
            (b"[" * 200_000, "is nested too deeply"),
            (b"[]", "must be a JSON object"),
            (b"null", "must be a JSON object"),
            (b'"events"', "must be a JSON object"),
            (b"{}", "has no events"),
            (b'{"Events": []}', "has no events"),
            (b'{"events": null}', "events must be a list"),
            (b'{"events": {"0": {}}}', "events must be a list"),
        ],
        ids=lambda value: repr(value[:20]),
    )
    def test_reason(self, sent: bytes, reason: str) -> None:
        with pytest.raises(InvalidBody, match=f"^{re.escape(reason)}"):
            parse_batch(sent)

    def test_megabytes_of_digits_are_refused_at_once(self) -> None:
        """`int()` of them takes minutes on 3.9 and raises a plain ValueError later."""
        sent = body(payload(duration_ms="@")).replace(b'"@"', b"9" * 2_000_000)
        with pytest.raises(InvalidEvent, match=r"^event 0, duration_ms: must be an integer$"):
            parse_batch(sent)

    @unhurried
    @given(st.binary(max_size=200))
    def test_any_bytes_are_answered_with_a_reason(self, sent: bytes) -> None:
        assert answer(sent)

    @unhurried
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("events"), inner),
        )
    )
    def test_any_json_is_answered_with_a_reason(self, document: object) -> None:
        assert answer(json.dumps(document).encode())


def answer(sent: bytes) -> str:
    try:
        return f"accepted {len(parse_batch(sent))}"
    except (InvalidBody, InvalidEvent) as refused:
        return str(refused)


def test_the_validation_needs_the_standard_library_only() -> None:
    """The encoder's fuzz test imports it where no framework is installed."""
    script = f"import sys; sys.path.insert(0, {str(Path(validation.__file__).parents[2])!r})\n"
    script += "import beaconhq.local.validation\n"
    script += "assert not {'starlette', 'anyio', 'pydantic', 'rich'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
