"""Taking TOML tables apart, telling everything that is wrong with them at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from ckptaudit.arch.suggest import did_you_mean

_REQUIRED = object()
_KINDS: Mapping[type, str] = {str: "a string", list: "a list", dict: "a table", bool: "a boolean", int: "a number", float: "a number"}


class TableReader:
    """Takes a table apart and collects all that is wrong with it, to be told at once."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def table(self, item: Any, where: str, known: Collection[str]) -> Mapping[str, Any]:
        """``item`` as a table without unknown keys; an empty one where it is none."""
        if not isinstance(item, dict):
            self.wrong.append(f"{where}: is {_kind(item)}, not a table")
            return {}
        listed = ", ".join(known)
        self.wrong += [
            f"{where}: there is no key {key!r}{did_you_mean(key, known) or f' (there are {listed})'}" for key in item if key not in known
        ]
        return item

    def get(self, table: Mapping[str, Any], where: str, key: str, kind: type, default: Any = _REQUIRED) -> Any:
        """A value of the kind that is wanted."""
        if key not in table:
            if default is _REQUIRED:
                self.wrong.append(f"{where}.{key}: is missing")
            return kind() if default is _REQUIRED else default
        value: Any = table[key]
        if not isinstance(value, kind):
            self.wrong.append(f"{where}.{key}: is {_kind(value)}, not {_KINDS[kind]}")
            return kind()
        return value

    def words(self, table: Mapping[str, Any], where: str, key: str, default: Any = _REQUIRED) -> Any:
        """A string with something in it."""
        value = self.get(table, where, key, str, default)
        if key in table and isinstance(table[key], str) and not value.strip():
            self.wrong.append(f"{where}.{key}: is empty")
        return value

    def choice(self, table: Mapping[str, Any], where: str, key: str, choices: Iterable[str], default: str | None) -> Any:
        """One of several words."""
        value = self.get(table, where, key, str, default)
        if value and value not in choices:
            self.wrong.append(f"{where}.{key}: {value!r} is none of {', '.join(choices)}")
        return value

    def strings(self, table: Mapping[str, Any], where: str, key: str, default: list[str]) -> Iterator[str]:
        """A list of words."""
        for position, value in enumerate(self.get(table, where, key, list, default)):
            if isinstance(value, str) and value:
                yield value
            else:
                self.wrong.append(f"{where}.{key}[{position}]: is {_kind(value)}, not a string")


def _kind(value: object) -> str:
    return _KINDS.get(type(value), type(value).__name__)
