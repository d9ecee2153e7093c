"""Grades as numbers."""

from __future__ import annotations

from enum import IntEnum

from ckptaudit.align.pairs import Grade

__all__ = ["Level"]


class Level(IntEnum):
    """A grade as a number, so that the worst along a chain is its minimum."""

    AMBIGUOUS = 0
    ORDERED = 1
    DECIDED = 2

    @property
    def grade(self) -> Grade:
        """The grade's name."""
        return _GRADES[self]


_GRADES: tuple[Grade, ...] = ("ambiguous", "ordered", "decided")
