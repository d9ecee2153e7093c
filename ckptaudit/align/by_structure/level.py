"""Grades, and what numbers are worth, as numbers."""

from __future__ import annotations

from enum import IntEnum

from ckptaudit.align.pairs import Grade

__all__ = ["Level", "Worth"]


class Level(IntEnum):
    """A grade as a number, so that the worst along a chain is its minimum."""

    AMBIGUOUS = 0
    ORDERED = 1
    DECIDED = 2

    @property
    def grade(self) -> Grade:
        """The grade's name."""
        return _GRADES[self]


class Worth(IntEnum):
    """What the numbers in names are good for."""

    NOTHING = 0
    PROPOSAL = 1
    EVIDENCE = 2


_GRADES: tuple[Grade, ...] = ("ambiguous", "ordered", "decided")
