"""Ratios of sizes, as pairs of numbers: importing ``fractions`` would take a fiftieth of a whole audit."""

from __future__ import annotations

from math import gcd


def lowest_terms(a: int, b: int) -> tuple[int, int]:
    """``a`` and ``b`` in lowest terms; equal for equal ratios."""
    divisor = gcd(a, b)
    return a // divisor, b // divisor
