"""Layers are set otherwise than in the model that the checkpoint belongs to: shapes fit, outputs do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ckptaudit.align.modules import module_in_file
from ckptaudit.graph import Module, Origin
from ckptaudit.graph.names import is_under, parent
from ckptaudit.graph.settings import computing_modules, settings_differ
from ckptaudit.records import dataclass, replace
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

if TYPE_CHECKING:
    from ckptaudit.align.by_topology import Topology

RULE = Rule("attribute-drift", "Layers are set otherwise than in training", "error", "symptom")

#: Settings that change what a layer computes from its weights.
_COMPUTES = frozenset(
    {
        *("eps", "epsilon", "stride", "strides", "padding", "output_padding", "padding_mode", "dilation", "dilation_rate", "groups"),
        *("kernel_size", "pool_size", "ceil_mode", "count_include_pad", "divisor_override", "output_size", "scale_factor", "size"),
        *("mode", "align_corners", "upscale_factor", "downscale_factor", "negative_slope", "alpha", "beta", "threshold", "value"),
        *("min_val", "max_val", "approximate", "dim", "axis", "start_dim", "end_dim", "num_heads", "norm_first", "batch_first"),
        *("padding_idx", "max_norm", "norm_type", "activation", "data_format", "track_running_stats", "lambd", "num_groups"),
    }
)
#: Settings, and layers, that only training meets.
_TRAINING = frozenset({"momentum", "p", "rate", "drop_prob", "dropout", "drop_path", "scale_by_keep", "sparse"})
_TRAINING_LAYERS = ("Dropout", "AlphaDropout", "DropPath", "StochasticDepth", "Identity")


@dataclass(frozen=True, slots=True)
class _Drift:
    """One module's one difference. ``setting`` is ``""`` for its type."""

    path: str
    type_name: str
    setting: str
    old: Any
    new: Any
    origin: Origin | None


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per change of a setting, for all layers that it was made in."""
    if comparison.topology is not None:
        yield from _as_computed(comparison.topology, comparison)
    then = comparison.checkpoint.recorded.modules if comparison.checkpoint.recorded else computing_modules(comparison.checkpoint.graph)
    if comparison.checkpoint.framework != comparison.model.graph.framework:
        return  # other words for the same settings
    if not then or any(f.rule in ("architecture-variant", "nothing-matched") for f in comparison.findings):
        return
    groups: dict[tuple[str, str, str], list[_Drift]] = {}
    for drift in _drifts(comparison, then):
        groups.setdefault((drift.setting, repr(drift.old), repr(drift.new)), []).append(drift)
    for drifts in groups.values():
        yield _finding(comparison, drifts)


def _as_computed(topology: Topology, comparison: Comparison) -> Iterator[Finding]:
    """Layers of an export that are computed with another stride, dilation or number of groups."""
    groups: dict[tuple[str, str, str], list[_Drift]] = {}
    for pair, setting, old, new in topology.drifted:
        path = pair.target.operation.path
        module = comparison.model.graph.modules.get(path)
        drift = _Drift(path, module.type_name if module else "", setting, old, new, module.origin if module else None)
        groups.setdefault((setting, repr(old), repr(new)), []).append(drift)
    for drifts in groups.values():
        yield _finding(comparison, drifts)


def _drifts(comparison: Comparison, then: Mapping[str, Module]) -> Iterator[_Drift]:
    in_file = module_in_file(comparison.alignment.pairs)
    about = [name for finding in comparison.findings if finding.status != "compatible" for name in finding.model]
    graph = comparison.model.graph
    containers = {parent(path) for path in graph.modules if path}
    for path, now in computing_modules(graph).items():
        there = in_file(path)
        old = then.get(there) if there is not None else None
        if old is None:
            continue
        own = graph.by_path.get(path)
        if own is not None and not all(spec.name in comparison.alignment.pairs for spec in own.tensors.values()):
            continue  # the layer itself does not fit: that is said elsewhere
        if old.type_name != now.type_name:
            if path not in containers:
                yield _Drift(path, now.type_name, "", old.type_name, now.type_name, now.origin)
            continue
        for setting, (was, is_now) in settings_differ(old.attributes, now.attributes).items():
            # What a module of the project notes of itself follows from causes that are found in its tensors.
            if setting in _COMPUTES or setting in _TRAINING or not any(is_under(name, path) for name in about):
                yield _Drift(path, now.type_name, setting, was, is_now, now.origin)


def _finding(comparison: Comparison, drifts: list[_Drift]) -> Finding:
    first = drifts[0]
    graph = comparison.model.graph
    names = [spec.name for drift in drifts if drift.path in graph.by_path for spec in graph.by_path[drift.path].tensors.values()]
    sources = [source for name in names if name in comparison.alignment.pairs for source in comparison.alignment.pairs[name].sources]
    many = len(drifts) > 1
    where = f"{plural(len(drifts), 'layer')}, first `{first.path}`," if many else f"`{first.path}`"
    now = (
        f"{'have' if many else 'has'} {first.setting} {_shown(first.new)}"
        if first.setting
        else f"{'are' if many else 'is'} {_a(first.new)}"
    )
    old = _shown(first.old) if first.setting else _a(first.old)
    training = first.setting in _TRAINING or (not first.setting and {str(first.old), str(first.new)} <= _only_training(first))
    certain = first.setting in _COMPUTES or (not first.setting and not names)
    computes = certain and not training and comparison.intent == "eval"
    finding = RULE.finding(
        f"{where} {now}; in the model that the file belongs to it is {old}."
        + (" It matters in training only." if training else " Every shape fits, and the outputs differ." if certain else ""),
        checkpoint=sources,
        model=names,
        severity="note" if training else "error" if computes else "warning",
        confidence=0.95 if certain or training else 0.5,
        fix="" if training else f"set {first.setting or 'it'} back to {_shown(first.old)}, or release weights that were trained so",
        status="partial" if computes else "compatible",
        phrase=f"{first.setting or 'type'} of `{first.path}` changed" if computes else "",
    )
    return replace(finding, origin=first.origin)


def _only_training(drift: _Drift) -> set[str]:
    return {name for name in (str(drift.old), str(drift.new)) if name.rstrip("123d") in _TRAINING_LAYERS}


def _shown(value: Any) -> str:
    return repr(list(value)) if isinstance(value, tuple) else repr(value) if isinstance(value, str) else str(value)


def _a(name: Any) -> str:
    return f"{'an' if str(name)[:1] in 'AEIO' else 'a'} {name}"
