"""JSON from a file that nobody vouches for: one meaning or none."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


#: Bytes of memory for each byte of JSON, above which a text that is not short is refused. Headers of safetensors with the shortest of names
#: come to 15.
_MULTIPLE, _SHORT = 16, 1 << 20
#: Of what is kept as it is. Honest files need three.
_MAX_LEVELS = 16


def _estimate(content: bytes) -> int:
    """Bytes that the values take as Python objects: of each list, object, text and element."""
    texts = (content.count(b'"') - content.count(b'\\"')) // 2
    return 56 * content.count(b"[") + 200 * content.count(b"{") + 56 * texts + 16 * content.count(b",")


class _TwiceError(ValueError):
    """A key stands twice in one object; readers disagree on which of the two counts."""


def parse(
    content: bytes, error: Callable[[str], Exception], shorten: Callable[[dict[str, Any]], Any] = lambda found: found
) -> dict[str, Any]:
    """Parse a JSON object. Numbers that are not finite (``NaN``, ``1e999``) become text: no output could hold them.

    Parameters
    ----------
    content:
        The bytes, in UTF-8.
    error:
        Makes the exception to raise from words that follow the name of the thing ("is no valid JSON").
    shorten:
        Gives what to keep of each object, the inner ones first.
    """
    import json  # only some formats need it

    def hook(pairs: list[tuple[str, Any]]) -> Any:
        return shorten(_unique(pairs))

    if len(content) > _SHORT and _estimate(content) > _MULTIPLE * len(content):
        raise error(f"is made of more parts than {len(content):,} bytes of it can need")
    try:
        text = content.decode("utf-8")
        del content  # a large header is not kept twice
        value = json.loads(text, object_pairs_hook=hook, parse_constant=str, parse_float=_finite)
    except _TwiceError as twice:
        raise error(f"has a duplicate key, {twice}") from None
    except RecursionError:
        raise error("is nested too deep") from None
    except ValueError as why:
        raise error(f"is no valid JSON ({str(why)[:80]})") from None
    if not isinstance(value, dict):
        raise error("is no JSON object")
    return value


def shallow(value: Any, levels: int = _MAX_LEVELS) -> Any:
    """``value`` with a mark in the place of what is nested deeper: outputs walk through it level by level."""
    if not isinstance(value, (dict, list)):
        return value
    if not levels:
        return "…"
    if isinstance(value, dict):
        return {key: shallow(item, levels - 1) for key, item in value.items()}
    return [shallow(item, levels - 1) for item in value]


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
