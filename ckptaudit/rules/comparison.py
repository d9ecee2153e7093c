"""Everything that a rule may look at: both sides, their alignment, and the few values that were asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from ckptaudit.align import Alignment
from ckptaudit.arch import Model
from ckptaudit.errors import ValuesUnavailableError
from ckptaudit.graph.facts import Facts, facts_of, stem_layer
from ckptaudit.graph.heads import Head, auxiliary_scopes, head_scope, in_head, is_auxiliary, main_head
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.layers import module_paths
from ckptaudit.graph.names import is_under, leaf
from ckptaudit.graph.tensors import is_float
from ckptaudit.read import Checkpoint
from ckptaudit.rules.finding import Finding

Intent = Literal["eval", "finetune", "resume"]

#: A variance this close to 1 and a mean this close to 0, in every channel, are what BatchNorm starts with.
_INITIAL_TOLERANCE = 1e-6
#: Shares of the smaller side: fewer counterparts, and fewer of them with equal shapes, are a coincidence.
_COINCIDENCE = (0.3, 0.1)
#: Values looked at per tensor when the whole is not asked for: one page of float32.
_SAMPLE = 1024


@dataclass(frozen=True, slots=True)
class BatchNormStatistics:
    """Running statistics of one layer of the file, summed up.

    Attributes
    ----------
    path:
        The layer in the file.
    names:
        Its ``running_mean`` and ``running_var`` tensors.
    finite, negative:
        Whether all values are finite; whether a variance is below 0.
    initial:
        Whether every mean is 0 and every variance 1: no batch was ever seen.
    """

    path: str
    names: tuple[str, ...]
    finite: bool
    negative: bool
    initial: bool


@dataclass(eq=False)
class Comparison:
    """A checkpoint beside a model.

    Attributes
    ----------
    checkpoint, model, alignment:
        Both sides, and which tensor is which.
    intent:
        What the checkpoint is wanted for.
    deep:
        Whether every value is to be scanned, rather than running statistics and a sample of each tensor.
    findings:
        What earlier phases found: a symptom rule reports only what no cause explains.
    """

    checkpoint: Checkpoint
    model: Model
    alignment: Alignment
    intent: Intent = "eval"
    deep: bool = False
    findings: list[Finding] = field(default_factory=list)

    # What does not fit --------------------------------------------------------------------------------------------

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """Tensors of the model that the file lacks, derived buffers left out."""
        return tuple(n for n in self.alignment.unmatched_target if leaf(n) not in DERIVED_BUFFERS)

    @cached_property
    def unexpected(self) -> tuple[str, ...]:
        """Tensors of the file that the model lacks, derived buffers left out."""
        return tuple(n for n in self.alignment.unmatched_source if leaf(n) not in DERIVED_BUFFERS)

    @property
    def mismatched(self) -> Mapping[str, str]:
        """Model name → file name of tensors that differ in shape."""
        return self.alignment.mismatched

    def shapes(self, target: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes in the file and in the model of a mismatched tensor, by its name in the model."""
        return self.checkpoint.graph.tensors[self.mismatched[target]].shape, self.model.graph.tensors[target].shape

    @cached_property
    def used(self) -> frozenset[str]:
        """Tensors of the file that the model would be given."""
        return frozenset(source for pair in self.alignment.pairs.values() for source in pair.sources)

    @property
    def explained(self) -> bool:
        """Whether an earlier finding says why the whole does not fit: a shard, an optimizer's state, another network."""
        return any(finding.status == "incompatible" and (finding.model or finding.checkpoint) for finding in self.findings)

    @property
    def corresponding(self) -> int:
        """How many tensors have a counterpart, of equal shape or not."""
        return len(self.alignment.pairs) + len(self.mismatched)

    @cached_property
    def unrelated(self) -> bool:
        """Whether what corresponds is a coincidence: two networks that have a ``fc.bias`` in common and little else."""
        smaller = min(len(self.checkpoint.graph), len(self.model.graph))
        return self.corresponding <= _COINCIDENCE[0] * smaller and len(self.alignment.pairs) <= _COINCIDENCE[1] * smaller

    @property
    def other_backbone(self) -> bool:
        """Whether both backbones have a name and not the same."""
        return None not in (held := self.file_facts.backbone, wanted := self.model_facts.backbone) and held != wanted

    def unexplained(self, names: Iterable[str], side: Literal["checkpoint", "model"]) -> tuple[str, ...]:
        """Those of ``names`` that no finding so far is about."""
        explained = {name for finding in self.findings for name in getattr(finding, side)}
        return tuple(name for name in names if name not in explained)

    # Facts --------------------------------------------------------------------------------------------------------

    @cached_property
    def file_facts(self) -> Facts:
        """Facts of the file."""
        return facts_of(self.checkpoint.graph)

    @cached_property
    def model_facts(self) -> Facts:
        """Facts of the model."""
        return facts_of(self.model.graph)

    @cached_property
    def _auxiliary_only_in_one(self) -> tuple[str, ...]:
        return auxiliary_scopes((*self.missing, *self.unexpected))

    @cached_property
    def model_head(self) -> Head | None:
        """The layer of the model that gives classes."""
        return main_head(self.model.graph)

    def in_model_head(self, name: str) -> bool:
        """Whether a tensor of the model gives classes: it may start fresh when fine-tuning."""
        return in_head(name, self.model_head)

    @cached_property
    def head_scope(self) -> str:
        """Path of the largest module of the model that holds the main head and not the stem; ``""`` when none is known."""
        return head_scope(self.model.graph, self.model_head, stem_layer(self.model.graph)) if self.model_head else ""

    # Values -------------------------------------------------------------------------------------------------------

    @cached_property
    def batch_norm(self) -> tuple[BatchNormStatistics, ...]:
        """Statistics of every BatchNorm layer of the file that the model would use and whose values can be read.

        Reads ``running_mean`` and ``running_var`` of these layers, one at a time, and nothing else.
        """
        return tuple(self._read_batch_norm())

    def _read_batch_norm(self) -> Iterator[BatchNormStatistics]:
        import numpy

        for layer in self.checkpoint.graph.layers:
            mean, var = layer.tensors.get("running_mean"), layer.tensors.get("running_var")
            if mean is None or var is None or not self.used.intersection((mean.name, var.name)):
                continue
            if not (is_float(mean.dtype) and is_float(var.dtype)) or not mean.numel or not var.numel:
                continue
            try:
                means = self.checkpoint.read(mean.name).astype(numpy.float64)
                variances = self.checkpoint.read(var.name).astype(numpy.float64)
            except ValuesUnavailableError:
                continue
            yield BatchNormStatistics(
                layer.path,
                (mean.name, var.name),
                bool(numpy.isfinite(means).all() and numpy.isfinite(variances).all()),
                bool((variances < 0).any()),
                bool((abs(means) <= _INITIAL_TOLERANCE).all() and (abs(variances - 1) <= _INITIAL_TOLERANCE).all()),
            )

    @cached_property
    def non_finite(self) -> Mapping[str, float]:
        """Name → share of NaN or infinite values, of the float tensors that hold any.

        Without ``deep`` at most one page of each tensor is looked at, so that the cost does not grow with the file.
        """
        import numpy

        found = {}
        for spec in self.checkpoint.graph:
            if not is_float(spec.dtype) or not spec.numel:
                continue
            try:
                values = self.checkpoint.read(spec.name) if self.deep else self.checkpoint.sample(spec.name, _SAMPLE)
            except ValuesUnavailableError:
                continue
            if spec.dtype not in ("float16", "float32", "float64"):
                values = values.astype(numpy.float32)
            bad = values.size - int(numpy.isfinite(values).sum())
            if bad:
                found[spec.name] = bad / values.size
        return found

    # Fine-grained helpers that several rules share ------------------------------------------------------------------

    @cached_property
    def paired_modules(self) -> frozenset[str]:
        """Paths of the modules, of both sides, below which at least one tensor fits; ``""`` is the whole."""
        names = {*self.alignment.pairs, *self.used}
        return frozenset({"", *module_paths(list(names))})

    def is_auxiliary(self, name: str) -> bool:
        """Whether ``name`` lies in an auxiliary head that only one side has."""
        return is_auxiliary(name) and any(is_under(name, scope) for scope in self._auxiliary_only_in_one)
