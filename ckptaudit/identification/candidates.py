"""The answer: architectures that a file may be, the most likely first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ckptaudit.records import dataclass

SCHEMA = "ckptaudit.identify/1"

#: ``sure``: the first candidate and no other. ``likely``: the first candidate fits best, but not wholly, or another fits as well.
#: ``unknown``: nothing fits; candidates are the nearest.
Certainty = Literal["sure", "likely", "unknown"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One state dict that the file may hold.

    Attributes
    ----------
    arch:
        What ``--arch`` takes.
    equivalents:
        Other architectures whose tensors have the same names and shapes; a file cannot tell them apart.
    arguments:
        Arguments for the builder, as far as the file shows them.
    call:
        The Python expression that builds it.
    score:
        How much of the architecture the file has and how much of the file that explains, from 0 to 1.
    evidence:
        What agrees, what does not, and what is left over, one line each.
    prefix:
        Where in the file it lies; ``""`` for the top.
    """

    arch: str
    equivalents: tuple[str, ...]
    arguments: Mapping[str, Any]
    call: str
    score: float
    evidence: tuple[str, ...]
    prefix: str

    @property
    def told(self) -> str:
        """The candidate in a sentence without its stop."""
        return f"By its tensors the file holds {self.arch}{f' under `{self.prefix}`' if self.prefix else ''}"

    def to_json(self) -> dict[str, Any]:
        """The candidate as JSON values."""
        return {
            "arch": self.arch,
            "equivalents": list(self.equivalents),
            "arguments": dict(self.arguments),
            "call": self.call,
            "score": round(self.score, 4),
            "evidence": list(self.evidence),
            "prefix": self.prefix,
        }


@dataclass(frozen=True, slots=True)
class Identification:
    """What a file may be.

    Attributes
    ----------
    certainty:
        See :data:`Certainty`.
    candidates:
        The best first; empty only when the file holds no tensors that say anything.
    """

    certainty: Certainty
    candidates: tuple[Candidate, ...]

    @property
    def best(self) -> Candidate | None:
        """The first candidate where it is sure."""
        return self.candidates[0] if self.certainty == "sure" else None

    def to_json(self) -> dict[str, Any]:
        """The identification as JSON values, schema ``ckptaudit.identify/1``."""
        return {
            "schema": SCHEMA,
            "certainty": self.certainty,
            "candidates": [candidate.to_json() for candidate in self.candidates],
        }
