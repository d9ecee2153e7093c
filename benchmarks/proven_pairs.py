"""Pairs of one architecture in two libraries with proven mappings, and the judge of what an aligner makes of them.

The pairs are data outside the repository: a folder with ``pairs.json.xz`` and ``score.py``, named by the environment variable
``CKPTAUDIT_REMAP_BENCH``. A target whose source was taken away has no right answer: any step for it is wrong, and wrong with
confidence if its grade is not ``ambiguous``.
"""

from __future__ import annotations

import importlib.util
import json
import lzma
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, NotRequired, TypedDict

import ckptaudit

VARIABLE = "CKPTAUDIT_REMAP_BENCH"


class Tensor(NamedTuple):
    """One tensor of one side."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Truth(TypedDict):
    """How one target tensor is made, in the terms of ``score.py``."""

    dst: str
    src: list[str]
    op: str
    inert: NotRequired[bool]
    const: NotRequired[bool]
    inert_slice: NotRequired[bool]


class Step(TypedDict):
    """What the mapper proposes for one target tensor, in the terms of ``score.py``."""

    dst: str
    src: list[str]
    op: str
    grade: str
    others: NotRequired[list[str]]


@dataclass(frozen=True)
class Pair:
    """One architecture in two libraries; ``gone`` are the targets whose source a change took away."""

    name: str
    source: list[Tensor]
    target: list[Tensor]
    truth: list[Truth]
    gone: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Result:
    """Counts of one changed pair.

    ``claimed`` are the wrong steps that were not called ambiguous, with their true sources; ``listed`` those of the ``ambiguous`` steps
    that name the true sources, first or as runners-up.
    """

    hit: int
    sure: int
    wrong: int
    claimed: list[tuple[str, list[str], list[str] | None]]
    scope: int
    seconds: float
    ambiguous: int = 0
    listed: int = 0


def inverted(pair: Pair) -> Pair:
    """Turn a pair round, truth included; parts of one tensor are joined again where the truth names all of them."""
    source_shapes = {tensor.name: tensor.shape for tensor in pair.source}
    target_shapes = {tensor.name: tensor.shape for tensor in pair.target}
    truth: list[Truth] = []
    splits: defaultdict[tuple[str, str, int], dict[int, Truth]] = defaultdict(dict)
    for entry in pair.truth:
        first, *_ = entry["op"].split("|")
        kind, *arguments = first.split(":")
        if kind == "concat":
            count = len(entry["src"])
            for index, name in enumerate(entry["src"]):
                truth.append(turned(entry, name, f"split:{arguments[0]}:{index}/{count}"))
        elif kind == "split":
            index, count = map(int, arguments[1].split("/"))
            splits[entry["src"][0], arguments[0], count][index] = entry
        else:
            name = entry["src"][0]
            truth.append(turned(entry, name, inverse_op(entry["op"], source_shapes[name], target_shapes[entry["dst"]])))
    for (name, dimension, count), found in splits.items():
        if len(found) != count:
            continue
        joined: Truth = {"dst": name, "src": [found[index]["dst"] for index in range(count)], "op": f"concat:{dimension}"}
        if any("inert" in part or "const" in part for part in found.values()):
            joined["inert_slice"] = True
        truth.append(joined)
    return Pair(pair.name + "~reversed", source=pair.target, target=pair.source, truth=truth)


def turned(entry: Truth, name: str, op: str) -> Truth:
    """Say how a former source tensor is made of the former target tensor; what made that one unjudged makes this one so."""
    new: Truth = {"dst": name, "src": [entry["dst"]], "op": op}
    if "inert" in entry:
        new["inert"] = entry["inert"]
    if "const" in entry:
        new["const"] = entry["const"]
    return new


def inverse_op(op: str, stored: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Return the op that undoes one of a single tensor, whose shapes before and after are given."""
    parts = op.split("|")
    transpose = next((part for part in parts if part.startswith("transpose")), None)
    if transpose is None:
        return "copy"
    axes = [int(axis) for axis in transpose.split(":")[1].split(",")]
    inverse = "transpose:" + ",".join(str(axes.index(axis)) for axis in range(len(axes)))
    if parts[-1] == "squeeze":
        unsqueezed = [stored[axis] for axis in axes]
        assert len(unsqueezed) > len(wanted), f"{op} squeezes nothing"
        return "reshape:" + ",".join(map(str, unsqueezed)) + "|" + inverse
    return inverse + "|squeeze" if parts[0].startswith("reshape") else inverse


Mapper = Callable[[Pair], Iterable[Step]]


def proposed(pair: Pair) -> Iterator[Step]:
    """Yield the steps of ckptaudit's plan for a pair."""
    source, target = ({tensor.name: (tensor.shape, tensor.dtype) for tensor in side} for side in (pair.source, pair.target))
    for step in ckptaudit.propose(source, target).steps:
        op = "|".join(op.spelled() for op in step.ops) or "copy"
        yield {"dst": step.target, "src": list(step.sources), "op": op, "grade": step.grade, "others": list(step.runner_up or ())}


def judge(score: ModuleType, pair: Pair, mapper: Mapper = proposed) -> Result:
    """Count what is right and wrong in the plan for a pair, of the tensors that the proof of its truth could see."""
    visible = {
        tensor.name
        for tensor in pair.target
        if tensor.dtype.startswith(("float", "bfloat")) and not score.DERIVED.search(tensor.name.lower())
    }
    truth = {entry["dst"]: entry for entry in pair.truth}
    judged = {name for name, entry in truth.items() if name in visible and not entry.get("inert") and not entry.get("const")}
    without_answer = pair.gone & visible
    hit = sure = wrong = ambiguous = listed = 0
    claimed: list[tuple[str, list[str], list[str] | None]] = []
    start = time.perf_counter()
    for step in mapper(pair):
        name, certain = step["dst"], step["grade"] != "ambiguous"
        if name in judged and not certain:
            ambiguous += 1
            listed += {*truth[name]["src"]} <= {*step["src"], *step.get("others", ())}
        if name in judged and score.right(step, truth[name]):
            hit += 1
            sure += certain
        elif name in judged or name in without_answer:
            wrong += 1
            if certain:
                claimed.append((name, step["src"], truth[name]["src"] if name in truth else None))
    return Result(hit, sure, wrong, claimed, len(judged), time.perf_counter() - start, ambiguous, listed)


def load_score(folder: Path) -> ModuleType:
    """Import ``score.py`` of a folder, without making the folder importable."""
    specification = importlib.util.spec_from_file_location("score", folder / "score.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def load_pairs(folder: Path) -> list[Pair]:
    """Read ``pairs.json.xz`` of a folder."""
    with lzma.open(folder / "pairs.json.xz", "rt", encoding="utf-8") as file:
        rows = json.load(file)
    sides = [[[Tensor(name, tuple(shape), dtype) for name, shape, dtype in row[side]] for side in ("source", "target")] for row in rows]
    return [Pair(row["name"], source, target, row["truth"]) for row, (source, target) in zip(rows, sides, strict=True)]


def pairs_folder(named: str | None = None) -> Path:
    """Return the folder of pairs; leave with one line where it is not named or not there."""
    folder = named or os.environ.get(VARIABLE)
    if not folder:
        raise SystemExit(f"No pairs: set {VARIABLE} or --pairs-folder to the folder with pairs.json.xz and score.py")
    for name in ("pairs.json.xz", "score.py"):
        if not (Path(folder) / name).is_file():
            raise SystemExit(f"No pairs: {folder} has no {name}")
    return Path(folder)
