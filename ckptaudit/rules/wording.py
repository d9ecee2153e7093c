"""Small words of messages."""

from __future__ import annotations

from collections.abc import Iterable

from ckptaudit.text import plural

__all__ = ["are", "have", "percent", "plural", "quoted"]


def are(number: int, word: str) -> str:
    """``1 tensor is``, ``2 tensors are``."""
    return f"{plural(number, word)} {'is' if number == 1 else 'are'}"


def have(number: int, word: str) -> str:
    """``1 tensor has``, ``2 tensors have``."""
    return f"{plural(number, word)} {'has' if number == 1 else 'have'}"


def percent(share: float) -> str:
    """``25%``; 0% and 100% are said only of none and of all."""
    if 0 < share < 0.01:
        return "less than 1%"
    return "more than 99%" if 0.99 < share < 1 else f"{share:.0%}"


def quoted(words: Iterable[str]) -> str:
    """Names in backquotes, with commas between them."""
    return ", ".join(f"`{word}`" for word in words)
