"""One audit from end to end: read, build, align, judge, plan."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ckptaudit import arch
from ckptaudit._version import __version__
from ckptaudit.align import Alignment, align, align_by_name
from ckptaudit.arch.model import SELF, Model
from ckptaudit.errors import ArchitectureError, CkptAuditError, UsageError
from ckptaudit.graph import LayerGraph, TensorSpec, is_float
from ckptaudit.plan import Plan, Step, make_plan
from ckptaudit.read import Branch, Checkpoint, open_checkpoint
from ckptaudit.records import dataclass, replace
from ckptaudit.rules import Finding, run_rules
from ckptaudit.rules.allowance import Allowance, refuse_what_means_nothing
from ckptaudit.rules.comparison import Comparison, Intent
from ckptaudit.verdict import Coverage, Verdict, judge, measure_coverage

if TYPE_CHECKING:
    from ckptaudit.align.by_topology import Topology
    from ckptaudit.align.refolding import LayerValues
    from ckptaudit.graph.facts import Facts
    from ckptaudit.identification import Candidate, Identification
    from ckptaudit.prove.doubts import Settled

SCHEMA = "ckptaudit.audit/1"
#: Of an export with fewer kernels in common with the model, the model is not built live to follow what it computes.
_IN_COMMON = 0.3
#: No input has more values; a file may say anything.
_MAX_VALUES = 1 << 28
#: How many candidates are named where none is sure.
_NAMED = 3
#: Comes before findings of the same weight: what loading the file would do to whoever loads it.
_DANGER = "refused-global"
INTENTS: tuple[Intent, ...] = get_args(Intent)


@dataclass(frozen=True, eq=False)
class Audit:
    """The outcome of an audit: everything that a report may show.

    ``comparison`` is what it was judged by. ``mismatched`` gives, by the model's name, the file's tensor that corresponds to it and has
    another shape. ``offers`` are steps that were not asked for, since they lose information or invent some. ``settled`` tells what was
    tried to settle what is open.
    """

    checkpoint: Checkpoint
    model: Model
    verdict: Verdict
    coverage: Coverage
    comparison: Comparison
    findings: tuple[Finding, ...]
    plan: Plan
    mismatched: Mapping[str, str]
    offers: tuple[Step, ...] = ()
    settled: tuple[Settled, ...] = ()

    @property
    def facts(self) -> tuple[Facts, Facts]:
        """Facts of the file and of the model, collected when they are first asked for."""
        return self.comparison.file_facts, self.comparison.model_facts

    def __repr__(self) -> str:
        """One line: all that it holds would fill a notebook."""
        return f"<Audit of {self.checkpoint.path} and {self.model.arch}: {self.verdict.status}; {self.verdict.summary}>"

    def to_json(self) -> dict[str, Any]:
        """The audit as JSON values, schema ``ckptaudit.audit/1``."""
        return {
            "schema": SCHEMA,
            "tool": {"name": "ckptaudit", "version": __version__},
            "checkpoint": checkpoint_to_json(self.checkpoint),
            "model": {
                "arch": self.model.arch,
                "source": self.model.source,
                "library_version": self.model.library_version,
                "spec": self.model.provenance,
                "tensors": len(self.model.graph),
                "parameters": self.model.graph.parameters,
            },
            "verdict": self.verdict.to_json(),
            "coverage": self.coverage.to_json(),
            "facts": {"checkpoint": self.facts[0].to_json(), "model": self.facts[1].to_json()},
            "findings": [finding.to_json() for finding in self.findings],
            "plan": self.plan.to_json(),
        }


def audit(
    checkpoint: str | os.PathLike[str] | Checkpoint,
    model: Any = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    intent: Intent = "eval",
    branch: str | None = None,
    deep: bool = False,
    allow_missing: Sequence[str] = (),
    adapt: Sequence[str] = (),
    class_map: object = None,
    source_arch: Any = None,
    settle: bool = False,
    settle_with: str | os.PathLike[str] | None = None,
    input_size: Sequence[int] | None = None,
    twin: str | os.PathLike[str] | Checkpoint | None = None,
) -> Audit:
    """Audit a checkpoint against a model; nothing is executed from the file and nothing is restored.

    Parameters
    ----------
    checkpoint:
        Path of a file, of a shard index or of a folder that holds one; or a checkpoint that was opened already.
    model:
        An architecture (``"deeplabv3_resnet50"``, ``"package.module:factory"``, ``"models.py:factory"``), ``"self"`` for what a Keras file
        describes, a live ``torch.nn.Module`` or ``keras.Model``, a :class:`~ckptaudit.arch.Model`, or the path of another checkpoint or of
        a saved spec. By default the architecture that the file is sure to be.
    arguments:
        Keyword arguments for the architecture's builder.
    intent:
        ``eval``, ``finetune`` or ``resume``.
    branch:
        Which part of the file to audit; by default the one that fits the model best, raw weights before averaged ones.
    deep:
        Scan every value for NaN instead of a sample.
    allow_missing:
        What of the model may keep its initial values: names of modules or tensors, or shell patterns (``"head"``, ``"*.relative_*"``).
    adapt:
        Ways to change tensors of other shapes that are wanted: ``inflate``, ``interpolate``, ``fuse`` (``docs/plan.md``).
    class_map:
        Classes of the file for those of the model: see :func:`ckptaudit.align.adapting.rows_of_classes`.
    source_arch:
        The model that wrote the file, as ``model``: its settings, such as the eps that folding a BatchNorm needs.
    settle:
        Decide what names and shapes leave open by running both models, restored, on one random input (torch alone). Their code is run.
    settle_with:
        A folder of ordinary images: decide what names and shapes leave open by what each BatchNorm remembers (torch alone). The
        model's code is run.
    input_size:
        Sizes of one input without the batch; guessed where they are not given.
    twin:
        Of an ONNX file: the checkpoint that it was exported from. Its BatchNorm is folded once more, and the values are compared.

    Raises
    ------
    CkptAuditError
        The file cannot be read or the model cannot be built; the message is one line.
    UsageError
        No model is given, and it is not sure which one the file holds; or ``allow_missing`` names what the model does not have.
    ValueError
        There is no such intent.
    """
    if intent not in INTENTS:
        raise ValueError(f"intent {intent!r} is none of {', '.join(INTENTS)}")
    opened = checkpoint if isinstance(checkpoint, Checkpoint) else open_checkpoint(checkpoint, branch=branch)
    if model is None:
        built = model_of_identity(opened, arguments or {})
    elif isinstance(model, Model):
        built = model
    elif _is_self(model):
        if arguments:
            raise UsageError("what a file describes takes no arguments")
        built = model_of_own_config(opened)
    else:
        built = load_other(model) if _is_file(model) else arch.build_model(model, arguments)
    refuse_what_means_nothing(allow_missing, built.graph.tensors)
    if branch is None:
        opened = _with_fitting_branch(opened, built)
    wrote = None if source_arch is None else model_of_own_config(opened) if _is_self(source_arch) else arch.build_model(source_arch)
    other = twin if twin is None or isinstance(twin, Checkpoint) else open_checkpoint(twin)
    if other is not None and opened.graph.computation is None:
        raise UsageError(f"values are compared layer by layer for ONNX files; {opened.path.name} is none")
    alignment = None
    if settle and wrote is not None:
        from ckptaudit.prove.settling import settle as settle_by_running  # only who asks for it pays for running models

        alignment = settle_by_running(align(opened.graph, built.graph), opened, built, wrote, input_size)
    settled: tuple[Settled, ...] = ()
    if settle_with is not None and built.graph.framework == "torch" and opened.graph.computation is None:
        from ckptaudit.prove.settling_by_statistics import settle_by_statistics

        found = alignment if alignment is not None else align(opened.graph, built.graph)
        alignment, settled = settle_by_statistics(found, opened, built, Path(settle_with), input_size)
    outcome = compare(
        opened,
        built,
        intent=intent,
        deep=deep,
        allow_missing=allow_missing,
        alignment=alignment,
        adapt=adapt,
        class_map=class_map,
        source_model=wrote,
        twin=other,
    )
    return replace(outcome, settled=settled)


def compare(
    checkpoint: Checkpoint,
    model: Model,
    *,
    intent: Intent = "eval",
    deep: bool = False,
    allow: Sequence[Allowance] = (),
    allow_missing: Sequence[str] = (),
    alignment: Alignment | None = None,
    adapt: Sequence[str] = (),
    class_map: object = None,
    source_model: Model | None = None,
    twin: Checkpoint | None = None,
) -> Audit:
    """Audit one branch of an open checkpoint against a built model: the pipeline itself. An alignment is found unless one is given."""
    topology: Topology | None = None
    values: tuple[LayerValues, ...] | None = None
    if alignment is None:
        model, topology = _with_topology(checkpoint, model)
        if topology is not None and twin is not None:
            topology, values = _with_values_of(twin, topology, checkpoint, model)
        alignment = topology.alignment if topology is not None else _aligned(checkpoint.graph, model.graph)
    offers: tuple[Step, ...] = ()
    if adapt or class_map is not None or not alignment.as_it_is:
        from ckptaudit.completing import completed

        alignment, model, offers = completed(alignment, checkpoint, model, adapt=adapt, class_map=class_map, source_model=source_model)
    comparison = Comparison(checkpoint, model, alignment, intent, deep, allow_missing=tuple(allow_missing), topology=topology, twin=values)
    findings = run_rules(comparison, allow)
    plan = make_plan(alignment, checkpoint.graph, model.graph)
    coverage = measure_coverage(comparison)
    verdict = judge(comparison, plan, coverage)
    return Audit(checkpoint, model, verdict, coverage, comparison, _by_weight(findings), plan, alignment.mismatched, offers)


def _aligned(source: LayerGraph, target: LayerGraph) -> Alignment:
    if not (source.is_export or target.is_export):
        return align(source, target)
    from ckptaudit.align.by_topology.naming import align_by_node_names

    return align_by_node_names(source, target)


def _with_topology(checkpoint: Checkpoint, model: Model) -> tuple[Model, Topology | None]:
    """Align by what both compute, where the file tells it, as ONNX does: the model is built live and followed.

    None where it cannot be followed, or where it is said in another way and every name has its namesake all the same.
    """
    computation = checkpoint.graph.computation
    if computation is None or model.graph.framework not in ("torch", "keras") or model.checkpoint is not None:
        return model, None
    from ckptaudit.align.by_topology import align_by_topology  # asked of an export alone
    from ckptaudit.arch.computing import with_computation

    if model.module is None and not _kernels_in_common(checkpoint.graph, model.graph):
        return model, None
    if model.is_stored:
        try:
            model = replace(arch.build_model(model.arch, model.arguments, fresh=True), remarks=model.remarks)
        except ArchitectureError as error:
            return replace(model, remarks=(*model.remarks, f"the file's layers were told by names and shapes alone: {error}")), None
    sizes = [tuple(size if isinstance(size, int) else 0 for size in (port.shape or ())[1:]) for port in computation.inputs]
    known = sizes if all(size and min(size) > 0 and prod(size) <= _MAX_VALUES for size in sizes) else ()
    followed = with_computation(model, known) if model.graph.framework == "torch" else model
    topology = align_by_topology(checkpoint.graph, followed.graph)
    if topology is None or (topology.extent == "beginning" and _all_named(checkpoint, model)):
        return followed, None
    return followed, topology


def _kernels_in_common(file: LayerGraph, model: LayerGraph) -> bool:
    """Whether enough of the file's kernels and matrices have the sizes of the model's for it to be worth building that."""
    held, wanted = (
        Counter(tuple(sorted(size for size in spec.shape if size > 1)) for spec in graph if is_float(spec.dtype) and len(spec.shape) > 1)
        for graph in (file, model)
    )
    return (held & wanted).total() >= _IN_COMMON * max(1, min(held.total(), wanted.total()))


def _all_named(checkpoint: Checkpoint, model: Model) -> bool:
    pairs = align_by_name(checkpoint.graph, model.graph).pairs
    return all(spec.name in pairs for spec in model.graph if not spec.buffer)


def _with_values_of(twin: Checkpoint, topology: Topology, checkpoint: Checkpoint, model: Model) -> tuple[Topology, tuple[LayerValues, ...]]:
    """Compare the values of an export with those of the checkpoint that it comes from; they also decide what is open."""
    from ckptaudit.align.refolding import Refolding, reading

    reference = reading(align(twin.graph, model.graph), _values_of(twin))
    dtypes = tuple({spec.dtype for graph in (twin.graph, checkpoint.graph) for spec in graph})
    refolding = Refolding((checkpoint.graph, model.graph), _values_of(checkpoint), reference, dtypes)
    topology = refolding.decided(topology)
    return topology, tuple(refolding.layers(topology))


def _values_of(checkpoint: Checkpoint) -> Callable[[str], Any]:
    def values(name: str) -> Any:
        try:
            return checkpoint.read(name)
        except CkptAuditError:  # an index without its data
            return None

    return values


def identify(checkpoint: str | os.PathLike[str] | Checkpoint, *, branch: str | None = None) -> Identification:
    """Rank the published architectures that a checkpoint may hold, by names and shapes; nothing is built and no value is read.

    Raises
    ------
    CkptAuditError
        The file cannot be read.
    """
    opened = checkpoint if isinstance(checkpoint, Checkpoint) else open_checkpoint(checkpoint, branch=branch)
    from ckptaudit.identification.of_checkpoint import identify_checkpoint  # not needed where the architecture is given

    return identify_checkpoint(opened)


def is_comparable(checkpoint: Checkpoint, candidate: Candidate) -> bool:
    """Whether a diff against a candidate has something to show: it can be built, and some tensor of the file is one of its own."""
    try:
        model = arch.build_model(candidate.arch, candidate.arguments)
    except CkptAuditError:
        return False
    # An export is followed by what it computes, whatever its names.
    return checkpoint.graph.is_export or bool(_aligned(checkpoint.graph, model.graph).pairs)


def model_of_identity(checkpoint: Checkpoint, arguments: Mapping[str, Any], *, fresh: bool = False) -> Model:
    """Build the architecture that a checkpoint is sure to be, with what ``arguments`` say otherwise; a remark says that it was identified.

    Raises
    ------
    UsageError
        Nothing fits, or several architectures fit.
    ArchitectureError
        It cannot be built with these arguments.
    """
    found = identify(checkpoint)
    best = found.best
    if best is None:
        near = ", ".join(f"{candidate.arch} ({candidate.score:.2f})" for candidate in found.candidates[:_NAMED])
        doubt = {"likely": f"it may be {near}", "unknown": f"it is none that is known{f' (the nearest: {near})' if near else ''}"}[
            found.certainty
        ]
        raise UsageError(f"no model is given (--arch or --against at the prompt), and the file does not show for sure what it is: {doubt}")
    model = arch.build_model(best.arch, {**best.arguments, **arguments}, fresh=fresh)
    same = f", or what has the same tensors: {', '.join(best.equivalents[:_NAMED])}" if best.equivalents else ""
    told = f"no architecture was given: {best.told[0].lower()}{best.told[1:]}{same}"
    return replace(model, remarks=(*model.remarks, told))


def model_of_own_config(checkpoint: Checkpoint, *, real: bool = False) -> Model:
    """The model that a full Keras file describes, rebuilt by Keras in safe mode; ``real`` gives its variables values.

    Raises
    ------
    ArchitectureError
        It describes none, the description holds code or names what is not Keras' own, or Keras cannot follow it.
    """
    from ckptaudit.read.keras_config import read_model_config

    config = checkpoint.config.get("model")
    if not isinstance(config, Mapping):
        raise ArchitectureError(f"{SELF}: {checkpoint.path.name} does not describe its model, as full files of Keras do; name the model")
    described = read_model_config(config)
    if described.remarks:
        raise ArchitectureError(f"{SELF}: not rebuilt: {described.remarks[0]}")
    from ckptaudit.arch.keras_config import rebuild

    return rebuild(config, {layer.path: layer.class_name for layer in described.every_layer()}, real=real)


def _is_self(model: Any) -> bool:
    return isinstance(model, str) and model == SELF


def propose(source: Any, target: Any) -> Plan:
    """Propose how the tensors of ``source`` become those of ``target``; nothing is restored and no value is read.

    Parameters
    ----------
    source, target:
        Each a mapping ``{name: (shape, dtype)}`` in definition order, a :class:`~ckptaudit.graph.LayerGraph`, a path, an open
        checkpoint, an architecture name, or a live model.

    Returns
    -------
    Plan
        One step per tensor of the target that has a counterpart; ``ambiguous`` steps are not to be applied unasked.

    Raises
    ------
    CkptAuditError
        A side cannot be read or built, or is a mapping of another kind.
    """
    graphs = _graph_of(source), _graph_of(target)
    alignment = align(*graphs)
    if not alignment.as_it_is:
        from ckptaudit.completing import with_losses_and_absences

        alignment = with_losses_and_absences(alignment, *graphs)
    return make_plan(alignment, *graphs)


def _graph_of(side: Any) -> LayerGraph:
    if isinstance(side, LayerGraph):
        return side
    if isinstance(side, Checkpoint | Model):
        return side.graph
    if isinstance(side, Mapping):
        if not all(isinstance(described, tuple | list) and len(described) == 2 for described in side.values()):
            raise UsageError(
                "a side is {name: (shape, dtype)}; of a state dict: {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}"
            )
        specs = (TensorSpec(name, tuple(shape), str(dtype).removeprefix("torch.")) for name, (shape, dtype) in side.items())
        return LayerGraph.from_tensors(specs, "unknown")
    return (load_other(side) if _is_file(side) else arch.build_model(side)).graph


def _is_file(side: Any) -> bool:
    """Whether a side is a checkpoint's or a spec's path. A bare word is an architecture even where a file is called so."""
    if isinstance(side, os.PathLike):
        return True
    return isinstance(side, str) and os.path.lexists(side) and ("." in side or os.sep in side) and not side.endswith(".py")


def model_of_twin(checkpoint: Checkpoint, path: str | os.PathLike[str], arguments: Mapping[str, Any] | None = None) -> Model | None:
    """The architecture that ``--against``'s file is sure to hold, where an export is to be held against it; None to compare the files.

    A state dict does not tell what is computed with it. Its architecture does, and then layers can be laid beside each other.
    """
    if checkpoint.graph.computation is None:
        return None
    other = load_other(path)
    if other.checkpoint is None or other.graph.framework != "torch" or not _kernels_in_common(checkpoint.graph, other.graph):
        return None
    try:
        model = model_of_identity(other.checkpoint, arguments or {})
    except UsageError:
        return None
    left = align(other.graph, model.graph).unmatched_source
    return None if any(not other.graph.tensors[name].buffer for name in left) else model  # a backbone is a part of the file alone


def load_other(path: str | os.PathLike[str]) -> Model:
    """The model side of ``--against``: a saved spec, told by its schema, or another checkpoint."""
    from ckptaudit.arch.spec import SCHEMA as SPEC_SCHEMA

    file = Path(path)
    if file.is_file():
        with file.open("rb") as opened:
            head = opened.read(200)
        if SPEC_SCHEMA.encode() in head:
            return arch.load_spec(file)
    return arch.model_of_checkpoint(open_checkpoint(file))


def checkpoint_to_json(checkpoint: Checkpoint) -> dict[str, Any]:
    """The checkpoint as JSON values, in the form that ``ckptaudit.audit/1`` fixes."""
    return {
        "path": str(checkpoint.path),
        "format": checkpoint.format,
        "framework": checkpoint.framework,
        "branch": checkpoint.branch.name,
        "tensors": len(checkpoint.graph),
        "parameters": checkpoint.graph.parameters,
        "bytes": checkpoint.nbytes,
        "metadata": dict(checkpoint.metadata),
        "refused_globals": [
            {"name": g.name, "pickle": g.pickle, "position": g.position, "called": g.called} for g in checkpoint.refused_globals
        ],
    }


def _with_fitting_branch(checkpoint: Checkpoint, model: Model) -> Checkpoint:
    """Among several branches with weights, take the one that sets most of the model; the reader's choice wins a tie."""
    rivals = [branch for branch in checkpoint.branches if branch.role in ("model", "other") and branch.tensors]
    if len(rivals) < 2 or checkpoint.branch.role not in ("model", "other"):
        return checkpoint
    fits = {branch.name: _pairs(checkpoint, branch, model) for branch in rivals}
    best = max(fits, key=lambda name: fits[name])
    if fits[best] <= fits.get(checkpoint.branch.name, 0):
        return checkpoint
    return checkpoint.with_branch(
        best, f"it fits the model best: {fits[best]} tensors, against {fits.get(checkpoint.branch.name, 0)} of '{checkpoint.branch.name}'"
    )


def _pairs(checkpoint: Checkpoint, branch: Branch, model: Model) -> int:
    alignment: Alignment = align_by_name(checkpoint.with_branch(branch.name).graph, model.graph)
    return len(alignment.pairs)


def _by_weight(findings: list[Finding]) -> tuple[Finding, ...]:
    from ckptaudit.rules.finding import SEVERITIES, STATUSES

    return tuple(
        sorted(
            findings,
            key=lambda f: (
                -SEVERITIES.index(f.severity),
                -STATUSES.index(f.status),
                f.rule != _DANGER,
                -len(f.model) - len(f.checkpoint),
            ),
        )
    )
