"""Arguments of a factory as a user writes them: ``num_classes=10`` at the prompt, or behind ``?`` in a name."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import ArchitectureError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: Spellings that are no Python literals, but that everyone types.
_WORDS: Mapping[str, Any] = {"true": True, "false": False, "none": None, "null": None}


def parse_argument(text: str) -> tuple[str, Any]:
    """Split ``key=value`` and read the value: a Python literal, ``true``/``false``/``none``, or else a string.

    Raises
    ------
    UsageError
        There is no ``=``, or what stands before it is no Python name.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key.isidentifier():
        raise UsageError(f"{text!r} is no argument for the architecture: write KEY=VALUE, such as num_classes=10")
    return key, _value(value.strip())


def split_name(arch: str) -> tuple[str, dict[str, Any]]:
    """Split ``resnet50?num_classes=10&norm=bn`` into the name and its arguments.

    Raises
    ------
    UsageError
        A part behind ``?`` is no ``key=value``, or a key comes twice with different values.
    """
    name, _, query = arch.partition("?")
    arguments: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        key, value = parse_argument(part)
        arguments = merge(arguments, {key: value})
    return name.strip(), arguments


def is_file(name: str) -> bool:
    """Whether what stands before the colon means a file rather than a module."""
    return name.endswith(".py") or "/" in name


def merge(in_name: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Join the arguments in a name and those given beside it.

    Raises
    ------
    UsageError
        The two say different things of one key.
    """
    for key in in_name.keys() & given.keys():
        if in_name[key] != given[key]:
            raise UsageError(f"the argument {key} is given twice: {in_name[key]!r} and {given[key]!r}")
    return {**in_name, **given}


def without_weights(arguments: Mapping[str, Any], asking: Collection[str], label: str) -> dict[str, Any]:
    """``arguments`` without those of ``asking`` (``pretrained``, ``weights`` …), which must not ask for anything.

    Raises
    ------
    ArchitectureError
        One of them asks for weights.
    """
    for key in arguments.keys() & set(asking):
        if arguments[key] not in (None, False, ""):
            raise ArchitectureError(
                f"{label}: leave {key}={arguments[key]!r} out; a model is built for its shapes, and nothing is downloaded"
            )
    return {key: value for key, value in arguments.items() if key not in asking}


def format_call(function: str, arguments: Mapping[str, Any], *positional: str) -> str:
    """Write the Python expression ``function(positional, key=value, …)``; positional arguments are expressions already."""
    return f"{function}({', '.join([*positional, *(f'{key}={value!r}' for key, value in arguments.items())])})"


def _value(text: str) -> Any:
    word = text.lower()
    if word in _WORDS:
        return _WORDS[word]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
