"""Text from files is not to be trusted: names may hold escape sequences, newlines, or markup that reorders a line."""

from __future__ import annotations

import re
import unicodedata

#: Control, format (bidirectional overrides, zero-width), surrogate, private-use and unassigned characters; line and paragraph separators.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

#: Where markup begins, should the text end up in a page.
_TAG = r"<(?=[A-Za-z/!?])"
#: Where a command to the machine that runs a job begins: ``::error::``, which GitHub obeys at the start of a line, ``##[error]`` and
#: ``##vso[…]``, which it and Azure obey anywhere. ``aten::relu`` is no such thing.
_COMMAND = r"(?<![\w>)]):(?=:\w)|:(?=:[\w-]+(?: [^\n]{0,200}?)?::)"
_OLD_COMMAND = r"#(?=#\w*\[)"


def printable(text: str, limit: int = 2000) -> str:
    """``text`` on one line, cut at ``limit``, with an escape for all that could steer a terminal, command a job or begin markup."""
    if len(text) > limit:
        text = f"{text[: limit - 1]}…"
    if "<" in text:
        text = re.sub(_TAG, r"\\x3c", text)
    if "::" in text:
        text = re.sub(_COMMAND, r"\\x3a", text)
    if "##" in text:
        text = re.sub(_OLD_COMMAND, r"\\x23", text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(c) if unicodedata.category(c) in _UNSAFE else c for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def plural(number: int, word: str) -> str:
    """``1 tensor``, ``2 tensors``."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
