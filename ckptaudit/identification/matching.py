"""Ask the index for what has the file's shapes in common, then lay the file beside the best of them, names and order included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.catalogue import shipped as shipped_catalogue
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.names import collapse_modules, fold_names, parent, split_name
from ckptaudit.identification.candidates import Candidate, Certainty, Identification
from ckptaudit.identification.index import Entry, Index, Template, channels_of, classes_of, kernels_alone
from ckptaudit.identification.index import shipped as shipped_index
from ckptaudit.identification.parts import Part, parts_of
from ckptaudit.identification.signature import counts, is_kernel, pieces
from ckptaudit.identification.sizes import class_count, has_stem, input_channels
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ckptaudit.graph import TensorSpec

#: How many classes are looked at closely: the first by what they explain and have, the first by what they explain.
_COMPLETE_FIRST, _EXPLAINED_FIRST = 8, 4
#: How many candidates are given.
_SHOWN = 5
#: From this score on a candidate is worth the name; below it, it is the nearest of strangers; with less than the other it is not even near.
_LIKELY, _NEAR = 0.45, 0.1
#: With less of an architecture's different shapes, nothing is said of it by shapes alone, even where its first convolution is there;
#: with less than the other, or with fewer different ones than this, nothing is sure.
_LIKELY_KINDS, _SURE_KINDS, _MIN_KINDS = 0.6, 0.9, 10
#: So many tensors may be otherwise: another stem, another size of a table of positions.
_FEW = 2
#: A rival ranks no further behind than this, and its order is no worse than by this.
_GAP, _OTHER_ORDER = 0.01, 0.2
#: Fewer tensors than this are no proof: small networks are parts of many.
_MIN_TENSORS = 20
#: What equal names and an equal order add: shapes agree by chance with what lies beside a backbone, names do not.
_NAMES_BONUS, _ORDER_BONUS = 0.2, 0.01
#: Order is compared in runs of this many tensors.
_RUN = 4
#: With this share of names in common they are the file's own.
_SAME_NAMES = 0.5
#: No layer has more tensors; what holds more is a container.
_LARGEST_LAYER = 16
#: What is left over is shown in this many patterns, made from this many names.
_MAX_PATTERNS, _MAX_FOLDED = 3, 2000


@dataclass(eq=False)
class _Match:
    """One group of the index laid beside a part of the file.

    Attributes
    ----------
    complete:
        Share of the architecture's tensors whose shapes the part has, by weight.
    names:
        Share of all names of both that they have in common, with equal shapes.
    order:
        See :func:`_same_order`.
    named, agreeing:
        How many of the architecture's telling tensors agree in name and shape, and in shape.
    kinds:
        Share of the architecture's different shapes that the part has at all, by weight.
    stem:
        Whether the part has a layer like the architecture's first convolution, whatever its input channels.
    left, defects:
        How many telling tensors of the part, and of the architecture and the whole file, have no counterpart of their shape.
    kernels:
        Vectors were left out.
    scattered:
        The file's names put no tensors together as a layer, though the architecture has layers of several: shapes alone speak.
    """

    group: Sequence[Entry]
    template: Template
    part: Part
    prefix: str
    complete: float
    score: float
    names: float
    named: int
    order: float
    agreeing: int
    kinds: float
    stem: bool
    left: int
    defects: int
    kernels: bool = False
    scattered: bool = False

    @property
    def proven(self) -> bool:
        """Whether all of the architecture is there, with nothing that belongs to it and that it does not have.

        Either by names: what else the file has lies in other modules. Or by shapes alone: the part holds nothing else but a head.
        """
        if self.agreeing < _MIN_TENSORS or len(self.template.fixed) - self.agreeing > _FEW:
            return False
        if len(self.template.fixed) - self.named <= _FEW:
            own = {split_name(name)[0] for name in self.template.fixed}
            below = self.part.below[self.prefix].items()
            known = self.template.graph.tensors
            return sum(self._counts(spec) and name not in known and split_name(name)[0] in own for name, spec in below) <= _FEW
        distinct = self.kinds >= _SURE_KINDS and len(self.template.pieces) >= _MIN_KINDS
        return distinct and self.left <= len(self.template.varying) + _FEW

    def _counts(self, spec: TensorSpec) -> bool:
        return counts(spec) and (not self.kernels or is_kernel(spec))

    @property
    def telling(self) -> bool:
        """Whether what agrees means anything: the architecture's own names, or most of its different shapes, its first among them.

        Twelve blocks of one width are in every transformer of that width, whatever it reads.
        """
        if self.named >= _SAME_NAMES * len(self.template.fixed):
            return True
        return self.kinds >= (_LIKELY_KINDS if self.stem else _SURE_KINDS)

    @property
    def rank(self) -> float:
        """What candidates are ordered by: the score, and what decides between equals."""
        return self.score + _NAMES_BONUS * self.names + _ORDER_BONUS * self.order


def identify(graph: LayerGraph, hints: Collection[str] = ()) -> Identification:
    """Rank the architectures that a graph may be.

    An architecture's *completeness* c is the share of its tensors whose shapes the file has, each weighted by how rare its shape is
    among all architectures; x is the share of the file that these explain. The score is c² √x: a backbone inside something larger is
    wholly there, while a smaller relative explains less and a larger one is incomplete. Where names agree as well, x² √c of the tensors
    that agree in both says more of a file that has lost layers. The better of the two counts.

    Parameters
    ----------
    graph:
        Names and shapes of a checkpoint; wrappers, prefixes, names, layout, head and input channels may be any.
    hints:
        Words of the file's metadata: an architecture that is called so goes before its equivalents.
    """
    matches = _matches(graph, shipped_index())
    if _may_be_folded(graph):
        # Vectors of BatchNorm layers are worked into others: what is left to compare are kernels and matrices.
        without = _matches(graph, kernels_alone())
        if without and (not matches or without[0].score > matches[0].score):
            matches = without
    if not matches:
        return Identification("unknown", ())
    words = {hint.lower() for hint in hints}
    candidates = tuple(_candidate(match, graph, words) for match in matches[:_SHOWN] if match.score >= _NEAR)
    return Identification(_certainty(matches), candidates)


def _matches(graph: LayerGraph, index: Index) -> list[_Match]:
    """Groups laid beside the file, the best first."""
    parts = parts_of(graph, index.kernels)
    if not parts[0].telling:
        return []
    matches = [
        _laid_beside(group, part, parts, index, shared, graph)
        for number, (part, shared) in _retrieved(parts, index).items()
        for group in index.classes[number]
    ]
    return sorted(matches, key=lambda match: -match.rank)


def _may_be_folded(graph: LayerGraph) -> bool:
    """Whether it is an export with convolutions that have a bias, which may be a BatchNorm's."""
    if graph.framework != "onnx":
        return False
    return any(layer.kind in ("conv", "depthwise_conv") and "bias" in layer.tensors for layer in graph.layers)


