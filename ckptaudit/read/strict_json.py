"""JSON from a file that nobody vouches for: one meaning or none."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class _TwiceError(ValueError):
    """A key stands twice in one object; readers disagree on which of the two counts."""


def parse(content: bytes, error: Callable[[str], Exception]) -> dict[str, Any]:
    """Parse a JSON object. Numbers that are not finite (``NaN``, ``1e999``) become text: no output could hold them.

    Parameters
    ----------
    content:
        The bytes, in UTF-8.
    error:
        Makes the exception to raise from words that follow the name of the thing ("is no valid JSON").
    """
    import json  # only some formats need it

    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=str, parse_float=_finite)
    except _TwiceError as twice:
        raise error(f"has a duplicate key, {twice}") from None
    except RecursionError:
        raise error("is nested too deep") from None
    except ValueError as why:
        raise error(f"is no valid JSON ({str(why)[:80]})") from None
    if not isinstance(value, dict):
        raise error("is no JSON object")
    return value


def _finite(text: str) -> float | str:
    value = float(text)
    return value if isfinite(value) else text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _TwiceError(repr(key))
            seen.add(key)
    return mapping
