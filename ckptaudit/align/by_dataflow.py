"""What names and shapes leave open between two libraries, decided by the dataflow where both sides tell it.

A layer is another one's counterpart when what feeds it, and what it feeds, are counterparts too. Where that is so for one candidate
alone, in both directions, the pair is decided; what is known then helps its neighbours. A layer of one side may be several of the other
(a separable convolution), which are taken together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ckptaudit.align.flatten_orders import other_order
from ckptaudit.align.ops.layout import Permute
from ckptaudit.align.pairs import Alignment, Pair
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.names import leaf, parent
from ckptaudit.records import replace

_EVIDENCE = "it alone is fed by, and feeds, what its counterpart is fed by and feeds"
_CHANNELS_LAST = frozenset({"keras", "tensorflow"})


def open_between(alignment: Alignment, source: LayerGraph, target: LayerGraph) -> dict[str, Pair]:
    """Ambiguous pairs between a channels-last and a channels-first library of which only the place in the network is open."""
    if (source.framework in _CHANNELS_LAST) == (target.framework in _CHANNELS_LAST):
        return {}
    return {
        name: pair
        for name, pair in alignment.pairs.items()
        if not pair.sure
        and len(pair.sources) == 1
        and all(isinstance(op, Permute) for op in pair.ops)
        and (pair.runner_up is not None or other_order(pair, source, target) is None)
    }


def decided_by_dataflow(alignment: Alignment, source: LayerGraph, target: LayerGraph) -> Alignment:
    """The same alignment with those open pairs decided, and exchanged where they were wrong, that the dataflow settles."""
    open_ = open_between(alignment, source, target)
    if not open_ or not source.feeds or not target.feeds:
        return alignment
    decided = _Search(alignment, source, target, open_).settle()
    pairs = {name: decided.get(name, pair) for name, pair in alignment.pairs.items()}
    uses = Counter(old for pair in pairs.values() for old in pair.sources)
    # An exchange takes what another open pair had proposed; that one then has nothing.
    for name in [name for name, pair in pairs.items() if name not in decided and any(uses[old] > 1 for old in pair.sources)]:
        if pairs[name].sure:
            return alignment
        del pairs[name]
    if any(count > 1 for count in Counter(old for pair in decided.values() for old in pair.sources).values()):
        return alignment
    return alignment.with_pairs(pairs, source, target)


class _Search:
    def __init__(self, alignment: Alignment, source: LayerGraph, target: LayerGraph, open_: Mapping[str, Pair]) -> None:
        self.source, self.target, self.open = source, target, dict(open_)
        self.before = _neighbours(source.feeds), _neighbours(target.feeds)
        self.after = _neighbours((b, a) for a, b in source.feeds), _neighbours((b, a) for a, b in target.feeds)
        #: Counterparts that are known: layers of the file by a layer of the model, and the other way round.
        self.of_target: dict[str, set[str]] = {}
        self.of_source: dict[str, set[str]] = {}
        self.taken: set[str] = set()
        for name, pair in alignment.pairs.items():
            if pair.sure:
                self._relate(parent(name), {parent(old) for old in pair.sources})
                self.taken.update(pair.sources)
        self.pending: dict[str, list[str]] = {}
        for name in open_:
            self.pending.setdefault(parent(name), []).append(name)
        self.free: dict[str, list[str]] = {}
        for name in source.tensors:
            if name not in self.taken:
                self.free.setdefault(parent(name), []).append(name)
        self.decided: dict[str, Pair] = {}

    def settle(self) -> dict[str, Pair]:
        """Go round until nothing more is decided."""
        progress = True
        while progress:
            progress = False
            candidates = {layer: [old for old in self.free if self._fits(layer, old)] for layer in self.pending}
            consistent = {layer: [old for old in olds if self._consistent(layer, old)] for layer, olds in candidates.items()}
            wanted = Counter(old for olds in consistent.values() for old in olds)
            for layer, olds in consistent.items():
                if len(olds) == 1 and wanted[olds[0]] == 1 and self._take(layer, olds[0]):
                    progress = True
            for layer in [layer for layer, names in self.pending.items() if all(name in self.decided for name in names)]:
                del self.pending[layer]
        return self.decided

    def _fits(self, layer: str, old: str) -> bool:
        """Whether a layer of the file has a free tensor of each role and shape that the open tensors of ``layer`` want."""
        held = {leaf(name) for name in self.free[old]}
        return all(leaf(self.open[name].sources[0]) in held and self._same_size(name, old) for name in self.pending[layer])

    def _same_size(self, name: str, old: str) -> bool:
        proposed = self.open[name].sources[0]
        other = self._named(old, proposed)
        return other is not None and self.source.tensors[other].shape == self.source.tensors[proposed].shape

    def _named(self, old: str, proposed: str) -> str | None:
        return next((name for name in self.free[old] if leaf(name) == leaf(proposed)), None)

    def _consistent(self, layer: str, old: str) -> bool:
        here = {old} | self.of_target.get(layer, set())
        there = {layer} | self.of_source.get(old, set())
        known = False
        for sides in (self.before, self.after):
            olds = {other for part in here for other in sides[0].get(part, ())} - here
            news = {other for part in there for other in sides[1].get(part, ())} - there
            # What has no known counterpart yet says nothing.
            mapped = {frozenset(self.of_target[new]) for new in news if new in self.of_target}
            expected = {frozenset(found) for other in olds if other in self.of_source for found in [self._together(other)]}
            if mapped != expected:
                return False
            known |= bool(mapped)
        return known

    def _together(self, old: str) -> set[str]:
        """The layers of the file that are counterparts of what ``old`` is a counterpart of."""
        return set[str]().union(*(self.of_target[new] for new in self.of_source[old]))

    def _take(self, layer: str, old: str) -> bool:
        names = {name: self._named(old, self.open[name].sources[0]) for name in self.pending[layer] if name not in self.decided}
        if not names or None in names.values():
            return False
        for name, source in names.items():
            if source is not None:
                pair = self.open[name]
                evidence = (*pair.evidence, _EVIDENCE)
                self.decided[name] = replace(pair, sources=(source,), grade="decided", confidence=0.98, evidence=evidence, runner_up=None)
                self.free[old].remove(source)
        self._relate(layer, {old})
        return True

    def _relate(self, layer: str, olds: set[str]) -> None:
        self.of_target.setdefault(layer, set()).update(olds)
        for old in olds:
            self.of_source.setdefault(old, set()).add(layer)


def _neighbours(feeds: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Producers by consumer."""
    found: dict[str, set[str]] = {}
    for producer, consumer in feeds:
        found.setdefault(consumer, set()).add(producer)
    return found