def _retrieved(parts: Sequence[Part], index: Index) -> dict[int, tuple[Part, float]]:
    """The classes worth a closer look, each with the part of the file where it fits best and the weight that it shares with it."""
    whole = index.weigh(parts[0].pieces)
    best: dict[int, tuple[float, Part, float]] = {}
    for part in parts:
        weight = index.weigh(part.pieces)
        for number, shared in index.shared(part.pieces).items():
            # Among places where equally much of it lies, the one with the least beside it.
            fit = _fit(shared / index.totals[number], shared / whole) * (0.9 + 0.1 * shared / weight)
            if number not in best or fit > best[number][0]:
                best[number] = fit, part, shared
    by_fit = sorted(best, key=lambda number: -best[number][0])[:_COMPLETE_FIRST]
    by_share = sorted(best, key=lambda number: -best[number][2] * (best[number][2] / index.totals[number]) ** 0.5)[:_EXPLAINED_FIRST]
    return {number: best[number][1:] for number in dict.fromkeys((*by_fit, *by_share))}


def _fit(whole: float, part: float) -> float:
    return float(whole**2 * part**0.5)


def _laid_beside(group: Sequence[Entry], part: Part, parts: Sequence[Part], index: Index, shared: float, file: LayerGraph) -> _Match:
    template = Template.of(group[0], shipped_catalogue())
    if index.kernels:
        template = template.kernels_alone()
    complete = shared / index.weigh(template.pieces)
    whole = parts[0]
    places = [(place, prefix, _same_names(template, below)) for place in (part, *parts) for prefix, below in place.below.items()]
    named_place, prefix, same = max(places, key=lambda found: len(found[2]))
    if len(same) >= _SAME_NAMES * min(len(template.fixed), len(named_place.telling)):
        part = named_place
    else:  # a few names in common mean nothing
        prefix, same = part.prefixes[0], []
    below = part.below[prefix]
    heads = sum(spec.name in below for spec, _ in template.varying)
    telling = sum(spec.name in template.fixed for spec in same)
    by_name = _fit(telling / max(1, len(whole.telling) - heads), telling / len(template.fixed)) if telling >= _MIN_TENSORS else 0.0
    common = (template.pieces & part.pieces).total()
    return _Match(
        group,
        template,
        part,
        prefix,
        complete,
        score=min(1.0, max(_fit(complete, shared / index.weigh(whole.pieces)), by_name)),
        names=len(same) / max(1, len(template.graph) + len(below) - len(same) - heads),
        named=telling,
        order=_same_order(template, part),
        agreeing=_agreeing(template, part),
        kinds=index.weigh(dict.fromkeys(template.pieces.keys() & part.pieces.keys(), 1)) / index.weigh(dict.fromkeys(template.pieces, 1)),
        stem=has_stem(template, part.telling, file),
        left=part.pieces.total() - common,
        defects=template.pieces.total() + whole.pieces.total() - 2 * common,
        kernels=index.kernels,
        scattered=file.computation is None and _tell_layers(template.graph.tensors) and not _tell_layers(below),
    )


