"""Numbers and names as people read them."""

from __future__ import annotations

from ckptaudit.text import plural

__all__ = ["count", "nbytes", "plural", "share"]


def count(number: float) -> str:
    """``39633729`` as ``39.6 M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f}"


def nbytes(number: int) -> str:
    """``168312152`` as ``160.5 MiB``."""
    for size, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} bytes"


def share(part: int, whole: int) -> str:
    """A percentage that says 100 or 0 only when it is exactly so."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "<0.1 %"
    if 99.9 < percent < 100:
        return ">99.9 %"
    return f"{percent:.1f} %" if 0 < percent < 100 else f"{percent:.0f} %"
