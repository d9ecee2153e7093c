"""Stress the aligner: proven pairs whose source was renamed, shuffled, damaged or doubled.

    python benchmarks/align_stress.py [--pairs-folder FOLDER] [--only REGEX] [--rows REGEX] [--seeds N] [--reverse] [--show N]

The pairs are data outside the repository: a folder with ``pairs.json.xz`` and ``score.py``, named by ``--pairs-folder`` or by the
environment variable ``CKPTAUDIT_REMAP_BENCH``. Every row changes the source of each pair, and the truth with it. A target whose
source was taken away has no right answer: any step for it is wrong, and wrong with confidence if its grade is not ``ambiguous``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import lzma
import os
import random
import re
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, NotRequired, TypedDict

import ckptaudit

VARIABLE = "CKPTAUDIT_REMAP_BENCH"

#: Last parts of names that say what a tensor is to its layer: kept where only the layers' words are renamed.
ROLES = frozenset(
    ["weight", "bias", "running_mean", "running_var", "num_batches_tracked", "kernel", "gamma", "beta", "moving_mean", "moving_variance"]
)
#: Sizes of class axes in the pairs, and what another number of classes makes of them.
CLASS_COUNTS, OTHER_CLASS_COUNT = (50, 21), 37
#: Channels of an image, and what another kind of image makes of them.
IMAGE_CHANNELS, OTHER_CHANNELS = 3, 5
#: What stands before the trained weights and before their running average.
EMA_PREFIXES = [("", "ema"), ("model", "model_ema"), ("student", "teacher"), ("net", "shadow_net"), ("online", "target")]

WORD = re.compile(r"[A-Za-z]+|\d+|[^A-Za-z\d]+")
SEPARATOR = re.compile(r"([./])")
LAST_SEPARATOR = re.compile(r"[./](?!.*[./])")


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
    """Counts of one changed pair; ``claimed`` are the wrong steps that were not called ambiguous, with their true sources."""

    hit: int
    sure: int
    wrong: int
    claimed: list[tuple[str, list[str], list[str] | None]]
    scope: int
    seconds: float


Change = Callable[[Pair, random.Random], Pair | None]


def made_up_words(rng: random.Random) -> Callable[[str], str]:
    """Give each word one made-up word of its own, the same every time it is met."""
    made: dict[str, str] = {}
    used: set[str] = set()

    def word_for(word: str) -> str:
        while word not in made:
            new = "".join(rng.choice("bcdfghjklmnprstvz") + rng.choice("aeiou") for _ in range(3))
            if new not in used:
                used.add(new)
                made[word] = new
        return made[word]

    return word_for


def rename(pair: Pair, new_name: Callable[[str], str]) -> Pair:
    """Rename every source tensor, in the truth too."""
    source = [tensor._replace(name=new_name(tensor.name)) for tensor in pair.source]
    assert len({tensor.name for tensor in source}) == len(source), f"{pair.name}: two tensors were given one name"
    truth: list[Truth] = [{**entry, "src": [new_name(name) for name in entry["src"]]} for entry in pair.truth]
    return replace(pair, source=source, truth=truth)


def words_renamed(pair: Pair, rng: random.Random) -> Pair:
    """Rename all words but the roles; numbers and punctuation stay."""
    word_for = made_up_words(rng)

    def new_part(part: str) -> str:
        return "".join(word_for(token) if token.isalpha() else token for token in WORD.findall(part))

    def new_name(name: str) -> str:
        *front, last = SEPARATOR.split(name)
        if last not in ROLES:
            tail = re.match(r"^(.*?)(_?(?:weight|bias|kernel))$", last)
            last = new_part(tail[1]) + tail[2] if tail and tail[1] else new_part(last)
        return "".join(part if part in "./" else new_part(part) for part in front) + last

    return rename(pair, new_name)


def everything_renamed(pair: Pair, rng: random.Random) -> Pair:
    """Rename each part between separators as a whole, numbers and roles included."""
    word_for = made_up_words(rng)
    return rename(pair, lambda name: "".join(part if part in "./" else word_for(part) for part in SEPARATOR.split(name)))


@dataclass
class Folder:
    """What shares one prefix: tensors and folders in the order in which they were met."""

    entries: list[Folder | Tensor] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)

    def folder(self, part: str) -> Folder:
        """Return the folder of that name, made where there is none."""
        if part not in self.folders:
            self.folders[part] = Folder()
            self.entries.append(self.folders[part])
        return self.folders[part]

    def shuffled(self, rng: random.Random) -> Iterator[Tensor]:
        """Yield all tensors; siblings change places, but the tensors of one layer keep their order."""
        entries = list(self.entries)
        if self.folders:
            rng.shuffle(entries)
        for entry in entries:
            if isinstance(entry, Folder):
                yield from entry.shuffled(rng)
            else:
                yield entry


def siblings_shuffled(pair: Pair, rng: random.Random) -> Pair:
    """Change the order of definition among siblings, on every level."""
    root = Folder()
    for tensor in pair.source:
        folder = root
        for part in re.split(r"[./]", tensor.name)[:-1]:
            folder = folder.folder(part)
        folder.entries.append(tensor)
    return replace(pair, source=list(root.shuffled(rng)))


def lose(pair: Pair, lost: Collection[str]) -> Pair:
    """Take the truth away from the targets that are made of lost source tensors."""
    gone = frozenset(entry["dst"] for entry in pair.truth if any(name in lost for name in entry["src"]))
    return replace(pair, truth=[entry for entry in pair.truth if entry["dst"] not in gone], gone=gone)


def without(pair: Pair, lost: Collection[str]) -> Pair:
    """Drop source tensors."""
    return replace(lose(pair, lost), source=[tensor for tensor in pair.source if tensor.name not in lost])


def resized(pair: Pair, new_shape: Callable[[tuple[int, ...]], tuple[int, ...] | None]) -> Pair:
    """Resize the source tensors for which there is a new shape: they fit no more."""
    changed = {tensor.name: shape for tensor in pair.source if (shape := new_shape(tensor.shape)) is not None}
    source = [tensor._replace(shape=changed.get(tensor.name, tensor.shape)) for tensor in pair.source]
    return replace(lose(pair, changed), source=source)


def other_classes(pair: Pair, _rng: random.Random) -> Pair:
    """Give the source another number of classes."""

    def new_shape(shape: tuple[int, ...]) -> tuple[int, ...] | None:
        if not any(size in CLASS_COUNTS for size in shape[:1] + shape[-1:]):
            return None
        return tuple(OTHER_CLASS_COUNT if size in CLASS_COUNTS else size for size in shape)

    return resized(pair, new_shape)


def other_channels(pair: Pair, _rng: random.Random) -> Pair:
    """Give the source's first kernel another number of input channels, whichever the layout of kernels."""

    def new_shape(shape: tuple[int, ...]) -> tuple[int, ...] | None:
        if len(shape) != 4:
            return None
        channels_last = shape[0] == shape[1] <= 16 and shape[3] > 11
        axis = 2 if channels_last else 1
        return (*shape[:axis], OTHER_CHANNELS, *shape[axis + 1 :]) if shape[axis] == IMAGE_CHANNELS else None

    return resized(pair, new_shape)


