"""Tensor names: segments, wrappers, and how a thousand of them are shown as one line.

A *segment* is what stands between separators; all renaming in this project works on whole segments,
because cutting characters is how ``block1`` becomes ``ock1``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from sys import intern
from typing import Any

from ckptaudit.lazily import compiled_when_used

#: Most digits of a number within a name. Python turns no more than 4300 into a number.
MAX_DIGITS = 300
#: Numbers of one segment that are folded.
_MAX_NUMBERS = 8

_SEPARATOR = compiled_when_used(r"[./]")
_NUMBER = compiled_when_used(r"\d+")
_NUMBER_KEPT = compiled_when_used(r"(\d+)")


def split_name(name: str) -> tuple[str, ...]:
    """Split a tensor name into segments at ``.`` and ``/`` (torch and Keras/TensorFlow spellings)."""
    return tuple(map(intern, name.replace("/", ".").split(".")))  # few segments, in very many names


def first_segment(name: str) -> str:
    """The first segment of ``name``."""
    return name.replace("/", ".").partition(".")[0]


def split_leaf(name: str) -> tuple[str, str]:
    """What :func:`parent` and :func:`leaf` give."""
    cut = max(name.rfind("."), name.rfind("/"))
    return (name[:cut], name[cut + 1 :]) if cut >= 0 else ("", name)


def parent(name: str) -> str:
    """The path of the module that owns the tensor or module ``name``; ``""`` at the top."""
    cut = max(name.rfind("."), name.rfind("/"))
    return name[:cut] if cut >= 0 else ""


def leaf(name: str) -> str:
    """The last segment of ``name``."""
    return name[max(name.rfind("."), name.rfind("/")) + 1 :]


def is_under(name: str, prefix: str) -> bool:
    """Whether ``name`` is ``prefix`` or lies below it, by whole segments; everything is under ``""``."""
    return not prefix or name == prefix or (name.startswith(prefix) and name[len(prefix)] in "./")


def common_prefix(names: Sequence[str]) -> str:
    """The longest run of whole leading segments that all ``names`` share, the last segment of each excluded."""
    if not names:
        return ""
    shortest, longest = min(names), max(names)  # in sorted order only the extremes need comparing
    end = 0
    for position, (a, b) in enumerate(zip(shortest, longest, strict=False)):
        if a != b:
            break
        if a in "./":
            end = position
    return shortest[:end]


def fold_numbers(numbers: Iterable[int]) -> str:
    """``{0, 1, 2, 5}`` as ``0..2,5``: ranges inclusive, comma between them."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a},{b}" if b == a + 1 else f"{a}..{b}" for a, b in runs)


def fold_names(names: Iterable[str]) -> list[str]:
    """Fold names that differ in one segment into one pattern each, as a shell would brace them.

    ``layer4.0.conv1.weight``, ``layer4.1.conv1.weight`` → ``layer4.{0,1}.conv1.weight``; words fold too:
    ``bn1.weight``, ``bn1.bias`` → ``bn1.{weight,bias}``; and numbers within words: ``conv2d/kernel``, ``conv2d_1/kernel``,
    ``conv2d_2/kernel`` → ``{conv2d,conv2d_{1,2}}/kernel``. Expanding the patterns gives back exactly ``names``.
    Order of first appearance is kept. Braces, commas and dots inside a pattern's braces never come from a name alone:
    a segment that holds one of ``{},`` is left unfolded.
    """
    rows = [_tokens(name) for name in dict.fromkeys(names)]
    # From the last segment to the first: tensors of a layer fold before layers of a block, and blocks before stages.
    width = max((len(row) for row in rows), default=0)
    for from_end in range(1, width + 1, 2):
        groups: dict[tuple[str, ...], list[str]] = {}
        for row in rows:
            position = len(row) - from_end
            if position < 0 or not _foldable(row[position]):
                groups.setdefault(("", *row), []).append("")
                continue
            groups.setdefault((str(position), *row[:position], *row[position + 1 :]), []).append(row[position])
        rows = []
        for key, values in groups.items():
            if not key[0]:
                rows.append(key[1:])
                continue
            position = int(key[0])
            rows.append((*key[1 : position + 1], _braced(values), *key[position + 1 :]))
    return ["".join(row) for row in rows]


def collapse_modules(names: Iterable[str], everything: Iterable[str]) -> list[str]:
    """Replace the names of modules whose tensors, buffers and all, are every one among ``names`` by ``module.**``.

    ``everything`` is all names of the graph. Outermost modules are taken; names of modules that are only partly
    concerned stay as they are. The result is in order and meant to be folded afterwards.
    """
    chosen = set(names)
    partly = {prefix for name in everything if name not in chosen for prefix in _prefixes(name)}
    collapsed: dict[str, None] = {}
    for name in everything:
        if name in chosen:
            whole = next((prefix for prefix in _prefixes(name) if prefix not in partly), None)
            collapsed[f"{whole}**" if whole else name] = None
    return list(collapsed)


def _prefixes(name: str) -> Iterator[str]:
    """Every module prefix of ``name`` with its closing separator, outermost first."""
    return (name[: match.end()] for match in _SEPARATOR.finditer(name))


def _tokens(name: str) -> tuple[str, ...]:
    """Segments and the separators between them, alternating, so that joining gives the name back."""
    return tuple(re.split(r"([./])", name))


def _foldable(segment: str) -> bool:
    return not any(c in segment for c in "{},")


def _braced(values: list[str]) -> str:
    """Segments as one pattern; of those that differ in numbers alone, the numbers."""
    rows = [tuple(_NUMBER_KEPT.split(value, _MAX_NUMBERS)) for value in values]  # text, number, text …
    for from_end in range(2, max(map(len, rows)), 2):
        groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
        for row in rows:
            before, number, after = (row[:-from_end], row[-from_end], row[1 - from_end :]) if len(row) > from_end else (row, "", ())
            groups.setdefault((before, after) if _is_plain(number) else ((*before, number, *after), ()), []).append(number)
        rows = [(*before, _counted(numbers), *after) if after else before for (before, after), numbers in groups.items()]
    patterns = ["".join(row) for row in rows]
    return patterns[0] if len(patterns) == 1 else "{" + ",".join(patterns) + "}"


def _is_plain(number: str) -> bool:
    return 0 < len(number) < MAX_DIGITS and str(int(number)) == number


def _counted(numbers: list[str]) -> str:
    return numbers[0] if len(numbers) == 1 else "{" + fold_numbers(map(int, numbers)) + "}"


def natural(text: str) -> tuple[Any, ...]:
    """A sort key under which ``conv_2`` stands before ``conv_10``, and ``conv`` before both."""
    return tuple(
        (0, int(part), "") if part.isdecimal() and len(part) < MAX_DIGITS else (1, 0, part) for part in _NUMBER_KEPT.split(text) if part
    )


def numbers_masked(name: str) -> str:
    """The name with every number replaced by ``#``: the same for all repeats of a block."""
    return _NUMBER.sub("#", name)
