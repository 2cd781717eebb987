r"""
Makes text that came in over the network safe to print.

A route, path, consumer or error is whatever a caller sent. Printed as it is, an ESC sequence would move the
cursor or retitle the terminal, and a bidi override would show another text than the one stored. Each such
character becomes visible (`\x1b`, `\u202e`). Owns no layout and needs the standard library only.
"""

from __future__ import annotations

import unicodedata

#: Control (C0, DEL, C1), format (bidi, zero-width, tags), surrogate, private, unassigned, line and paragraph
#: separators. Source: Unicode Standard, table 4-4.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str, *, limit: int, encoding: str = "utf-8") -> str:
    """
    Return `text` with every character visible, in at most `limit` characters; an ellipsis ends what was cut.

    What `encoding` (the terminal's) cannot express is escaped as well: printing never raises.
    """
    # Cut first: the work is bounded whatever was sent. Escapes are longer than their character: cut again.
    visible = "".join(map(_visible, text[: limit + 1]))
    visible = visible.encode(encoding, "backslashreplace").decode(encoding)
    if len(visible) <= limit:
        return visible
    ellipsis = "\N{HORIZONTAL ELLIPSIS}"
    if ellipsis.encode(encoding, "replace") == b"?":
        ellipsis = "..."
    return visible[: limit - len(ellipsis)] + ellipsis


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE_CATEGORIES:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
