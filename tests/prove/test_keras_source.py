"""Plans between Keras and torch, and between Keras and Keras, proved by running both models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.prove import keras_networks

pytestmark = pytest.mark.filterwarnings("ignore")  # Keras' own
HERE = Path(__file__).parent
KERAS, TORCH, AVERAGING, OTHER_EPS = (f"{HERE / 'keras_networks.py'}:{name}" for name in ("of_keras", "OfTorch", "averaging", "other_eps"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of Keras and of torch with values that are all different, and one of Keras whose softmax is sure of everything."""
    folder, model, generator = tmp_path_factory.mktemp("keras"), keras_networks.of_keras(), np.random.default_rng(0)
    model.set_weights([generator.uniform(*((-0.2, 0.2) if len(each.shape) > 1 else (0.1, 0.9)), each.shape) for each in model.weights])
    model.save(folder / "a.keras")
    model.save_weights(folder / "a.weights.h5")
    twin = keras_networks.OfTorch()
    state = {
        name: torch.empty(value.shape).uniform_(*((-0.2, 0.2) if value.ndim > 1 else (0.1, 0.9)))
        for name, value in twin.state_dict().items()
    }
    torch.save(state, folder / "a.pth")
    weights = model.get_weights()
    counted_on = keras_networks.of_keras()  # whose layers Keras gives the next numbers
    counted_on.set_weights(weights)
    counted_on.save_weights(folder / "counted_on.weights.h5")
    model.layers[-1].bias.assign([900.0, 0.0, 0.0, 0.0])
    model.save_weights(folder / "sure.weights.h5")
    return folder


# file, model that wrote it, model → exit code, words of the page
CASES = [
    ("a.keras", "self", TORCH, 0, "proved by running both models"),
    ("a.keras", KERAS, TORCH, 0, "proved by running both models"),
    ("a.weights.h5", KERAS, TORCH, 0, "proved by running both models"),
    ("counted_on.weights.h5", KERAS, TORCH, 0, "proved by running both models"),
    ("a.weights.h5", KERAS, AVERAGING, 1, "refuted by running both models"),
    ("a.weights.h5", KERAS, OTHER_EPS, 0, "eps: 0.001 in the model that wrote the file, 1e-05 here (1 layer: stem.1)"),
    ("sure.weights.h5", KERAS, AVERAGING, 3, "much the same for different inputs"),
    ("a.weights.h5", "self", TORCH, 3, "does not describe its model"),
    ("a.keras", "self", KERAS, 0, "proved by running both models"),
    ("a.pth", TORCH, KERAS, 0, "proved by running both models"),
    ("a.pth", AVERAGING, KERAS, 1, "refuted by running both models"),
]


@pytest.mark.parametrize(("file", "source", "target", "code", "words"), CASES)
def test_both_models_are_run(run_beside_keras, files, file, source, target, code, words):
    result = run_beside_keras("remap", files / file, "--arch", target, "--source-arch", source, "--verify")
    assert (result.returncode, "Traceback" in result.stderr) == (code, False), result.stdout + result.stderr
    page = " ".join((result.stdout + result.stderr).split())
    assert words in page
    assert ("eps: " in page) == (target == OTHER_EPS)
    assert code or "safe" in page


def test_a_size_that_was_guessed_wrongly_is_to_be_given(run, run_beside_keras, files, tmp_path):
    """A model that flattens takes one size alone."""
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    common = ("remap", files / "a.keras", "--arch", TORCH, "--verify-with", tmp_path)
    guessed, given = run(*common), run_beside_keras(*common, "--input-size", "3x8x8")
    assert (guessed.returncode, len(guessed.stderr.splitlines())) == (3, 1)
    assert "give input_size (--input-size at the prompt)" in guessed.stderr
    assert (given.returncode, given.stderr) == (1, "")  # nothing was trained on a black picture
    assert "either the plan is wrong as a whole, or these images are of another kind" in " ".join(given.stdout.split())
