"""Keras → torch → Keras: the values that come back are the first ones, bit for bit, and all three models compute the same.

    KERAS_BACKEND=torch python benchmarks/keras_there_and_back.py [--only PATTERN]

For every pair of ``live_pairs.py`` with a Keras source: random values are saved as ``.keras``, restored into the torch twin by
``ckptaudit.load``, saved as a state dict, and restored by a plan into a Keras model that was built anew. Nothing ambiguous is applied.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from live_pairs import Pair, pairs, randomise

import ckptaudit

os.environ.setdefault("KERAS_BACKEND", "torch")

#: Largest difference of outputs, in units of their standard deviation.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Row:
    """What came of a pair."""

    tensors: int
    there: float
    back: float
    same: bool

    @property
    def good(self) -> bool:
        """Whether the law holds."""
        return self.same and max(self.there, self.back) <= TOLERANCE


def there_and_back(pair: Pair, folder: Path) -> Row:
    """Raises IncompatibleCheckpoint or PlanError where a plan is not sure."""
    import keras

    keras.utils.clear_session()
    first = pair.source()
    randomise(first)
    file, state = folder / "first.keras", folder / "twin.pth"
    first.save(file)
    twin = pair.target().eval()
    ckptaudit.load(twin, file)
    torch.save(twin.state_dict(), state)
    keras.utils.clear_session()
    second = pair.source()
    plan = ckptaudit.audit(state, second, source_arch=twin).plan
    values = plan.apply(state)
    for weight in second.weights:
        weight.assign(np.asarray(values[weight.path]))
    same = all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))
    image = torch.randn(1, 3, pair.size, pair.size, generator=torch.Generator().manual_seed(0))
    channels_last = image.permute(0, 2, 3, 1).numpy()
    outputs = [_run(model, channels_last, training=False) for model in (first, second)]
    given = _run(twin, image)
    scale = outputs[0].std()
    gaps = [float(np.abs(other - outputs[0]).max() / scale) for other in (given, outputs[1])]
    return Row(len(plan.steps), gaps[0], gaps[1], same)


def _run(model: Callable[..., Any], image: Any, **options: Any) -> Any:
    with torch.no_grad():
        return np.asarray(torch.as_tensor(model(image, **options)).detach())


def main() -> int:
    """Print the table; exit 1 where the law does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="*", help="pairs whose name matches this pattern")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| pair | tensors | torch differs by | Keras again differs by | values |\n|---|---|---|---|---|")
    good = total = 0
    for pair in pairs():
        if not pair.name.startswith("keras") or not fnmatch.fnmatchcase(pair.name, given.only):
            continue
        total += 1
        with tempfile.TemporaryDirectory() as folder:
            try:
                row = there_and_back(pair, Path(folder))
            except ckptaudit.CkptAuditError as error:
                print(f"| {pair.name} | | | | {' '.join(str(error).split())[:200]} |", flush=True)
                continue
        good += row.good
        equal = "equal, every bit" if row.same else "NOT EQUAL"
        print(f"| {pair.name} | {row.tensors} | {row.there:.1e} | {row.back:.1e} | {equal} |", flush=True)
    print(f"\n{good} of {total}")
    return 0 if good == total else 1


if __name__ == "__main__":
    sys.exit(main())
