"""What an alignment says: which tensor of the file is which tensor of the model, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from ckptaudit.records import dataclass, field, replace

if TYPE_CHECKING:
    from ckptaudit.align.ops import Op
    from ckptaudit.graph import LayerGraph

Grade = Literal["decided", "ordered", "ambiguous"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One tensor of the model and where its values come from.

    Attributes
    ----------
    target:
        The model's tensor.
    sources:
        The file's tensors; several only where they are concatenated.
    ops:
        What is done to them, in order; empty for a plain rename.
    grade:
        ``decided`` (nothing else is possible), ``ordered`` (names and order agree among equals), ``ambiguous``.
    confidence:
        From 0 to 1.
    evidence:
        Why, in plain words.
    runner_up:
        The next best sources, where there are any.
    """

    target: str
    sources: tuple[str, ...]
    ops: tuple[Op, ...]
    grade: Grade
    confidence: float
    evidence: tuple[str, ...]
    runner_up: tuple[str, ...] | None = None

    @property
    def sure(self) -> bool:
        """Whether the pair may be applied without asking."""
        return self.grade != "ambiguous"


@dataclass(frozen=True, slots=True)
class Scope:
    """A part of the file that is a part of the model under another prefix.

    ``Scope("", "backbone")``: the file's top level is the model's ``backbone``. ``rivals`` are other prefixes, of
    the file or of the model, that would have fitted equally well.
    """

    source: str
    target: str
    tensors: int
    rivals: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Alignment:
    """The outcome of laying a file's graph beside a model's.

    Attributes
    ----------
    pairs:
        By target name, in the model's order; shapes fit.
    unmatched_source:
        Tensors of the file that nothing uses (mismatched ones are not among them), in the file's order.
    unmatched_target:
        Tensors of the model that nothing sets (mismatched ones are not among them), in the model's order.
    mismatched:
        Target name → source name of tensors that correspond by name but differ in shape.
    wrappers:
        Wrapper segments that had to be removed, each with the names of the file that held it.
    scopes:
        Prefixes that had to be exchanged.
    structural:
        Targets whose pair names alone would not have given.
    """

    pairs: Mapping[str, Pair]
    unmatched_source: tuple[str, ...]
    unmatched_target: tuple[str, ...]
    mismatched: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    wrappers: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    scopes: tuple[Scope, ...] = ()
    structural: tuple[str, ...] = ()

    @cached_property
    def as_it_is(self) -> bool:
        """Whether each tensor of either side is the one of the same name on the other: decided, unchanged, and none is left over."""
        left = self.unmatched_source or self.unmatched_target or self.mismatched or self.wrappers or self.scopes or self.structural
        alike = (pair.grade == "decided" and not pair.ops and pair.sources == (name,) for name, pair in self.pairs.items())
        return bool(self.pairs) and not left and all(alike)

    def doubting(self, doubted: Mapping[str, Pair]) -> Alignment:
        """The same with these pairs, by target, in place of the same pairs that were sure."""
        if not doubted:
            return self
        return replace(self, pairs=MappingProxyType({name: doubted.get(name, pair) for name, pair in self.pairs.items()}))

    def with_pairs(self, pairs: Mapping[str, Pair], source: LayerGraph, target: LayerGraph) -> Alignment:
        """The same with other pairs, by target in any order: what is left on either side follows from them.

        A tensor that corresponded by name alone no longer does once it, or its counterpart, is in a pair.
        """
        used = {name for pair in pairs.values() for name in pair.sources}
        mismatched = {new: old for new, old in self.mismatched.items() if new not in pairs and old not in used}
        used.update(mismatched.values())
        return replace(
            self,
            pairs=MappingProxyType({name: pairs[name] for name in target.tensors if name in pairs}),
            unmatched_source=tuple(name for name in source.tensors if name not in used),
            unmatched_target=tuple(name for name in target.tensors if name not in pairs and name not in mismatched),
            mismatched=MappingProxyType(mismatched),
            structural=tuple(name for name in self.structural if name in pairs),
        )
