"""The proven pairs by other ways, side by side with ckptaudit: what is right, wrong and missing, and what is wrong without a word.

    python benchmarks/align_rivals.py [--pairs-folder FOLDER] [--every N] [--only REGEX] [--ways REGEX] [--limit SECONDS]

``weightbridge`` and ``torch-liberator`` are asked where they are installed; detectron2's suffix rule and the zip in order are written down
here in a few lines. None of them grades its steps, so that each wrong step is claimed. They are judged by which tensors they take; how
these are turned or cut is granted them. One that raises, or takes longer than the limit, gives up and counts as missing everything.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import re
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from proven_pairs import Mapper, Pair, Step, Tensor, judge, load_pairs, load_score, pairs_folder, proposed

Taken = dict[str, str]


def suffix(pair: Pair) -> Taken:
    """Detectron2's rule: of the source's names that end a target's name, or equal it, the longest, if the shapes agree."""
    shapes = {tensor.name: tensor.shape for tensor in pair.source}
    found: Taken = {}
    for name, shape, _ in pair.target:
        fitting = [other for other in shapes if name == other or name.endswith("." + other)]
        if fitting and shapes[best := max(fitting, key=len)] == shape and best not in found.values():
            found[name] = best
    return found


def in_order(pair: Pair) -> Taken:
    """The n-th tensor is the n-th tensor, up to the first whose number of elements differs; counters left out."""
    sides = [[tensor for tensor in side if not tensor.name.endswith("num_batches_tracked")] for side in (pair.source, pair.target)]
    found: Taken = {}
    for old, new in zip(*sides, strict=False):
        if elements(old) != elements(new):
            break
        found[new.name] = old.name
    return found


def elements(tensor: Tensor) -> int:
    """How many numbers it holds."""
    count = 1
    for size in tensor.shape:
        count *= size
    return count


def weightbridge(pair: Pair) -> Taken:
    """Every source tensor is filled with its number, and found again by it."""
    import numpy
    from weightbridge import adapt  # type: ignore[import-not-found]

    old = {t.name: numpy.broadcast_to(numpy.float32(i), t.shape) for i, t in enumerate(pair.source)}
    new = {t.name: numpy.broadcast_to(numpy.float32(-1), t.shape) for t in pair.target}
    last = "tensorflow", "pytorch"
    formats = [last[0 if any(t.name.endswith(("kernel", "gamma")) for t in side) else 1] for side in (pair.source, pair.target)]
    result = adapt(old, new, in_format=formats[0], out_format=formats[1], ignore_unmatched_inputs=True, ignore_unmatched_outputs=True)
    return {name: pair.source[int(number)].name for name, value in result.items() if (number := value.flat[0] if value.size else -1) >= 0}


class Model:
    """As much of a module as torch-liberator asks for."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        """The tensors."""
        return dict(self.state)

    def load_state_dict(self, state: dict[str, Any], **_: object) -> None:
        """Other tensors in their places."""
        self.state = dict(state)


def liberator(pair: Pair) -> Taken:
    """Which tensors stand in the model's places afterwards; shapes that differ are left alone, as by default nothing is left of them."""
    import torch
    from torch_liberator import load_partial_state  # type: ignore[import-not-found]

    old, new = ({t.name: torch.zeros(()).expand(t.shape) for t in side} for side in (pair.source, pair.target))
    names = {id(tensor): name for name, tensor in old.items()}
    model = Model(new)
    load_partial_state(model, old, leftover=None, mangle=False, verbose=0)
    return {name: names[id(tensor)] for name, tensor in model.state.items() if id(tensor) in names}


def as_mapper(way: Callable[[Pair], Taken]) -> Mapper:
    """Steps of a way that says which tensor goes where and nothing more."""

    def mapper(pair: Pair) -> Iterator[Step]:
        truth = {entry["dst"]: entry for entry in pair.truth}
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            taken = way(pair)
        for name, source in taken.items():
            known = truth.get(name)
            right = known is not None and known["src"] == [source]
            yield {"dst": name, "src": [source], "op": known["op"] if known is not None and right else "copy", "grade": "decided"}

    return mapper


WAYS: dict[str, tuple[str | None, Mapper]] = {
    "ckptaudit": (None, proposed),
    "weightbridge": ("weightbridge", as_mapper(weightbridge)),
    "torch-liberator": ("torch_liberator", as_mapper(liberator)),
    "detectron2's suffix rule": (None, as_mapper(suffix)),
    "zip in order": (None, as_mapper(in_order)),
}


@dataclass
class Row:
    """Counts over all pairs."""

    passed: int = 0
    right: int = 0
    wrong: int = 0
    missing: int = 0
    claimed: int = 0
    astray: int = 0
    gave_up: int = 0
    seconds: float = 0.0


def measured(score: ModuleType, pairs: list[Pair], mapper: Mapper, limit: int) -> Row:
    """Judge one way over the pairs."""
    row = Row()
    for pair in pairs:
        scope = judge(score, pair, lambda _: []).scope
        start = time.perf_counter()
        signal.alarm(limit)
        try:
            result = judge(score, pair, mapper)
        except Exception:  # whatever another library raises is its way to give up
            row.gave_up += 1
            row.missing += scope
        else:
            row.passed += result.hit == result.scope and not result.wrong
            row.right += result.hit
            row.wrong += result.wrong
            row.missing += max(0, result.scope - result.hit - result.wrong)
            row.claimed += len(result.claimed)
            row.astray += bool(result.claimed)
        finally:
            signal.alarm(0)
            row.seconds += time.perf_counter() - start
    return row


def expired(*_: object) -> None:
    """End what takes too long."""
    raise TimeoutError


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs-folder", help="default: environment variable CKPTAUDIT_REMAP_BENCH")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each N-th pair only")
    parser.add_argument("--only", default="", metavar="REGEX", help="pairs whose name matches")
    parser.add_argument("--ways", default="", metavar="REGEX", help="ways whose name matches")
    parser.add_argument("--limit", type=int, default=60, metavar="SECONDS", help="time for one pair")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, expired)
    folder = pairs_folder(arguments.pairs_folder)
    score = load_score(folder)
    pairs = [pair for pair in load_pairs(folder) if re.search(arguments.only, pair.name)][:: arguments.every]
    print("| way | pairs passed | right | wrong | missing | claimed and wrong, in pairs | gave up | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (library, mapper) in WAYS.items():
        if not re.search(arguments.ways, name):
            continue
        if library is not None and importlib.util.find_spec(library) is None:
            print(f"| {name} | not installed |")
            continue
        row = measured(score, pairs, mapper, arguments.limit)
        print(
            f"| {name} | {row.passed} of {len(pairs)} | {row.right} | {row.wrong} | {row.missing} | {row.claimed}, {row.astray} | "
            f"{row.gave_up} | {row.seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
