"""Lay two computations beside each other: which layer is which, how sure that is, and where they part."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from ckptaudit.align.by_topology.colours import Colours, alone, balanced, from_the_input, refined
from ckptaudit.align.by_topology.of_layers import computation_of_layers
from ckptaudit.align.by_topology.tensors import tensor_pairs
from ckptaudit.align.by_topology.units import MAIN, Unit, Units, units_of
from ckptaudit.align.flatten_orders import channels_before
from ckptaudit.align.pairs import Alignment, Grade, Pair
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.computation import INPUT, Computation
from ckptaudit.records import dataclass, replace

#: How far two networks agree: layer by layer; the same but for the sizes of some layers; only from the input to some place.
Extent = Literal["same", "sizes", "beginning"]

_ALONE = "it alone stands at this place of the dataflow, with this shape"
_BY_SETTINGS = "of the layers that are alike it alone has this stride, dilation and number of groups"
_BY_STEPS = "of the layers that are alike it alone stands at this place of the concatenation or product behind it"
_BY_NAME = "of the layers that are alike it alone has this name"
_EITHER = "others stand at the same place of the dataflow, with the same shape"
_FLATTENED = "the map before it may be flattened in another order"
_FROM_INPUT = "all that leads to it from the input is the same; the networks part further on"
#: So many layers, or such a share of them, may have other shapes than their counterparts, if two networks are to be the same but for that:
#: the first and the last, at least.
_OTHER_SIZES, _SHARE_OF_OTHER_SIZES = 2, 0.2
#: Of more layers that are alike it is not worked out what follows from pairing one: they stay open all the same.
_MAX_TURNS, _MAX_TURNED = 64, 50_000


@dataclass(frozen=True, slots=True)
class UnitPair:
    """A layer of the file and the layer of the model at its place."""

    source: Unit
    target: Unit
    grade: Grade
    evidence: str
    #: Another layer of the file that may be it as well.
    runner_up: Unit | None = None

    @property
    def folded(self) -> bool:
        """The model has a BatchNorm there that the file has worked into the layer, and its bias."""
        return self.target.norm is not None and self.source.norm is None and self.source.bias is not None


@dataclass(frozen=True, eq=False)
class Topology:
    """The outcome.

    Attributes
    ----------
    extent:
        How far the networks agree.
    layers:
        The layers that correspond, in the file's order of computation.
    alignment:
        The same by tensors.
    counts:
        How many layers the file and the model compute with.
    parting:
        The first layer of the file, and of the model, that has no counterpart; None where all have.
    result:
        Which output of the model the file gives; None where it gives all, or that does not matter.
    drifted:
        Layers that correspond and differ in stride, dilation or groups: each with the setting, and its values in file and model.
    same_layers:
        Both have as many kernels and matrices of each shape, wherever they stand; or some are computed from others, and nobody knows.
    weak:
        What hangs between the layers and corresponds: tables of positions, scales.
    """

    extent: Extent
    layers: tuple[UnitPair, ...]
    alignment: Alignment
    counts: tuple[int, int]
    parting: tuple[str | None, str | None] = (None, None)
    result: int | None = None
    drifted: tuple[tuple[UnitPair, str, object, object], ...] = ()
    same_layers: bool = True
    weak: tuple[UnitPair, ...] = ()

    def with_layers(self, layers: tuple[UnitPair, ...], graphs: tuple[LayerGraph, LayerGraph]) -> Topology:
        """The same with other pairs of layers."""
        return replace(self, layers=layers, alignment=_alignment([*layers, *self.weak], graphs))


def align_by_topology(source: LayerGraph, target: LayerGraph) -> Topology | None:
    """Align two graphs by what they compute; None where one does not tell, or nothing corresponds."""
    wanted = target.computation or computation_of_layers(target)
    if source.computation is None or wanted is None:
        return None
    here = units_of(source.computation)
    if not here.strong:
        return None
    for result, computation in _candidates(source.computation, wanted):
        there = units_of(computation)
        layers = _same(here, there)
        if layers is not None:
            return _topology("same", layers, (here, there), (source, target), result)
    there = units_of(wanted)
    layers = _same_but_sizes(here, there)
    if layers is not None:
        return _topology("sizes", layers, (here, there), (source, target))
    layers = _beginning(here, there)
    return _topology("beginning", layers, (here, there), (source, target)) if there.strong else None


def _candidates(source: Computation, target: Computation) -> Iterator[tuple[int | None, Computation]]:
    """What the model computes, then what it computes for each of its outputs: an export may leave out an auxiliary one."""
    yield None, target
    if len(source.results) < len(target.results):
        for result in range(len(target.results)):
            yield result, target.leading_to(result)


# Which layer is which ------------------------------------------------------------------------------------------------


def _with_shape(unit: Unit) -> Hashable:
    return unit.kind, unit.weight.shape if unit.weight is not None else None


def _without_sizes(unit: Unit) -> Hashable:
    """Kind and kernel; what a layer takes and gives may differ."""
    return unit.kind, len(unit.weight.shape) if unit.weight is not None else 0, unit.weight.shape[2:] if unit.weight is not None else ()


def _settings(unit: Unit) -> Hashable:
    return tuple(_same_numbers(unit.operation.settings.get(key)) for key in ("stride", "dilation", "groups"))


def _same_numbers(value: object) -> object:
    """1 for what is not said, and for (1, 1)."""
    numbers = value if isinstance(value, tuple) else (1 if value is None else value,)
    return numbers[0] if numbers and all(number == numbers[0] for number in numbers) else numbers


def _same(here: Units, there: Units) -> list[UnitPair] | None:
    """Pairs of all layers, if as many of each kind stand at each place; what is alike is told apart as far as possible."""
    if len(here.strong) != len(there.strong):
        return None
    sides = here.strong, there.strong
    colours = refined(sides, _with_shape)
    if not balanced(*colours):
        return None
    found = dict.fromkeys(alone(*colours).items(), _ALONE)
    for label, steps, evidence in ((_settings, False, _BY_SETTINGS), (_with_shape, True, _BY_STEPS)):
        if len(found) == len(here.strong):
            break
        finer = refined(sides, label, colours, steps=steps)
        if balanced(*finer):  # else one side says it in another way, or computes otherwise: it decides nothing
            colours = finer
            known = {new for new, _ in found}
            found |= {(new, old): evidence for new, old in alone(*colours).items() if new not in known}
    decided = {new: UnitPair(sides[0][old], sides[1][new], "decided", evidence) for (new, old), evidence in found.items()}
    open_ = _open(sides, colours, {new for new, _ in found}) if len(found) < len(here.strong) else {}
    return [*decided.values(), *open_.values()]


def _open(sides: tuple[Sequence[Unit], Sequence[Unit]], colours: tuple[Colours, Colours], known: set[int]) -> dict[int, UnitPair]:
    """Pairs of layers that are alike: by their names, else in the order of computation, so that all pairs go together."""
    pairs: dict[int, UnitPair] = {}
    for turn in range(1, min(_MAX_TURNS, _MAX_TURNED // len(sides[0])) + 1):
        groups = _groups(colours[0]), _groups(colours[1])
        choice = next((colour for colour, members in groups[1].items() if len(members) > 1), None)
        if choice is None:
            break
        mine, theirs = groups[0][choice], groups[1][choice]
        by_name = {_name(sides[0][old]): old for old in mine}
        new = theirs[0]
        old = by_name.get(_name(sides[1][new]), mine[0])
        # These two are set apart from their like, and what follows from that is found out.
        marked = [list(side) for side in colours]
        marked[0][old] = marked[1][new] = -turn
        colours = marked[0], marked[1]
        if balanced(*(finer := refined(sides, _settings, colours))):
            colours = finer
    groups = _groups(colours[0]), _groups(colours[1])
    for colour, members in groups[1].items():
        for old, new in zip(groups[0][colour], members, strict=True):
            if new not in known:
                pairs[new] = _told_by_name(sides[0][old], sides[1][new])
    _with_rivals(pairs)
    return pairs


def _groups(colours: Colours) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = defaultdict(list)
    for number, colour in enumerate(colours):
        groups[colour].append(number)
    return groups


def _name(unit: Unit) -> str:
    return unit.weight.name if unit.weight is not None else ""


def _told_by_name(old: Unit, new: Unit) -> UnitPair:
    if _name(old) and _name(old) == _name(new):
        return UnitPair(old, new, "decided", _BY_NAME)
    return UnitPair(old, new, "ambiguous", _EITHER)


def _with_rivals(pairs: dict[int, UnitPair]) -> None:
    """Give each open pair another layer of its shape as what it may be as well."""
    by_label: dict[Hashable, list[Unit]] = defaultdict(list)
    for pair in pairs.values():
        by_label[_with_shape(pair.source)].append(pair.source)
    for new, pair in pairs.items():
        if pair.grade == "ambiguous":
            rival = next((unit for unit in by_label[_with_shape(pair.source)] if unit is not pair.source), None)
            pairs[new] = replace(pair, runner_up=rival)


def _same_but_sizes(here: Units, there: Units) -> list[UnitPair] | None:
    """Pairs of all layers where the networks are the same but for the channels of a few: another head, another stem."""
    if len(here.strong) != len(there.strong):
        return None
    sides = here.strong, there.strong
    colours = refined(sides, _without_sizes)
    if not balanced(*colours):
        return None
    for label, steps in ((_settings, False), (_without_sizes, True), (_with_shape, False)):
        finer = refined(sides, label, colours, steps=steps)
        colours = finer if balanced(*finer) else colours
    found = alone(*colours)
    layers = [UnitPair(sides[0][old], sides[1][new], "decided", _ALONE) for new, old in found.items()]
    other = len(here.strong) - sum(_with_shape(pair.source) == _with_shape(pair.target) for pair in layers)
    return layers if other <= max(_OTHER_SIZES, _SHARE_OF_OTHER_SIZES * len(here.strong)) else None


def _beginning(here: Units, there: Units) -> list[UnitPair]:
    """Pairs of layers to which all that leads is the same, as long as no other layer is like them."""
    sides = here.strong, there.strong
    found = alone(*from_the_input(sides, lambda unit: (_with_shape(unit), _settings(unit))))
    return [UnitPair(sides[0][old], sides[1][new], "decided", _FROM_INPUT) for new, old in found.items()]


# What hangs between layers -------------------------------------------------------------------------------------------


def _weak(here: Units, there: Units, layers: Sequence[UnitPair]) -> Iterator[UnitPair]:
    """Pairs of tables of positions, scales and the like: of the same kind and size, behind the same layers."""
    number = {id(unit): i for units in (here, there) for i, unit in enumerate(units.strong)}
    counterpart = {number[id(pair.target)]: number[id(pair.source)] for pair in layers if pair.grade != "ambiguous"}
    places: tuple[dict[Hashable, list[Unit]], dict[Hashable, list[Unit]]] = defaultdict(list), defaultdict(list)
    for side, units in enumerate((here, there)):
        for unit in units.weak:
            uses = [use for use in unit.operation.tensors.values() if use.name]
            if len(uses) != 1:
                continue
            before = {source for source, _ in unit.sources}
            if side and not all(source == INPUT or source in counterpart for source in before):
                continue
            mapped = frozenset(counterpart[source] if side and source != INPUT else source for source in before)
            places[side][unit.kind, tuple(size for size in uses[0].shape if size != 1), mapped].append(unit)
    for place, alike in places[1].items():
        if len(alike) == 1 and len(places[0].get(place, ())) == 1:
            yield UnitPair(places[0][place][0], alike[0], "decided", _ALONE)


# The outcome ---------------------------------------------------------------------------------------------------------


def _topology(
    extent: Extent, layers: Sequence[UnitPair], units: tuple[Units, Units], graphs: tuple[LayerGraph, LayerGraph], result: int | None = None
) -> Topology:
    order = {id(unit): number for number, unit in enumerate(units[0].strong)}
    layers = sorted(layers, key=lambda pair: order[id(pair.source)])
    weak = list(_weak(*units, layers)) if extent != "beginning" else []
    drifted = [
        (pair, key, pair.source.operation.settings.get(key), pair.target.operation.settings.get(key))
        for pair in layers
        for key in ("stride", "dilation", "groups")
        if _same_numbers(pair.source.operation.settings.get(key)) != _same_numbers(pair.target.operation.settings.get(key))
    ]
    alone_here = _first_without(units[0].strong, {id(pair.source) for pair in layers})
    alone_there = _first_without(units[1].strong, {id(pair.target) for pair in layers})
    return Topology(
        extent,
        tuple(layers),
        _alignment([*layers, *weak], graphs),
        (len(units[0].strong), len(units[1].strong)),
        (alone_here, alone_there),
        result,
        tuple(drifted),
        _kernels(units[0]) == _kernels(units[1]) or any(unit.weight and not unit.weight.whole for side in units for unit in side.strong),
        tuple(weak),
    )


def _kernels(units: Units) -> Counter[Hashable]:
    """How many layers with a kernel or a matrix there are of each shape; what normalises is written in many ways."""
    return Counter(_with_shape(unit) for unit in units.strong if unit.kind in MAIN)


def _first_without(units: Sequence[Unit], known: set[int]) -> str | None:
    return next((unit.operation.path for unit in units if id(unit) not in known), None)


def _alignment(layers: Sequence[UnitPair], graphs: tuple[LayerGraph, LayerGraph]) -> Alignment:
    source, target = graphs
    pairs: dict[str, Pair] = {}
    mismatched: dict[str, str] = {}
    for layer in layers:
        for found in tensor_pairs(layer.source, layer.target, source, target):
            if isinstance(found, tuple):
                mismatched.setdefault(*found)
                continue
            made = replace(found, grade=layer.grade, confidence=_confidence(layer), evidence=(layer.evidence, *found.evidence))
            if layer.runner_up is not None and layer.runner_up.weight is not None:
                made = replace(made, runner_up=(layer.runner_up.weight.name,))
            if _flattened(made, target):
                made = replace(made, grade="ambiguous", confidence=0.5, evidence=(*made.evidence, _FLATTENED))
            before = pairs.get(made.target)
            if before is not None and (before.sources, before.ops) != (made.sources, made.ops):
                # One tensor of the model is used at several places, and the file has a tensor for each.
                made = replace(before, grade="ambiguous", confidence=0.5, runner_up=made.sources)
            pairs[made.target] = made
    empty = Alignment(MappingProxyType({}), (), (), MappingProxyType(mismatched))
    whole = empty.with_pairs(_and_equal_names(pairs, mismatched, source, target), source, target)
    return replace(whole, structural=tuple(name for name, pair in whole.pairs.items() if pair.sources != (name,)))


def _flattened(pair: Pair, target: LayerGraph) -> bool:
    """Whether a dense layer of a channels-last model seems to get a map, which the file may flatten with the channels first."""
    shape = target.tensors[pair.target].shape
    if target.framework != "keras" or len(shape) != 2:
        return False
    channels = channels_before(target, pair.target)
    return bool(channels) and shape[0] > (channels or 0) and shape[0] % (channels or 1) == 0


def _confidence(layer: UnitPair) -> float:
    return 0.5 if layer.grade == "ambiguous" else 0.98


def _and_equal_names(pairs: Mapping[str, Pair], mismatched: Mapping[str, str], source: LayerGraph, target: LayerGraph) -> dict[str, Pair]:
    """The same, and tensors that nothing computes with in a way that is understood, where name and shape are equal."""
    used = {old for pair in pairs.values() for old in pair.sources} | set(mismatched.values())
    rest = {
        name: Pair(name, (name,), (), "decided", 0.95, ("same name",))
        for name, spec in target.tensors.items()
        if name not in pairs and name not in mismatched and name not in used
        if name in source.tensors and source.tensors[name].shape == spec.shape
    }
    return {**rest, **pairs}