def module_of(name: str) -> str:
    """Return what stands before the last separator; the name itself where there is none."""
    return LAST_SEPARATOR.split(name)[0]


def block_dropped(pair: Pair, rng: random.Random) -> Pair | None:
    """Drop one numbered block of several layers; None where there is none of less than half of the tensors."""
    under: defaultdict[str, set[str]] = defaultdict(set)
    for tensor in pair.source:
        parts = SEPARATOR.split(tensor.name)
        for index in range(0, len(parts) - 2, 2):
            if re.search(r"\d", parts[index]):
                under["".join(parts[: index + 1])].add(tensor.name)
    most = 0.5 * len(pair.source)
    blocks = sorted(block for block, names in under.items() if len(set(map(module_of, names))) >= 2 and len(names) < most)
    return without(pair, under[rng.choice(blocks)]) if blocks else None


def modules_dropped(pair: Pair, rng: random.Random) -> Pair:
    """Drop a tenth of the modules that own tensors, at least one."""
    modules = sorted({module_of(tensor.name) for tensor in pair.source})
    dropped = set(rng.sample(modules, max(1, round(0.1 * len(modules)))))
    return without(pair, {tensor.name for tensor in pair.source if module_of(tensor.name) in dropped})


def second_copy(pair: Pair, rng: random.Random) -> Pair:
    """Put a running average of all weights behind the weights that the truth is about."""
    separator = "/" if "/" in pair.source[0].name else "."
    prefix, copy = rng.choice(EMA_PREFIXES)
    front = prefix + separator if prefix else ""
    new = rename(pair, lambda name: front + name)
    return replace(new, source=new.source + [tensor._replace(name=copy + separator + tensor.name) for tensor in pair.source])


@dataclass(frozen=True)
class Row:
    """One kind of change; a seeded one is repeated with every seed."""

    change: Change
    seeded: bool = True


ROWS = {
    "unchanged": Row(lambda pair, _: pair, seeded=False),
    "words renamed": Row(words_renamed),
    "everything renamed": Row(everything_renamed),
    "siblings shuffled": Row(siblings_shuffled),
    "alphabetical order": Row(lambda pair, _: replace(pair, source=sorted(pair.source)), seeded=False),
    "both alphabetical": Row(lambda pair, _: replace(pair, source=sorted(pair.source), target=sorted(pair.target)), seeded=False),
    "renamed and shuffled": Row(lambda pair, rng: siblings_shuffled(words_renamed(pair, rng), rng)),
    "other num_classes": Row(other_classes, seeded=False),
    "other in_channels": Row(other_channels, seeded=False),
    "one numbered block dropped": Row(block_dropped),
    "10 % of leaf modules dropped": Row(modules_dropped),
    "dropped and renamed": Row(lambda pair, rng: words_renamed(modules_dropped(pair, rng), rng)),
    "dropped and shuffled": Row(lambda pair, rng: siblings_shuffled(modules_dropped(pair, rng), rng)),
    "second EMA copy": Row(second_copy),
}


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


