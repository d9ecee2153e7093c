"""Text from files is not to be trusted: names may hold escape sequences, newlines, or markup that reorders a line."""

from __future__ import annotations

import re
import unicodedata

#: Control, format (bidirectional overrides, zero-width), surrogate, private-use and unassigned characters; line and paragraph separators.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

#: Where markup begins, should the text end up in a page.
_TAG = re.compile(r"<(?=[A-Za-z/!?])")


def printable(text: str, limit: int = 2000) -> str:
    """``text`` on one line, with every character that could steer a terminal or begin markup written as an escape, cut at ``limit``."""
    if len(text) > limit:
        text = f"{text[: limit - 1]}…"
    text = _TAG.sub(r"\\x3c", text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(c) if unicodedata.category(c) in _UNSAFE else c for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
