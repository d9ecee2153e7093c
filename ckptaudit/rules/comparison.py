"""Everything that a rule may look at: both sides, their alignment, and the few values that were asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from ckptaudit import graph as graphs
from ckptaudit.align import Alignment, Scope
from ckptaudit.arch.model import Model
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.layers import module_paths
from ckptaudit.graph.names import is_under, leaf
from ckptaudit.read import Checkpoint
from ckptaudit.read.recorded import BatchNormStatistics
from ckptaudit.records import dataclass, field
from ckptaudit.rules.allowance import means
from ckptaudit.rules.finding import Finding
from ckptaudit.rules.values import Values, look_at_values, read_batch_norm

if TYPE_CHECKING:
    from ckptaudit.align.by_topology import Topology
    from ckptaudit.align.keras_loading import KerasLoad
    from ckptaudit.align.refolding import LayerValues
    from ckptaudit.graph import Facts, Head
    from ckptaudit.identification import Candidate

Intent = Literal["eval", "finetune", "resume"]

#: Shares of the smaller side: fewer counterparts, and fewer of them with equal shapes, are a coincidence.
_COINCIDENCE = (0.3, 0.1)


def _places(graph: LayerGraph) -> Mapping[str, tuple[str, int]]:
    """Of each tensor its layer's path, and its number there."""
    return {spec.name: (layer.path, number) for layer in graph.layers for number, spec in enumerate(layer.tensors.values())}


