"""Rows of a name and a text, folded where blocks repeat, such that the very same rows in the same order come back.

``layer1.{0..2}.conv1.weight`` stands for three names. Braces read like nested loops: rows next to each other that begin with
the same segments belong to one loop, whose body is all of them.
``a.{0,1}.x`` followed by ``a.{0,1}.y`` is ``a.0.x``, ``a.0.y``, ``a.1.x``, ``a.1.y``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from ckptaudit.graph.names import fold_numbers
from ckptaudit.lazily import compiled_when_used

Row = tuple[str, str]
#: The segments of a name that are left at some depth, each with the separator before it, and the row's text.
_Rest = tuple[tuple[str, ...], str]

_SEGMENTS = compiled_when_used(r"[./]?[^./]*")
_FOLDED_SEGMENTS = compiled_when_used(r"[./]?(?:\{[^}]*\}|[^./{}]*)")
_ESCAPED = compiled_when_used(r"\\([0-9a-f]{6})")
_RANGE = compiled_when_used(r"(\d{1,9})\.\.(\d{1,9})", re.ASCII)
#: A lock that claims more rows than this is not expanded.
MAX_ROWS = 250_000


def fold(rows: Iterable[Row]) -> list[Row]:
    """Fold rows; names are escaped so that they hold no white space, braces, commas or anything that cannot be printed."""
    return [("".join(segments), text) for segments, text in _fold([(_segments(escape(name)), text) for name, text in rows])]


def unfold(rows: Iterable[Row]) -> list[Row]:
    """Undo :func:`fold`.

    Raises
    ------
    ValueError
        A name is not well-formed, or more than :data:`MAX_ROWS` rows would come out.
    """
    parsed: list[_Rest] = []
    for name, text in rows:
        segments = tuple(part for part in _FOLDED_SEGMENTS.findall(name) if part) or ("",)
        if "".join(segments) != name or not all(segment[0] in "./" for segment in segments[1:]):
            raise ValueError(f"{name!r} is no name or pattern")
        parsed.append((segments, text))
    found = []
    for segments, text in _unfold(parsed):
        found.append((unescape("".join(segments)), text))
        if len(found) > MAX_ROWS:
            raise ValueError(f"more than {MAX_ROWS:,} rows")
    return found


def escape(name: str) -> str:
    r"""Write white space, braces, commas, quotes, backslashes and what cannot be printed as a backslash and six hexadecimal digits."""
    return "".join(c if c.isprintable() and c not in " {},'\\" else f"\\{ord(c):06x}" for c in name)


def unescape(text: str) -> str:
    """Undo :func:`escape`; raises ValueError."""
    if "\\" in _ESCAPED.sub("", text):
        raise ValueError(f"{text!r} holds a backslash without six hexadecimal digits")
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


def _segments(name: str) -> tuple[str, ...]:
    return tuple(part for part in _SEGMENTS.findall(name) if part) or ("",)


def _fold(rows: list[_Rest]) -> list[_Rest]:
    folded: list[_Rest] = []
    before = ""
    for segments, body in _runs(_groups(rows)):
        for segment in [_braced(segments)] if len(segments) > 1 and _braced(segments) != before else segments:
            before = segment
            folded += [((segment, *rest), text) for rest, text in _inner(body, _fold)]
    return folded


def _groups(rows: Iterable[_Rest]) -> Iterator[tuple[str, list[_Rest]]]:
    """Rows next to each other that begin with the same segment, without that segment."""
    for segment, found in groupby(rows, lambda row: row[0][0]):
        yield segment, [(segments[1:], text) for segments, text in found]


def _inner(body: list[_Rest], apply: Callable[[list[_Rest]], Iterable[_Rest]]) -> Iterator[_Rest]:
    """``apply`` to what goes on below a segment; rows that end with it stay where they are."""
    for goes_on, rows in groupby(body, lambda row: bool(row[0])):
        part = list(rows)
        yield from apply(part) if goes_on else part


def _runs(groups: Iterable[tuple[str, list[_Rest]]]) -> Iterator[tuple[list[str], list[_Rest]]]:
    """Groups next to each other that differ in the segment only."""
    run: list[str] = []
    last: list[_Rest] = []
    for segment, body in groups:
        if run and body == last and _separator(segment) == _separator(run[0]) and segment not in run:
            run.append(segment)
            continue
        if run:
            yield run, last
        run, last = [segment], body
    if run:
        yield run, last


def _separator(segment: str) -> str:
    return segment[:1] if segment[:1] in ("", ".", "/") else ""


def _braced(segments: list[str]) -> str:
    separator = _separator(segments[0])
    words = [segment.removeprefix(separator) for segment in segments]
    numbers = [int(word) for word in words if word.isdecimal() and word == str(int(word))]
    ascending = len(numbers) == len(words) and numbers == sorted(numbers)
    return f"{separator}{{{fold_numbers(numbers) if ascending else ','.join(words)}}}"


def _unfold(rows: list[_Rest]) -> Iterator[_Rest]:
    for segment, body in _groups(rows):
        for word in _expanded(segment):
            yield from (((word, *rest), text) for rest, text in _inner(body, _unfold))


def _expanded(segment: str) -> Iterator[str]:
    separator = _separator(segment)
    inner = segment.removeprefix(separator)
    if not inner.startswith("{"):
        yield segment
        return
    for word in inner[1:-1].split(","):
        numbers = _RANGE.fullmatch(word)
        for value in range(int(numbers[1]), int(numbers[2]) + 1) if numbers else [word]:
            yield f"{separator}{value}"
