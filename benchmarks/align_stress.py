"""Stress the aligner: proven pairs whose source was renamed, shuffled, damaged or doubled.

    python benchmarks/align_stress.py [--pairs-folder FOLDER] [--only REGEX] [--rows REGEX] [--sample N] [--seeds N] [--reverse] [--show N]

Every row changes the source of each pair, and the truth with it. See ``proven_pairs.py`` for where the pairs come from and what
counts as wrong, ``changes.py`` for the rows.
"""

from __future__ import annotations

import argparse
import random
import re

from changes import ROWS
from proven_pairs import Pair, Result, inverted, judge, load_pairs, load_score, pairs_folder


def summary(row: str, results: list[Result]) -> str:
    """One line of the table: means over the pairs for precision and recall, over the tensors for what is sure and what lists the truth."""
    if not results:
        return f"{row:30s} no pair to change"
    precisions = [result.hit / (result.hit + result.wrong) for result in results if result.hit + result.wrong]
    precision = sum(precisions) / max(1, len(precisions))
    recall = sum(result.hit / max(1, result.scope) for result in results) / len(results)
    sure = sum(result.sure for result in results) / max(1, sum(result.scope for result in results))
    passed = sum(result.hit == result.scope and not result.wrong for result in results)
    claimed = [len(result.claimed) for result in results if result.claimed]
    listed = sum(result.listed for result in results) / max(1, sum(result.ambiguous for result in results))
    return (
        f"{row:30s} {precision:.3f}     {recall:.3f}  {sure:.3f}  {listed:.3f}   {passed:4d} of {len(results):4d}  "
        f"{sum(claimed)} tensors in {len(claimed)} pairs  ({sum(result.seconds for result in results):.0f} s)"
    )


def parsed_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs-folder", help="default: environment variable CKPTAUDIT_REMAP_BENCH")
    parser.add_argument("--only", default="", metavar="REGEX", help="pairs whose name matches")
    parser.add_argument("--rows", default="", metavar="REGEX", help="changes whose name matches")
    parser.add_argument("--sample", type=int, metavar="N", help="N pairs drawn anew for each row and seed (default: all)")
    parser.add_argument("--seeds", type=int, default=1, help="how many times each random change is made")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--reverse", action="store_true", help="map each pair's target to its source")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N pairs of each row with confidently wrong steps")
    return parser.parse_args()


def main() -> None:
    """Print one line for each row."""
    arguments = parsed_arguments()
    folder = pairs_folder(arguments.pairs_folder)
    score = load_score(folder)
    pairs = [pair for pair in load_pairs(folder) if re.search(arguments.only, pair.name)]
    if arguments.reverse:
        pairs = [inverted(pair) for pair in pairs]
    print(f"{'row':30s} precision recall sure   listed  pass      confidently wrong")
    for name, row in ROWS.items():
        if not re.search(arguments.rows, name):
            continue
        results: list[Result] = []
        shown = 0
        for seed in range(arguments.first_seed, arguments.first_seed + (arguments.seeds if row.seeded else 1)):
            for pair in drawn(pairs, arguments.sample, f"{name}/{seed}"):
                changed = row.change(pair, random.Random(f"{name}/{pair.name}/{seed}"))
                if changed is None:
                    continue
                result = judge(score, changed)
                results.append(result)
                if result.claimed and shown < arguments.show:
                    shown += 1
                    print("   ", pair.name, seed, len(result.claimed), result.claimed[:3])
        print(summary(name, results), flush=True)


def drawn(pairs: list[Pair], number: int | None, seed: str) -> list[Pair]:
    """Return some of the pairs, the same for the same seed."""
    return pairs if number is None or number >= len(pairs) else random.Random(seed).sample(pairs, number)


if __name__ == "__main__":
    main()
