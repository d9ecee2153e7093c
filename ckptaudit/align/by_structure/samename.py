"""Equal names first: a file of the same library, or of the same model under another prefix.

An equal name is strong evidence, no proof. It is set aside where the name's numbered siblings contradict it, and where
a neighbour of the same shape is left over on both sides: then the name may have moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice

from ckptaudit.align.by_structure.namesakes import Namesakes
from ckptaudit.align.by_structure.rules import Path
from ckptaudit.align.by_structure.words import masked
from ckptaudit.align.pairs import Pair
from ckptaudit.graph import LayerGraph, TensorSpec
from ckptaudit.graph.names import parent, split_name
from ckptaudit.lazily import compiled_when_used
from ckptaudit.records import replace

__all__ = ["astray", "outer_modules", "same_names"]

_SEPARATOR = compiled_when_used(r"[./]")

#: Share of the smaller side's names that must be equal.
_MOST = 0.85

#: A prefix is tried when so large a share of the names lies below it.
_LARGE = 0.4

_Named = dict[str, TensorSpec]


def same_names(source: LayerGraph, target: LayerGraph) -> Iterator[Pair]:
    """Pairs of equal name and shape, when most names are equal; under other prefixes when these are unique."""
    if not source.tensors or not target.tensors:
        return
    here, there = dict(source.tensors), dict(target.tensors)
    evidence = "same name"
    if _share(here, there) < _MOST:
        if not _may_agree(here, there):
            return
        evidence = "same name under another prefix"
        parts = [{prefix: _below(side, prefix) for prefix in _prefixes(side)} for side in (here, there)]
        fitting = [(a, b) for a in parts[0] for b in parts[1] if (a or b) and _share(parts[0][a], parts[1][b]) >= _MOST]
        fitting = _outermost(fitting)
        if len(fitting) != 1:
            return
        [(a, b)] = fitting
        here, there = parts[0][a], parts[1][b]
    for name in _trusted(here, there):
        yield Pair(there[name].name, (here[name].name,), (), "decided", 1.0, (evidence,))


def _share(here: _Named, there: _Named) -> float:
    """Share of the smaller side that has an equal name and shape on the other."""
    if not here or not there:
        return 0.0
    small, large = (here, there) if len(here) <= len(there) else (there, here)
    equal = sum(name in large and large[name].shape == spec.shape for name, spec in small.items())
    return equal / len(small)


def _prefixes(named: _Named) -> list[str]:
    """The empty prefix and all modules, at most three levels deep, that hold much of the model."""
    count = Counter(path for name in named for path in outer_modules(name, 3))
    return ["", *(path for path, number in count.items() if number >= _LARGE * len(named))]


def outer_modules(name: str, levels: int) -> list[str]:
    """Paths of the outermost modules that a tensor lies in."""
    found = [match.start() for match in islice(_SEPARATOR.finditer(name), levels)]
    return [name[:end] for end in found]


def _may_agree(here: _Named, there: _Named) -> bool:
    """Whether the last two segments of most names occur on the other side: without that no prefix helps."""
    tails = [{name[len(parent(parent(name))) :].lstrip("./") for name in side} for side in (here, there)]
    common = tails[0] & tails[1]
    return len(common) >= _MOST * min(map(len, tails)) / 2


def _below(named: _Named, prefix: str) -> _Named:
    if not prefix:
        return named
    return {
        name[len(prefix) + 1 :]: spec
        for name, spec in named.items()
        if name.startswith(prefix) and name[len(prefix) : len(prefix) + 1] in (".", "/")
    }


def _outermost(fitting: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without pairs of prefixes that only go on where another pair began: (a.x, b.x) where (a, b) fits."""
    return [
        (a, b)
        for a, b in fitting
        if not any(
            _continues(a, c) and _continues(b, d) and a[len(c) :].lstrip("./") == b[len(d) :].lstrip("./")
            for c, d in fitting
            if (c, d) != (a, b)
        )
    ]


