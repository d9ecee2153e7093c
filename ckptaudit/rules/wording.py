"""Small words of messages."""

from __future__ import annotations

from collections.abc import Iterable

from ckptaudit.text import plural

__all__ = ["are", "have", "plural", "quoted"]


def are(number: int, word: str) -> str:
    """``1 tensor is``, ``2 tensors are``."""
    return f"{plural(number, word)} {'is' if number == 1 else 'are'}"


def have(number: int, word: str) -> str:
    """``1 tensor has``, ``2 tensors have``."""
    return f"{plural(number, word)} {'has' if number == 1 else 'have'}"


def quoted(words: Iterable[str]) -> str:
    """Names in backquotes, with commas between them."""
    return ", ".join(f"`{word}`" for word in words)