def _tell_layers(names: Iterable[str]) -> bool:
    """Whether names put tensors together as layers: a weight with its bias, four vectors of a BatchNorm."""
    owned = Counter(map(parent, names))
    return any(path and 2 <= count <= _LARGEST_LAYER for path, count in owned.items())


def _agreeing(template: Template, part: Part) -> int:
    """How many of the architecture's telling tensors the part has by shape, whole or in pieces."""
    held = Counter(part.pieces)
    agreeing = 0
    for needed in pieces(template.sequence):
        if held[needed[0]] >= len(needed):
            held[needed[0]] -= len(needed)
            agreeing += 1
    return agreeing


def _same_names(template: Template, below: Mapping[str, TensorSpec]) -> list[TensorSpec]:
    return [spec for spec in template.graph if (twin := below.get(spec.name)) is not None and twin.shape == spec.shape]


def _same_order(template: Template, part: Part) -> float:
    """How much of the architecture's order the file has: runs of tensors anywhere, and the run from the beginning, by exact shapes."""
    own, held = [spec.shape for spec in template.fixed.values()], [spec.shape for spec in part.telling]
    runs, others = (Counter(zip(*(shapes[start:] for start in range(_RUN)), strict=False)) for shapes in (own, held))
    beginning = next((i for i, (a, b) in enumerate(zip(own, held, strict=False)) if a != b), len(own))
    return ((runs & others).total() / max(1, runs.total()) + beginning / max(1, len(own))) / 2


