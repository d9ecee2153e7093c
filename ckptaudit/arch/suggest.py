"""The name that was meant, for a name that does not exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean a, b?``, or nothing where no known name is close. Letter case counts for nothing."""
    import difflib  # only for those who are wrong

    by_lower = {word.lower(): word for word in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    return f"; did you mean {', '.join(by_lower[word] for word in close)}?" if close else ""