def _by_nodes(graph: LayerGraph) -> LayerGraph:
    """The graph; of an export under the names that its nodes tell."""
    if not graph.is_export:
        return graph
    from ckptaudit.align.by_topology.naming import named_by_nodes

    return named_by_nodes(graph)


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
    allow_missing:
        Modules, tensors, or shell patterns of either, of the model that the caller does not ask from the file.
    topology:
        Which layer is which by what both compute, for a file that tells (ONNX); the alignment is then its.
    twin:
        How the values of each layer compare with those of the checkpoint that an export comes from; None where none was given.
    """

    checkpoint: Checkpoint
    model: Model
    alignment: Alignment
    intent: Intent = "eval"
    deep: bool = False
    findings: list[Finding] = field(default_factory=list)
    allow_missing: tuple[str, ...] = ()
    topology: Topology | None = None
    twin: tuple[LayerValues, ...] | None = None

    # What does not fit --------------------------------------------------------------------------------------------

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """Tensors of the model that the file lacks, derived buffers left out."""
        return tuple(n for n in self.alignment.unmatched_target if leaf(n) not in DERIVED_BUFFERS)

    @cached_property
    def unexpected(self) -> tuple[str, ...]:
        """Tensors of the file that the model lacks, derived buffers left out."""
        tensors = self.checkpoint.graph.tensors
        settings = {n for n in self.alignment.unmatched_source if tensors[n].buffer} if self.checkpoint.framework == "onnx" else set()
        return tuple(n for n in self.alignment.unmatched_source if leaf(n) not in DERIVED_BUFFERS and n not in settings)

    @property
    def mismatched(self) -> Mapping[str, str]:
        """Model name → file name of tensors that differ in shape."""
        return self.alignment.mismatched

    def shapes(self, target: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes in the file and in the model of a mismatched tensor, by its name in the model."""
        return self.checkpoint.graph.tensors[self.mismatched[target]].shape, self.model.graph.tensors[target].shape

    @cached_property
    def waived(self) -> frozenset[str]:
        """Tensors of the model that the file does not set and that the caller does not ask for."""
        unset = (*self.alignment.unmatched_target, *self.mismatched)
        return frozenset(name for name in unset if any(means(word, name) for word in self.allow_missing))

    def waives(self, finding: Finding) -> bool:
        """Whether all that a finding says is unset is what the caller does not ask for."""
        unset = {*self.alignment.unmatched_target, *self.mismatched}.intersection(finding.model)
        return bool(unset) and unset <= self.waived

    @cached_property
    def used(self) -> frozenset[str]:
        """Tensors of the file that the model would be given."""
        return frozenset(source for pair in self.alignment.pairs.values() for source in pair.sources)

    @cached_property
    def keras_load(self) -> KerasLoad | None:
        """What Keras itself would set, by places and not by names; None where a side is not Keras', or does not tell its places."""
        if not self.checkpoint.framework == self.model.graph.framework == "keras":
            return None
        from ckptaudit.align.keras_loading import load_as_keras

        return load_as_keras(self.checkpoint.graph, self.model.graph)

    @cached_property
    def numbered_otherwise(self) -> tuple[str, ...]:
        """Tensors of the model that are in the file under a name that differs in numbers alone which Keras gave (``conv2d_75``)."""
        file, model = self.checkpoint.graph, self.model.graph
        if not file.framework == model.framework == "keras":
            return ()
        from ckptaudit.align.keras_loading import automatic_names, without_numbers

        here, there = automatic_names(file), automatic_names(model)
        pairs = ((name, self.alignment.pairs[name]) for name in self.alignment.structural)
        return tuple(
            name
            for name, pair in pairs
            if pair.sure and not pair.ops and without_numbers(pair.sources[0], here) == without_numbers(name, there)
        )

    @cached_property
    def renamed_modules(self) -> tuple[Scope, ...]:
        """Modules of the file that are modules of the model under other names, while tensors of other modules correspond too.

        Without such others, the file is a part of the model or the model a part of the file.
        """
        others = [name for name in self.alignment.pairs if leaf(name) not in DERIVED_BUFFERS]
        return tuple(
            scope
            for scope in self.alignment.scopes
            if scope.source and scope.target and not all(is_under(name, scope.target) for name in others)
        )

    @cached_property
    def restored_by_position(self) -> bool:
        """Whether Keras restores the file as it is, whatever its tensors are called.

        Both sides are Keras', every tensor has a counterpart of its shape, and counterparts stand where Keras looks for them. Where that
        is not known: at the same place of the whole, or of layers with the same name.
        """
        file, model, pairs = self.checkpoint.graph, self.model.graph, self.alignment.pairs
        if (found := self.keras_load) is not None:
            return not found.refused and {name: pair.sources for name, pair in pairs.items() if not pair.ops} == {
                name: (old,) for name, old in found.sets.items()
            }
        if not file.framework == model.framework == "keras" or len(file) != len(model):
            return False
        if not all(name in pairs and pairs[name].sure and not pairs[name].ops for name in model.tensors):
            return False
        here, there = _places(file), _places(model)
        sources = {name: pairs[name].sources[0] for name in model.tensors}
        return list(sources.values()) == list(file.tensors) or all(there[new] == here[old] for new, old in sources.items())

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
    def common_backbone(self) -> str | None:
        """Name of the backbone that both sides have; None where they have not the same, or it has no name."""
        return backbone if (backbone := self.file_facts.backbone) == self.model_facts.backbone else None

    @property
    def other_backbone(self) -> bool:
        """Whether both backbones have a name and not the same."""
        return None not in (held := self.file_facts.backbone, wanted := self.model_facts.backbone) and held != wanted

    @property
    def excused(self) -> frozenset[str]:
        """Tensors of the model whose gap is allowed: with a reason, or by the caller."""
        return self.waived.union(name for finding in self.findings if finding.allowed for name in finding.model)

    def unexplained(self, names: Iterable[str], side: Literal["checkpoint", "model"]) -> tuple[str, ...]:
        """Those of ``names`` that no finding so far is about."""
        explained = {name for finding in self.findings for name in getattr(finding, side)}
        return tuple(name for name in names if name not in explained)

    # Facts --------------------------------------------------------------------------------------------------------

    @cached_property
    def file_facts(self) -> Facts:
        """Facts of the file."""
        of_file = self._file_by_nodes
        return graphs.facts_of(of_file, self.file_head if of_file is self.checkpoint.graph else None)

    @cached_property
    def model_facts(self) -> Facts:
        """Facts of the model."""
        of_model = _by_nodes(self.model.graph)
        return graphs.facts_of(of_model, self.model_head if of_model is self.model.graph else None)

    @cached_property
    def _file_by_nodes(self) -> LayerGraph:
        """The file's graph; of an export under the names that its nodes tell."""
        return _by_nodes(self.checkpoint.graph)

    @cached_property
    def identity(self) -> Candidate | None:
        """The published architecture that the file is sure to hold, where that is not the model."""
        from ckptaudit.identification import identify  # most audits never need it

        if self.model.source == "checkpoint":  # then the file is not to be another architecture but like another file
            return None
        found = identify(self._file_by_nodes).best
        own = {self.model.arch.partition("?")[0], f"{self.model.source}:{self.model.arch.partition('?')[0]}"}
        return None if found is None or own & {found.arch, *found.equivalents} else found

    @cached_property
    def _auxiliary_only_in_one(self) -> tuple[str, ...]:
        return graphs.auxiliary_scopes((*self.missing, *self.unexpected))

    @cached_property
    def file_head(self) -> Head | None:
        """The layer of the file that gives classes."""
        return graphs.main_head(self.checkpoint.graph)

    @cached_property
    def model_head(self) -> Head | None:
        """The layer of the model that gives classes."""
        return graphs.main_head(self.model.graph)

    @cached_property
    def head_under_another_name(self) -> Head | None:
        """The file's head, where it and the model's are all that has no counterpart, and they differ in their outputs alone."""
        old, new, file, model = self.file_head, self.model_head, self.checkpoint.graph, self.model.graph
        if old is None or new is None or self.mismatched or file.framework != model.framework:
            return None
        here, there = file.by_path[old.path], model.by_path[new.path]
        if {spec.name for spec in here.tensors.values()} != {*self.unexpected} or here.tensors.keys() != there.tensors.keys():
            return None
        if {spec.name for spec in there.tensors.values()} != {*self.missing} or old.outputs == new.outputs:
            return None
        a, b = list(here.tensors["weight"].shape), list(there.tensors["weight"].shape)
        del a[graphs.output_axis(here, file.framework)], b[graphs.output_axis(there, model.framework)]
        return old if a == b else None

    def in_model_head(self, name: str) -> bool:
        """Whether a tensor of the model gives classes: it may start fresh when fine-tuning."""
        return graphs.in_head(name, self.model_head)

    @cached_property
    def head_scope(self) -> str:
        """Path of the largest module of the model that holds the main head and not the stem; ``""`` when none is known."""
        return graphs.head_scope(self.model.graph, self.model_head, graphs.stem_layer(self.model.graph)) if self.model_head else ""

    # Values -------------------------------------------------------------------------------------------------------

    @cached_property
    def batch_norm(self) -> tuple[BatchNormStatistics, ...]:
        """Statistics of every BatchNorm layer of the file that the model would use and whose values can be read.

        Reads ``running_mean`` and ``running_var`` of these layers, one at a time, and nothing else.
        """
        if (recorded := self.checkpoint.recorded) is not None:
            return tuple(layer for layer in recorded.batch_norm if self.used.intersection(layer.names))
        return tuple(read_batch_norm(self.checkpoint, self.used))

    @cached_property
    def non_finite(self) -> Mapping[str, float]:
        """Name → share of NaN or infinite values, of the float tensors that hold any.

        Without ``deep`` at most one page of each tensor is looked at, so that the cost does not grow with the file.
        """
        recorded = self.checkpoint.recorded
        return self.values.non_finite if recorded is None else recorded.non_finite

    @cached_property
    def values(self) -> Values:
        """What a look at the float tensors of the file shows; nothing where only notes of them are at hand."""
        return look_at_values(self.checkpoint, deep=self.deep) if self.checkpoint.recorded is None else Values({}, {}, 0)

    # Fine-grained helpers that several rules share ------------------------------------------------------------------

    @cached_property
    def paired_modules(self) -> frozenset[str]:
        """Paths of the modules, of both sides, below which at least one tensor fits; ``""`` is the whole."""
        names = {*self.alignment.pairs, *self.used}
        return frozenset({"", *module_paths(list(names))})

    def is_auxiliary(self, name: str) -> bool:
        """Whether ``name`` lies in an auxiliary head that only one side has."""
        return graphs.is_auxiliary(name) and any(is_under(name, scope) for scope in self._auxiliary_only_in_one)
