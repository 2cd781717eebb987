from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconhq.local.printable import printable

from .samples import unhurried

HOSTILE = [
    ("\x1b[2J", r"\x1b[2J"),
    ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
    ("\x9b31m", r"\x9b31m"),
    ("\x90q\x9c", r"\x90q\x9c"),
    ("a\r\nb\tc\x08\x7f\x00", r"a\r\nb\tc\x08\x7f\x00"),
    ("\u202eabc\u202c", r"\u202eabc\u202c"),
    ("\u2066\u2067\u2068\u2069", r"\u2066\u2067\u2068\u2069"),
    ("\u200b\u200d\u200e\u2060\ufeff\u00ad\u061c", r"\u200b\u200d\u200e\u2060\ufeff\xad\u061c"),
    ("\u2028\u2029", r"\u2028\u2029"),
    ("\U000e0041", r"\U000e0041"),
    ("\ue000", r"\ue000"),
    ("\ud800", r"\ud800"),
]


@pytest.mark.parametrize(("text", "visible"), HOSTILE)
def test_what_would_drive_a_terminal_becomes_visible(text: str, visible: str) -> None:
    assert printable(text, limit=100) == visible


@pytest.mark.parametrize(
    "text", ["", "/orders/{order_id}", "/caf\u00e9", "/\u6ce8\u6587", "[bold]x[/]", "a b"]
)
def test_ordinary_text_is_itself(text: str) -> None:
    assert printable(text, limit=100) == text


@unhurried
@given(st.text(st.characters()), st.integers(4, 50))
def test_nothing_but_visible_characters_in_any_text(text: str, limit: int) -> None:
    shown = printable(text, limit=limit)
    assert len(shown) <= limit
    assert not {unicodedata.category(character)[0] for character in shown} & {"C"}
    assert not {"\u2028", "\u2029"} & set(shown)


@unhurried
@given(st.text(st.characters()), st.sampled_from(["ascii", "latin-1", "cp437", "utf-8"]))
def test_any_text_can_be_written_in_any_encoding(text: str, encoding: str) -> None:
    printable(text, limit=20, encoding=encoding).encode(encoding)


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("0123456789", "utf-8", "0123456789"),
        ("0123456789A", "utf-8", "012345678\u2026"),
        ("0123456789A", "ascii", "0123456..."),
        ("\x1b\x1b\x1b", "utf-8", "\\x1b\\x1b\\\u2026"),
        ("\u6ce8", "ascii", "\\u6ce8"),
    ],
)
def test_what_does_not_fit_ends_in_an_ellipsis(text: str, encoding: str, shown: str) -> None:
    assert printable(text, limit=10, encoding=encoding) == shown


def test_a_text_of_megabytes_is_cut_before_it_is_looked_at() -> None:
    class Counted(str):
        __slots__ = ()

        def __iter__(self) -> object:  # type: ignore[override]
            raise AssertionError("the whole text was walked")

    assert printable(Counted("\x1b" * 10_000_000), limit=5) == "\\x1b\u2026"
