"""Models of ``keras.applications`` with random values: saved in every format of Keras, restored into a rebuild under other names.

    KERAS_BACKEND=torch python benchmarks/keras_round_trips.py [NAME …]

A row for each model and format: the verdict, how many tensors were set, whether all values are those that were saved, and the largest
difference of the outputs. The last line says how many are equal; the exit code is 1 where one is not.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import ckptaudit

os.environ.setdefault("KERAS_BACKEND", "torch")
warnings.simplefilter("ignore")

#: Name → length of the sides of the input: small ones, so that dense layers behind a flattened map stay small.
MODELS = {
    "ConvNeXtTiny": 64,
    "DenseNet121": 64,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "InceptionResNetV2": 80,
    "InceptionV3": 80,
    "MobileNet": 64,
    "MobileNetV2": 64,
    "MobileNetV3Small": 64,
    "NASNetMobile": 64,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "VGG16": 64,
    "Xception": 80,
}
FORMATS = ("weights.h5", "h5", "keras")


def trained(name: str, side: int, classes: int = 10) -> Any:
    """A model as a new process would build it, with random statistics and biases beside its random kernels."""
    import keras

    keras.utils.clear_session()
    model = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=classes, classifier_activation=None)
    random = np.random.default_rng(0)
    values = [
        random.uniform(0.5, 1.5, value.shape).astype(value.dtype) if value.ndim == 1 and not weight.path.endswith("count") else value
        for weight, value in zip(model.weights, model.get_weights(), strict=True)
    ]
    model.set_weights(values)
    return model


def renamed(model: Any) -> Any:
    """The same network with fresh values, all its layers under other names."""
    import keras

    counter = iter(range(10**6))

    def other(layer: Any) -> Any:
        config = layer.get_config() | {"name": f"part{next(counter)}"}
        if isinstance(layer, keras.Sequential):
            for inner in config["layers"]:
                inner["config"]["name"] = f"part{next(counter)}"
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=other)


def saved(model: Any, form: str, folder: Path) -> Path:
    """The model as a file of one of Keras' formats."""
    path = folder / f"model.{form}"
    model.save_weights(path) if form == "weights.h5" else model.save(path)
    return path


def outputs(model: Any, image: Any) -> Any:
    """What it computes, without training mode."""
    import keras

    return keras.ops.convert_to_numpy(model(image, training=False))


@dataclass(frozen=True)
class Row:
    """What came of one model in one format."""

    status: str
    tensors: tuple[int, int]
    same: bool
    difference: float
    seconds: float

    @property
    def good(self) -> bool:
        """Whether everything was set, to what was saved."""
        return self.same and self.tensors[0] == self.tensors[1] and self.difference == 0


def round_trip(name: str, side: int, form: str, model: Any = None) -> Row:
    """Save, restore into a renamed rebuild, compare."""
    model = model or trained(name, side)
    target = renamed(model)
    with tempfile.TemporaryDirectory() as folder:
        path = saved(model, form, Path(folder))
        start = time.perf_counter()
        audit = ckptaudit.load(target, path)
        seconds = time.perf_counter() - start
    image = np.random.default_rng(1).random((2, side, side, 3), "float32")
    same = all(np.array_equal(a, b) for a, b in zip(model.get_weights(), target.get_weights(), strict=True))
    difference = float(np.abs(outputs(model, image) - outputs(target, image)).max())
    return Row(audit.verdict.status, audit.coverage.tensors, same, difference, seconds)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=[], help=f"of {', '.join(MODELS)}")
    names = parser.parse_args().names or list(MODELS)
    print("| model | format | verdict | tensors set | values | outputs differ by | load |\n|---|---|---|---|---|---|---|")
    good = total = 0
    for name in names:
        try:
            model = trained(name, MODELS[name])
        except ValueError as error:  # NASNet does not run on the torch backend
            print(f"| {name} | | not built: {error} | | | | |")
            continue
        for form in FORMATS:
            row = round_trip(name, MODELS[name], form, model)
            total += 1
            good += row.good
            print(
                f"| {name} | {form} | {row.status} | {row.tensors[0]} of {row.tensors[1]} | {'equal' if row.same else 'NOT EQUAL'} "
                f"| {row.difference:.1e} | {row.seconds:.1f} s |",
                flush=True,
            )
    print(f"\n{good} of {total} equal")
    return 0 if good == total else 1


if __name__ == "__main__":
    sys.exit(main())
