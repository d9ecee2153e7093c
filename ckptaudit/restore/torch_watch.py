"""Audit every ``load_state_dict`` on a torch model, through torch's own load hooks."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Collection, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

from ckptaudit.align import Alignment
from ckptaudit.arch.live import model_of_object
from ckptaudit.arch.torch_arrays import is_tensor, tensor_dtype
from ckptaudit.errors import IncompatibleCheckpoint, UsageError
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import leaf
from ckptaudit.pipeline import Audit, compare
from ckptaudit.records import dataclass, replace
from ckptaudit.restore.changes import Snapshot
from ckptaudit.restore.demand import Demand, beyond_dtype, few_names, never_set, refusal
from ckptaudit.restore.dry_run import PlainLoad, Watcher, plain_load
from ckptaudit.restore.held import checkpoint_of_state
from ckptaudit.restore.lazy_parameters import as_if_loaded
from ckptaudit.restore.overlaps import covers
from ckptaudit.restore.torch_values import is_plain, lost_values
from ckptaudit.rules.allowance import means, refuse_what_means_nothing
from ckptaudit.text import plural

if TYPE_CHECKING:
    import torch

    from ckptaudit.plan import Step


@dataclass(eq=False)
class _Hook(Watcher):
    """torch calls it once per module and load, before that module's own tensors are written."""

    watch: _Loads

    def __call__(
        self, module: torch.nn.Module, state: Any, prefix: str, metadata: Any, strict: bool, missing: Any, unexpected: Any, errors: Any
    ) -> None:
        if self.watch.is_new(errors, prefix):
            self.watch.audit(module, state, prefix, metadata)


