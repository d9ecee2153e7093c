"""Tell layers apart by colour refinement (Weisfeiler and Leman): a layer's colour follows from what it is, what feeds it and what it feeds.

Two networks are laid beside each other with one palette. Where every colour is as frequent in both, they are the same network as far as
refinement can tell, and layers that are alone with their colour correspond.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

from ckptaudit.align.by_topology.units import Source, Unit
from ckptaudit.graph.computation import INPUT
from ckptaudit.records import dataclass, field

#: Refinement ends after so many steps: what it has not told apart by then stays open.
_MAX_WORK = 1_000_000

Label = Callable[[Unit], Hashable]
Colours = list[int]


@dataclass(slots=True)
class Palette:
    """Numbers for what is equal."""

    numbers: dict[Hashable, int] = field(default_factory=dict)

    def number(self, key: Hashable) -> int:
        """The same number for equal keys."""
        return self.numbers.setdefault(key, len(self.numbers))


def refined(
    sides: tuple[Sequence[Unit], Sequence[Unit]], label: Label, start: tuple[Colours, Colours] | None = None, *, steps: bool = False
) -> tuple[Colours, Colours]:
    """Colours of both sides' units, refined until nothing more is told apart.

    Parameters
    ----------
    label:
        What a unit is, apart from its neighbours.
    start:
        Colours to go on from.
    steps:
        Keep the places in concatenations and products apart.
    """
    palette = Palette()
    first = [
        [palette.number(("start", label(unit), unit.result, start[side][i] if start else 0)) for i, unit in enumerate(units)]
        for side, units in enumerate(sides)
    ]
    here, there = first
    incoming = [[_sources(unit, steps) for unit in units] for units in sides]
    outgoing = [_consumers(units, steps) for units in sides]
    count = len({*here, *there})
    work = sum(map(len, (*incoming[0], *incoming[1], *outgoing[0], *outgoing[1], here, there)))
    for _ in range(max(2, _MAX_WORK // max(1, work))):
        new = []
        for side, colours in enumerate((here, there)):
            new.append(
                [
                    palette.number(
                        (
                            colours[i],
                            tuple(sorted((-1 if source == INPUT else colours[source], way) for source, way in incoming[side][i])),
                            tuple(sorted((colours[consumer], way) for consumer, way in outgoing[side][i])),
                        )
                    )
                    for i in range(len(colours))
                ]
            )
        here, there = new
        if (now := len({*here, *there})) == count:
            break
        count = now
    return here, there


def from_the_input(sides: tuple[Sequence[Unit], Sequence[Unit]], label: Label) -> tuple[Colours, Colours]:
    """Colours that follow from what a unit is and all that leads to it, whatever comes behind."""
    palette = Palette()
    found: list[Colours] = []
    for units in sides:
        colours: Colours = []
        for unit in units:
            before = tuple(sorted((-1 if source == INPUT else colours[source], way) for source, way in unit.sources))
            colours.append(palette.number((label(unit), before)))
        found.append(colours)
    return found[0], found[1]


def balanced(here: Colours, there: Colours) -> bool:
    """Whether each colour is as frequent in both."""
    return Counter(here) == Counter(there)


def alone(here: Colours, there: Colours) -> dict[int, int]:
    """Units of the second side that are alone with their colour, as those of the first are: the first's by the second's number."""
    once = [{colour for colour, count in Counter(side).items() if count == 1} for side in (here, there)]
    place = {colour: i for i, colour in enumerate(here) if colour in once[0]}
    return {i: place[colour] for i, colour in enumerate(there) if colour in once[1] and colour in place}


def _sources(unit: Unit, steps: bool) -> set[Source]:
    return {(source, way if steps else ()) for source, way in unit.sources}


def _consumers(units: Sequence[Unit], steps: bool) -> list[set[Source]]:
    found: list[set[Source]] = [set() for _ in units]
    for number, unit in enumerate(units):
        for source, way in _sources(unit, steps):
            if source != INPUT:
                found[source].add((number, way))
    return found
