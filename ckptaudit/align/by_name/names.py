"""Align by names: equal names, names inside wrappers, and parts that lie under another prefix."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ckptaudit.align.by_name.prefixes import exchange, find_scope
from ckptaudit.align.by_name.wrappers import unwrap
from ckptaudit.align.pairs import Alignment, Grade, Pair, Scope
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.names import is_under

#: A file may combine several parts; more exchanges of prefixes than this are noise.
_MAX_SCOPES = 4
#: A part is worth moving when it is at least this share of what is still open on the smaller side.
_MIN_SHARE = 0.3
#: Libraries whose versions differ in how they spell a variable, and that load by layer and position.
_KERAS = frozenset({"keras", "tensorflow"})


def align_by_name(source: LayerGraph, target: LayerGraph) -> Alignment:
    """Pair tensors whose names correspond by whole segments.

    In turn: equal names; in Keras, equal roles in layers of equal names; names equal once wrapper segments are gone from both sides;
    prefixes exchanged (:func:`~ckptaudit.align.by_name.prefixes.find_scope`) as long as that sets more tensors; aliases of tied tensors. A
    name that two tensors of the file would take is left alone.
    """
    return _ByName(source, target).run()


class _ByName:
    def __init__(self, source: LayerGraph, target: LayerGraph) -> None:
        self.source, self.target = source, target
        self.open_source = dict.fromkeys(source.tensors)
        self.open_target = dict.fromkeys(target.tensors)
        self.pairs: dict[str, Pair] = {}
        self.mismatched: dict[str, str] = {}
        self.wrappers: dict[str, list[str]] = {}
        self.scopes: list[Scope] = []

    def run(self) -> Alignment:
        self._pair_equal_names()
        if self.open_source and self.open_target and {self.source.framework, self.target.framework} <= _KERAS:
            self._pair_equal_roles()
        if self.open_source and self.open_target:
            self._pair_below_wrappers()
        for _ in range(_MAX_SCOPES):
            if not self._pair_one_scope():
                break
        self._pair_aliases()
        order = {name: i for i, name in enumerate(self.target.tensors)}
        return Alignment(
            MappingProxyType(dict(sorted(self.pairs.items(), key=lambda item: order[item[0]]))),
            tuple(self.open_source),
            tuple(self.open_target),
            MappingProxyType(dict(sorted(self.mismatched.items(), key=lambda item: order[item[0]]))),
            MappingProxyType({word: tuple(names) for word, names in self.wrappers.items()}),
            tuple(self.scopes),
        )

    def _pair_equal_names(self) -> None:
        for name in list(self.open_target):
            if name in self.open_source:
                self._pair(name, name, "decided", 1.0, ("same name",))

    def _pair_equal_roles(self) -> None:
        """Of one layer's ``kernel``, ``kernel:0`` and ``depthwise_kernel`` each version of Keras writes another."""
        targets = self._by_role(self.target, self.open_target)
        for role, name in self._by_role(self.source, self.open_source).items():
            if (target := targets.get(role)) is not None:
                self._pair(target, name, "decided", 0.99, ("the same role in a layer of the same name",))
        # Variables of a user's own layer have no names in a file of Keras 3, only numbers.
        for path, layer in self.target.by_path.items():
            held = self.source.by_path.get(path)
            if held is not None and [spec.shape for spec in held.tensors.values()] == [spec.shape for spec in layer.tensors.values()]:
                for old, new in zip(held.tensors.values(), layer.tensors.values(), strict=True):
                    if old.name in self.open_source and new.name in self.open_target:
                        self._pair(new.name, old.name, "decided", 0.98, ("the same place in a layer of the same name and shapes",))

    @staticmethod
    def _by_role(graph: LayerGraph, open_names: Mapping[str, None]) -> dict[tuple[str, str], str]:
        return {(layer.path, role): spec.name for layer in graph.layers for role, spec in layer.tensors.items() if spec.name in open_names}

    def _pair_below_wrappers(self) -> None:
        targets = self._unique_unwrapped(self.open_target)
        for bare, name in self._unique_unwrapped(self.open_source).items():
            if (target := targets.get(bare)) is not None:
                if bare != name:
                    for word in dict.fromkeys(unwrap(name)[1]):
                        self.wrappers.setdefault(word, []).append(name)
                self._pair(target, name, "decided", 0.99, ("same name once wrapper segments are removed",))

    @staticmethod
    def _unique_unwrapped(names: Mapping[str, None]) -> dict[str, str]:
        """Bare name → name, without the bare names that two names share: which one is meant is unknown."""
        found: dict[str, str] = {}
        twice: set[str] = set()
        for name in names:
            bare = unwrap(name)[0]
            if bare in found:
                twice.add(bare)
            found[bare] = name
        return {bare: name for bare, name in found.items() if bare not in twice}

    def _pair_one_scope(self) -> bool:
        source = self._unique_unwrapped(self.open_source)
        target = self._unique_unwrapped(self.open_target)
        shapes = {bare: self.source.tensors[name].shape for bare, name in source.items()}
        wanted = {bare: self.target.tensors[name].shape for bare, name in target.items()}
        scope = find_scope(shapes, wanted)
        if scope is None or scope.tensors < _MIN_SHARE * min(len(source), len(target)) or self._known_elsewhere(scope):
            return False
        # What an undecided exchange has left behind is no better known than what it moved.
        undecided = bool(scope.rivals) or any(earlier.rivals for earlier in self.scopes)
        grade: Grade = "ambiguous" if undecided else "decided"
        moved = f"{scope.source or 'the top level'} of the file is {scope.target or 'the top level'} of the model"
        for bare, name in source.items():
            inside = exchange(bare, scope.source, scope.target)
            if inside is not None and inside in target and target[inside] in self.open_target:
                rivals = (source.get(exchange(bare, scope.source, other) or "") for other in scope.rivals[:1])
                runner_up = tuple(filter(None, rivals)) or None
                for word in dict.fromkeys(unwrap(name)[1]):
                    self.wrappers.setdefault(word, []).append(name)
                self._pair(target[inside], name, grade, 0.5 if undecided else 0.97, ("same name under another prefix", moved), runner_up)
        self.scopes.append(scope)
        return True

    def _known_elsewhere(self, scope: Scope) -> bool:
        """Whether equal names have said that either module is another one: ``layer4.2`` of both sides is not ``layer4.1``."""
        for target, pair in self.pairs.items():
            s, t = unwrap(pair.sources[0])[0], unwrap(target)[0]
            below = bool(scope.source) and is_under(s, scope.source), bool(scope.target) and is_under(t, scope.target)
            if (below[0] and not is_under(t, scope.target)) or (below[1] and not is_under(s, scope.source)):
                return True
        return False

    def _pair_aliases(self) -> None:
        """Names that share one memory in the model are all set by whichever of them the file holds (safetensors keeps one)."""
        for group in self.target.tied:
            known = next((self.pairs[name] for name in group if name in self.pairs), None)
            for name in group:
                if known is not None and name in self.open_target:
                    del self.open_target[name]
                    evidence = (*known.evidence, f"shares its memory with {known.target}")
                    self.pairs[name] = Pair(name, known.sources, known.ops, known.grade, known.confidence, evidence, known.runner_up)

    def _pair(
        self, target: str, source: str, grade: Grade, confidence: float, evidence: tuple[str, ...], runner_up: tuple[str, ...] | None = None
    ) -> None:
        del self.open_target[target], self.open_source[source]
        if self.source.tensors[source].shape == self.target.tensors[target].shape:
            self.pairs[target] = Pair(target, (source,), (), grade, confidence, evidence, runner_up)
        else:
            self.mismatched[target] = source