class _Loads:
    """Loads of hooked modules, and what each of them sets."""

    def __init__(self, demand: Demand) -> None:
        self.demand = replace(demand, intent="eval") if demand.intent == "resume" else demand
        self.audits: list[Audit] = []
        self._handles: list[Any] = []
        self._seen: dict[int, tuple[Any, list[str]]] = {}

    def watch(self, module: torch.nn.Module) -> None:
        """Hook a module. Before its other hooks, which may rename: the dry run repeats them on a copy."""
        handle = module._register_load_state_dict_pre_hook(_Hook(self), with_module=True)
        module._load_state_dict_pre_hooks.move_to_end(handle.id, last=False)
        self._handles.append(handle)

    def end(self) -> None:
        """Take all hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def is_new(self, errors: Any, prefix: str) -> bool:
        """Whether this is where a load enters the watched modules: one load goes through all modules with one list of errors."""
        _, entered = self._seen.setdefault(id(errors), (errors, []))
        if any(prefix.startswith(outer) for outer in entered):
            return False
        entered.append(prefix)
        return True

    def audit(self, module: torch.nn.Module, state: Mapping[str, Any], prefix: str, metadata: Mapping[str, Any]) -> None:
        """Audit what a load would set, and raise before it sets anything."""
        with as_if_loaded(module, state, prefix) as shaped:
            found = self._audited(module, state, prefix, metadata, shaped)
        self.audits.append(found)
        self.restored(module, found)

    def _audited(
        self, module: torch.nn.Module, state: Mapping[str, Any], prefix: str, metadata: Mapping[str, Any], shaped: Collection[str]
    ) -> Audit:
        """The audit of a load that meets the demand. ``shaped`` are parameters that it gives their memory."""
        known = getattr(state, "_metadata", None) or {prefix[:-1]: metadata}
        load = plain_load(module, state, prefix, known, assign=bool(metadata.get("assign_to_params_buffers")))
        found = audit_as_is(module, load, prefix, self.demand_of(module))
        if prefix and not load.state and not found.verdict.fit:
            raise _under_other_names(found, prefix)
        self.demand.check(found)
        if load.refused and _in_load_state_dict():
            raise _refused_by_torch(found, load.refused)
        if on_meta := [name for name, tensor in load.in_place.items() if tensor.is_meta and name not in shaped]:
            raise _without_memory(found, on_meta)
        for name, tensor in load.in_place.items():
            if lost := _lost(load.state.get(name), tensor):
                raise beyond_dtype(found, name, lost, tensor_dtype(tensor))
        return found

    def demand_of(self, module: torch.nn.Module) -> Demand:
        """The demand on a load of this module, in its own names."""
        return self.demand

    def restored(self, module: torch.nn.Module, audit: Audit) -> None:
        """A load that meets the demand is about to happen."""


class TorchWatch(_Loads):
    """One live model and its parts."""

    def __init__(self, model: torch.nn.Module, demand: Demand) -> None:
        super().__init__(demand)
        self.model = model
        self.snapshot: Snapshot | None = None
        self._paths: dict[int, list[str]] = {}
        self._set: set[str] = set()
        self._whole = False

    def begin(self) -> None:
        """Hook every module, and remember what the model holds."""
        self.snapshot = Snapshot.of(self.model)
        for path, module in self.model.named_modules(remove_duplicate=False):
            if id(module) not in self._paths:
                self.watch(module)
            self._paths.setdefault(id(module), []).append(path)

    def demand_of(self, module: torch.nn.Module) -> Demand:
        """The demand; what the whole model may lack, a part may lack under the names that it has there."""
        words, paths = self.demand.allow_missing, self._paths.get(id(module), [])
        if not words or "" in paths:
            return self.demand
        allowed = [name for name in module.state_dict() if any(means(word, f"{path}.{name}") for path in paths for word in words)]
        return replace(self.demand, allow_missing=tuple(allowed))

    def restored(self, module: torch.nn.Module, audit: Audit) -> None:
        """Note what a load sets, by the names of the whole model."""
        self._whole |= module is self.model
        for path in self._paths.get(id(module), []):
            self._set.update(f"{path}.{step.target}" if path else step.target for step in audit.plan.steps)

    def look_back(self) -> None:
        """Hold what was set, by whatever means, against the demand; a load of the whole model has been judged already."""
        if self.snapshot is None:
            return
        state = self.model.state_dict()
        # Not before: the block may give the model what its loads then lack, or take from it what they need not have.
        refuse_what_means_nothing(self.demand.allow_missing, {**self.snapshot.values, **state})
        if self._whole:
            return
        done = self.snapshot.changed(state, self._set)
        held = checkpoint_of_state({name: value for name, value in state.items() if name in done}, "what was restored inside the guard")
        found = compare(held, model_of_object(self.model, {}), intent=self.demand.intent, allow_missing=self.demand.allow_missing)
        if not found.verdict.fit:
            unset = [name for name in state if name not in done]
            raise never_set(found, unset, state)
        self.demand.check(found)


class WatchOfClass(_Loads):
    """All objects of a class that this thread builds inside the block."""

    def __init__(self, kind: type[torch.nn.Module], demand: Demand) -> None:
        super().__init__(demand)
        self.kind = kind
        self._thread = threading.get_ident()
        self._built: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
        self._latest: weakref.ref[torch.nn.Module] | None = None

    def begin(self) -> None:
        """Learn of each object when it gets its first parameter or module, through torch's registration hooks."""
        from torch.nn.modules import module as torch_module

        self._handles.append(torch_module.register_module_module_registration_hook(self._registered))
        self._handles.append(torch_module.register_module_parameter_registration_hook(self._registered))

    def look_back(self) -> None:
        """A guard that saw no load has guarded nothing."""
        if self.audits:
            refuse_what_means_nothing(self.demand.allow_missing, {name for audit in self.audits for name in audit.model.graph.tensors})
            return
        built = None if self._latest is None else self._latest()
        name = self.kind.__name__
        if built is None:
            raise UsageError(f"no {name} that was built inside the guard is left: it watched over nothing")
        nothing = compare(checkpoint_of_state({}, "what was restored inside the guard"), model_of_object(built, {}))
        raise refusal(
            nothing,
            f"No load_state_dict reached the {name} that was built inside the guard. After a loader that writes tensors itself "
            "(from_pretrained), ckptaudit.verify(model, file) compares the values.",
            findings=False,
        )

    def _registered(self, module: torch.nn.Module, name: str, registered: object) -> None:
        if isinstance(module, self.kind) and threading.get_ident() == self._thread and module not in self._built:
            self._built.add(module)
            self._latest = weakref.ref(module)
            self.watch(module)