def proposed(pair: Pair) -> Iterator[Step]:
    """Yield the steps of ckptaudit's plan for a pair."""
    source, target = ({tensor.name: (tensor.shape, tensor.dtype) for tensor in side} for side in (pair.source, pair.target))
    for step in ckptaudit.propose(source, target).steps:
        op = "|".join(op.spelled() for op in step.ops) or "copy"
        yield {"dst": step.target, "src": list(step.sources), "op": op, "grade": step.grade}


def judge(score: ModuleType, pair: Pair) -> Result:
    """Count what is right and wrong in the plan for a pair, of the tensors that the proof of its truth could see."""
    visible = {
        tensor.name
        for tensor in pair.target
        if tensor.dtype.startswith(("float", "bfloat")) and not score.DERIVED.search(tensor.name.lower())
    }
    truth = {entry["dst"]: entry for entry in pair.truth}
    judged = {name for name, entry in truth.items() if name in visible and not entry.get("inert") and not entry.get("const")}
    without_answer = pair.gone & visible
    hit = sure = wrong = 0
    claimed: list[tuple[str, list[str], list[str] | None]] = []
    start = time.perf_counter()
    for step in proposed(pair):
        name, certain = step["dst"], step["grade"] != "ambiguous"
        if name in judged and score.right(step, truth[name]):
            hit += 1
            sure += certain
        elif name in judged or name in without_answer:
            wrong += 1
            if certain:
                claimed.append((name, step["src"], truth[name]["src"] if name in truth else None))
    return Result(hit, sure, wrong, claimed, len(judged), time.perf_counter() - start)


def summary(row: str, results: list[Result]) -> str:
    """One line of the table: means over the pairs for precision and recall, over the tensors for what is sure."""
    if not results:
        return f"{row:30s} no pair to change"
    precisions = [result.hit / (result.hit + result.wrong) for result in results if result.hit + result.wrong]
    precision = sum(precisions) / max(1, len(precisions))
    recall = sum(result.hit / max(1, result.scope) for result in results) / len(results)
    sure = sum(result.sure for result in results) / max(1, sum(result.scope for result in results))
    passed = sum(result.hit == result.scope and not result.wrong for result in results)
    claimed = [len(result.claimed) for result in results if result.claimed]
    return (
        f"{row:30s} {precision:.3f}     {recall:.3f}  {sure:.3f}  {passed:4d} of {len(results):4d}  "
        f"{sum(claimed)} tensors in {len(claimed)} pairs  ({sum(result.seconds for result in results):.0f} s)"
    )


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


def parsed_arguments() -> argparse.Namespace:
    """Read the command line; leave with one line where the folder of pairs is not named or not there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs-folder", default=os.environ.get(VARIABLE), help=f"default: environment variable {VARIABLE}")
    parser.add_argument("--only", default="", metavar="REGEX", help="pairs whose name matches")
    parser.add_argument("--rows", default="", metavar="REGEX", help="changes whose name matches")
    parser.add_argument("--seeds", type=int, default=1, help="how many times each random change is made")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--reverse", action="store_true", help="map each pair's target to its source")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N pairs of each row with confidently wrong steps")
    arguments = parser.parse_args()
    if not arguments.pairs_folder:
        raise SystemExit(f"No pairs: set {VARIABLE} or --pairs-folder to the folder with pairs.json.xz and score.py")
    arguments.pairs_folder = Path(arguments.pairs_folder)
    for name in ("pairs.json.xz", "score.py"):
        if not (arguments.pairs_folder / name).is_file():
            raise SystemExit(f"No pairs: {arguments.pairs_folder} has no {name}")
    return arguments


def main() -> None:
    """Print one line for each row."""
    arguments = parsed_arguments()
    score = load_score(arguments.pairs_folder)
    pairs = [pair for pair in load_pairs(arguments.pairs_folder) if re.search(arguments.only, pair.name)]
    if arguments.reverse:
        pairs = [inverted(pair) for pair in pairs]
    print(f"{'row':30s} precision recall sure   pass      confidently wrong")
    for name, row in ROWS.items():
        if not re.search(arguments.rows, name):
            continue
        results: list[Result] = []
        shown = 0
        for seed in range(arguments.first_seed, arguments.first_seed + (arguments.seeds if row.seeded else 1)):
            for pair in pairs:
                changed = row.change(pair, random.Random(f"{name}/{pair.name}/{seed}"))
                if changed is None:
                    continue
                result = judge(score, changed)
                results.append(result)
                if result.claimed and shown < arguments.show:
                    shown += 1
                    print("   ", pair.name, seed, len(result.claimed), result.claimed[:3])
        print(summary(name, results), flush=True)


if __name__ == "__main__":
    main()
