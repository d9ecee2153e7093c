"""Identify every architecture of the catalogue, with another head and with nothing left of its names.

Run: python benchmarks/identify_all.py [--every N]

Each is made into the names and shapes of a file twice: with 7 classes, and with 7 classes and every token of every name replaced by a
random one (each occurrence by its own; order and shapes are kept). The answer is right when the first candidate has the same tensors:
the same names and shapes, or, where there are no names, the same shapes in the same order. Blocks of the catalogue are decoded anew for
each file, as in a process of its own. Exits with 1 below 99 % with another head or 95 % without names.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import time
from collections.abc import Callable, Iterator

from ckptaudit.arch.catalogue import _decoded, shipped
from ckptaudit.arch.sources import built_in
from ckptaudit.graph import LayerGraph, TensorSpec
from ckptaudit.identification import Candidate, identify
from ckptaudit.identification.index import Entry, Template
from ckptaudit.identification.index import shipped as shipped_index

CLASSES = 7
REQUIRED = {"another head": 0.99, "random names": 0.95}

StateDict = tuple[tuple[str, tuple[int, ...]], ...]


def main() -> int:
    """Print one line for each miss and the figures of both series; 1 when too few are right."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1, help="take every N-th architecture only")
    every: int = parser.parse_args().every
    entries = [entry for groups in shipped_index().classes for group in groups for entry in group][::every]
    letters = random.Random(0)
    passed = True
    for series, make in (("another head", list), ("random names", lambda specs: list(_random_names(specs, letters)))):
        passed &= _series(series, entries, make)
    return 0 if passed else 1


def _series(series: str, entries: list[Entry], make: Callable[[LayerGraph], list[TensorSpec]]) -> bool:
    right = sure = 0
    wrong_but_sure = 0
    seconds = []
    for entry in entries:
        built = _built(entry)
        graph = LayerGraph.from_tensors(make(built), built.framework)
        _decoded.cache_clear()
        start = time.perf_counter()
        found = identify(graph)
        seconds.append(time.perf_counter() - start)
        first = found.candidates[0]
        fits = _same(entry, first, names=series == "another head")
        right += fits
        sure += found.certainty == "sure"
        wrong_but_sure += found.certainty == "sure" and not fits
        if not fits:
            print(f"{series}: {entry.source}:{entry.name} is said to be {first.arch} ({first.score:.3f}, {found.certainty})")
    seconds.sort()
    print(
        f"{series}: {right} of {len(entries)} right ({right / len(entries):.2%}), {sure} of them sure, {wrong_but_sure} wrong and sure; "
        f"median {statistics.median(seconds):.3f} s, 95 % under {seconds[int(0.95 * len(seconds))]:.3f} s"
    )
    return right >= REQUIRED[series] * len(entries) and not wrong_but_sure


def _built(entry: Entry) -> LayerGraph:
    classes = {} if entry.classes is None else {str(built_in()[entry.source].CLASSES): CLASSES}
    model = shipped().model(entry.source, entry.name, {**entry.arguments, **classes})
    assert model is not None, entry.name
    return model.graph


def _random_names(specs: LayerGraph, letters: random.Random) -> Iterator[TensorSpec]:
    for spec in specs:
        name = re.sub(r"[^./]+", lambda _: "".join(letters.choices("abcdefghijklmnopqrstuvwxyz", k=8)), spec.name)
        yield TensorSpec(name, spec.shape, spec.dtype, spec.buffer)


def _same(entry: Entry, candidate: Candidate, *, names: bool) -> bool:
    source, colon, name = candidate.arch.rpartition(":")
    source = source if colon else shipped_index().first_source(name)
    sized = (built_in()[source].CLASSES, built_in()[source].CHANNELS)
    held = next(
        other
        for groups in shipped_index().classes
        for group in groups
        for other in group
        if (other.source, other.name) == (source, name)
        and dict(other.arguments) == {key: value for key, value in candidate.arguments.items() if key not in sized}
    )
    return _tensors(entry, names) == _tensors(held, names)


def _tensors(entry: Entry, names: bool) -> StateDict:
    return tuple((spec.name if names else "", spec.shape) for spec in Template.of(entry, shipped()).fixed.values())


if __name__ == "__main__":
    raise SystemExit(main())