def audit_as_is(module: torch.nn.Module, load: PlainLoad, prefix: str, demand: Demand) -> Audit:
    """Audit a load for what it sets under exactly the state dict's own names; the plan is what it could set under others.

    Parameters
    ----------
    load:
        As :func:`plain_load` gives it.
    prefix:
        Where the module stands in the one that was asked to load; for messages.
    """
    model = model_of_object(module, {})
    checkpoint = checkpoint_of_state(load.state, f"state dict, {prefix[:-1]}" if prefix else "state dict")
    found = compare(checkpoint, model, intent=demand.intent, allow_missing=demand.allow_missing)
    renamed = [
        step for step in found.plan.steps if (step.sources != (step.target,) or step.ops) and leaf(step.target) not in DERIVED_BUFFERS
    ]
    tied = _tied(module, load, renamed)
    if len(tied) == len(renamed):
        return found
    plain = _named_alike(checkpoint.graph.tensors, model.graph.tensors, tied)
    loaded = compare(checkpoint, model, intent=demand.intent, allow_missing=demand.allow_missing, alignment=plain)
    if loaded.verdict.fit:
        return loaded
    diagnosis = found.verdict.summary.rpartition(":")[0]
    could = "; under other names it would be fit (ckptaudit.load)" if found.verdict.fit else ""
    done, of = loaded.coverage.tensors
    summary = f"Loaded as it is, it sets {done:,} of {of:,} tensors{could}. {diagnosis}."
    return replace(found, coverage=loaded.coverage, verdict=replace(found.verdict, fit=False, summary=summary))


def _under_other_names(found: Audit, prefix: str) -> IncompatibleCheckpoint:
    summary = (
        f"No name of the state dict begins with `{prefix}`, under which the model stands in what is being loaded: nothing would be set. "
        f"Load it into the model itself, or put `{prefix}` before the names."
    )
    return refusal(replace(found, verdict=replace(found.verdict, summary=summary)), findings=False)


def _in_load_state_dict() -> bool:
    """Whether torch itself loads, which raises for shapes when the rest is written; loaders of mmcv's kind leave such tensors out."""
    import torch

    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not torch.nn.Module.load_state_dict.__code__:
        frame = frame.f_back
    return frame is not None


def _refused_by_torch(found: Audit, refused: list[str]) -> IncompatibleCheckpoint:
    names = few_names(refused, found.model.graph.tensors)
    summary = (
        f"load_state_dict refuses {plural(len(refused), 'tensor')} of another shape whatever strict says ({names}), but after "
        "it has written others: leave them out of the state dict, or restore with ckptaudit.load."
    )
    return refusal(replace(found, verdict=replace(found.verdict, fit=False, summary=summary)))


def _without_memory(found: Audit, on_meta: list[str]) -> IncompatibleCheckpoint:
    names = few_names(on_meta, found.model.graph.tensors)
    summary = (
        f"Nothing would be written to {plural(len(on_meta), 'tensor')} of the model on the meta device ({names}), which has no memory: "
        "load with assign=True, restore with ckptaudit.load(model, file, device=…), or build the model for real."
    )
    return refusal(replace(found, verdict=replace(found.verdict, fit=False, summary=summary)), findings=False)


def _lost(value: Any, tensor: torch.Tensor) -> int:
    """How many values the tensor will not hold; of those that a hook computes nothing is known before."""
    return lost_values(value, tensor.dtype) if is_tensor(value) and is_plain(value) and is_plain(tensor) and not value.is_meta else 0


def _tied(module: torch.nn.Module, load: PlainLoad, renamed: list[Step]) -> list[Step]:
    """Steps whose target is set with its source all the same, since in the model both have one memory."""
    if not renamed:
        return []
    state = module.state_dict()

    def with_its_source(step: Step) -> bool:
        target, written = state.get(step.target), [load.in_place.get(name) for name in step.sources]
        return is_tensor(target) and any(tensor is not None and covers(tensor, target) for tensor in written)

    return [step for step in renamed if with_its_source(step)]


def _named_alike(source: Mapping[str, Any], target: Mapping[str, Any], tied: list[Step]) -> Alignment:
    from ckptaudit.align.pairs import Pair

    through = {step.target: Pair(step.target, step.sources, step.ops, "decided", 1.0, ("shares its memory",)) for step in tied}
    same = {name: Pair(name, (name,), (), "decided", 1.0, ("loaded by this name",)) for name in target if name in source}
    equal = {name: pair for name, pair in same.items() if source[name].shape == target[name].shape}
    return Alignment(
        pairs=equal | through,
        unmatched_source=tuple(name for name in source if name not in target),
        unmatched_target=tuple(name for name in target if name not in source and name not in through),
        mismatched={name: name for name in same if name not in equal},
    )