def _certainty(matches: Sequence[_Match]) -> Certainty:
    if not matches or matches[0].score < _LIKELY or not matches[0].telling:
        return "unknown"
    first = matches[0]
    return "sure" if first.proven and not first.scattered and not any(_rivals(first, match) for match in matches[1:]) else "likely"


def _rivals(first: _Match, other: _Match) -> bool:
    """Whether ``other`` fits as well, but for what chance may do."""
    return first.rank - other.rank < _GAP and other.defects <= first.defects + _FEW and other.order > first.order - _OTHER_ORDER


def _candidate(match: _Match, graph: LayerGraph, words: Collection[str]) -> Candidate:
    catalogue = shipped_catalogue()
    entries = sorted(match.group, key=lambda entry: _preference(entry, words))
    chosen = entries[0]
    below = match.part.below[match.prefix]
    classes = class_count(match.template, match.group[0].classes, below, graph)
    inputs = input_channels(match.template, below, graph)
    arguments: dict[str, Any] = {} if classes is None else {str(classes_of(chosen.source)): classes}
    arguments |= chosen.arguments
    if inputs is not None and inputs[0] != inputs[1] and (argument := channels_of(chosen.source)):
        arguments[argument] = inputs[1]
    names = dict.fromkeys(_arch(entry) for entry in entries)
    return Candidate(
        arch=_arch(chosen),
        equivalents=tuple(name for name in names if name != _arch(chosen)),
        arguments=arguments,
        call=catalogue.call(chosen.source, chosen.name, arguments),
        score=match.score,
        evidence=tuple(_evidence(match, graph, classes, inputs)),
        prefix=match.prefix,
    )


def _preference(entry: Entry, words: Collection[str]) -> tuple[bool, int, int, int, str]:
    """Named by the file first, then what needs the fewest arguments, then the order of the sources, then the plainest name."""
    sources = list(shipped_catalogue().versions)
    return entry.name.lower() not in words, len(entry.arguments), sources.index(entry.source), len(entry.name), entry.name


def _arch(entry: Entry) -> str:
    """What ``--arch`` takes: the bare name where this source is the first that knows it."""
    return entry.name if shipped_index().first_source(entry.name) == entry.source else f"{entry.source}:{entry.name}"


def _evidence(match: _Match, graph: LayerGraph, classes: int | None, inputs: tuple[int, int] | None) -> Iterator[str]:
    total = len(match.template.fixed)
    heads = " outside the head" if match.template.varying else ""
    yield f"{match.agreeing} of its {total} tensors{heads} agree in shape" + (f", {match.named} in name too" if match.named else "")
    everything = sum(map(counts, graph))
    if match.prefix and len(match.part.telling) < everything:
        yield f"it lies under `{match.prefix}`, with {len(match.part.telling)} of the file's {everything} tensors"
    if match.scattered:
        yield "by shapes alone: the file's names put no tensors together as layers, and `ckptaudit remap` goes by such"
    elif match.named < _SAME_NAMES * total:
        yield "the names are not its own: `ckptaudit remap` shows how they correspond"
    if classes is not None:
        yield f"{classes} classes"
    elif match.template.varying:
        yield "no head that gives its classes is in the file"
    if inputs is not None and inputs[0] != inputs[1]:
        yield f"{inputs[1]} input channels instead of {inputs[0]}"
    if match.named < _SAME_NAMES * total:
        return  # without names, what is left over cannot be told
    known = match.template.graph.tensors
    used = {spec.name for name, spec in match.part.below[match.prefix].items() if name in known}
    left = [spec.name for spec in graph if counts(spec) and spec.name not in used]
    if left:
        patterns = fold_names(collapse_modules(left[:_MAX_FOLDED], list(graph.tensors)))
        more = ", …" if len(patterns) > _MAX_PATTERNS or len(left) > _MAX_FOLDED else ""
        yield f"left over in the file: {len(left)} of its tensors ({', '.join(patterns[:_MAX_PATTERNS])}{more})"