def _continues(path: str, start: str) -> bool:
    return not start or path == start or path.startswith((start + ".", start + "/"))


def _trusted(here: _Named, there: _Named) -> list[str]:
    equal = {name for name, spec in here.items() if name in there and there[name].shape == spec.shape}
    against = here.keys() & there.keys() - equal
    series, layers = _shifted_series(here, there, against), {parent(name) for name in against}
    equal -= {name for name in equal if masked(name) in series or parent(name) in layers}
    # A name may have moved where a free tensor of its shape stands beside it on both sides.
    beside = [{(parent(parent(name)), spec.shape) for name, spec in side.items() if name not in equal} for side in (here, there)]
    moved = beside[0] & beside[1]
    unsure = {parent(name) for name in equal if (parent(parent(name)), here[name].shape) in moved}
    return [name for name in there if name in equal and parent(name) not in unsure]


def _shifted_series(here: _Named, there: _Named, against: Iterable[str]) -> set[str]:
    """Masked names of the numbered series whose numbers may have moved.

    Of those that may have, a name's other shape stands elsewhere in the series of the other side. A layer that was merely changed has
    a shape that the other side lacks, and says nothing about its siblings as long as both sides have the same of them.
    """
    series = {name: plain for name in against if (plain := masked(name)) != name}
    sides = _members(here, set(series.values())), _members(there, set(series.values()))
    alike = {plain for plain in series.values() if sides[0][plain].keys() == sides[1][plain].keys()}
    shapes = [{plain: set(members.values()) for plain, members in side.items()} for side in sides]
    enough = {plain: all if plain in alike else any for plain in series.values()}
    return {
        plain
        for name, plain in series.items()
        if enough[plain]((here[name].shape in shapes[1][plain], there[name].shape in shapes[0][plain]))
    }


def _members(side: _Named, wanted: Collection[str]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Names and shapes of the wanted series."""
    found: dict[str, dict[str, tuple[int, ...]]] = {plain: {} for plain in wanted}
    for name, spec in side.items() if found else ():
        members = found.get(masked(name))
        if members is not None:
            members[name] = spec.shape
    return found


def astray(pairs: Iterable[Pair], known: Mapping[str, Pair]) -> Iterator[Pair]:
    """The pairs, those ambiguous that lie elsewhere than equal names around them say, or are renamed where their namesakes are not."""
    if not known:
        yield from pairs
        return
    anchors = [(split_name(pair.sources[0]), split_name(pair.target)) for pair in known.values()]
    places = _places(anchors), _places((t, s) for s, t in anchors)
    namesakes = Namesakes(anchors)
    for pair in pairs:
        t = split_name(pair.target)
        for s in map(split_name, pair.sources):
            if not _fits(s, t, places[0]) or not _fits(t, s, places[1]) or namesakes.verdict(s, t) is False:
                evidence = (*pair.evidence, "against its surroundings")
                yield replace(pair, grade="ambiguous", confidence=0.4, evidence=evidence)
                break
        else:
            yield pair


def _places(anchors: Iterable[tuple[Path, Path]]) -> dict[Path, Path]:
    """For each module of the first side the innermost module of the other that holds all counterparts of what is in it.

    Counterparts lie as deep in it: a module of which one layer alone is known is not that layer.
    """
    found: dict[Path, Path] = {}
    for here, there in anchors:
        for end in range(1, len(here)):
            module = here[:end]
            place, around = found.get(module), there[: max(0, len(there) - len(here) + end)]
            found[module] = around if place is None else _common(place, around)
    return found


def _fits(here: Path, there: Path, places: Mapping[Path, Path]) -> bool:
    """Whether the nearest module around a tensor of which anything is known has its place around the other tensor."""
    for end in range(len(here) - 1, 0, -1):
        place = places.get(here[:end])
        if place is not None:
            return there[: len(place)] == place
    return True


def _common(a: Path, b: Path) -> Path:
    end = 0
    while end < min(len(a), len(b)) and a[end] == b[end]:
        end += 1
    return a[:end]
