"""Models of keras_hub: by class, and by the configs of presets. It is not in the ``dev`` extra, since it requires TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest

from ckptaudit import audit
from ckptaudit.arch import build_model
from ckptaudit.errors import ArchitectureError

SMALL = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [3],
    "stackwise_num_filters": [64, 128],
    "stackwise_num_blocks": [1, 1],
    "stackwise_num_strides": [1, 2],
    "block_type": "basic_block",
}
#: For tests of what is built; run: pip install --no-deps keras-hub
needed = pytest.mark.skipif("not __import__('importlib.util').util.find_spec('keras_hub')", reason="keras_hub is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_install_command_is_told():
    code = "import sys; sys.modules['keras_hub'] = None; from ckptaudit.cli import main; main()"
    arguments = ("diff", "tests/data/keras/small.weights.h5", "--arch", "keras_hub:ResNetBackbone")
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr == "ckptaudit: keras_hub is not installed; run: pip install keras-hub\n"


@pytest.fixture
def preset(tmp_path):
    """A preset as keras_hub saves it: the config of a backbone, that of a task around it, and their weights."""
    import keras_hub

    backbone = keras_hub.models.ResNetBackbone(**SMALL)
    task = keras_hub.models.ResNetImageClassifier(backbone=backbone, num_classes=5)
    task.set_weights([np.random.default_rng(0).uniform(0.5, 1, weight.shape) for weight in task.get_weights()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task.save_to_preset(str(tmp_path / "preset"))
        task.save_weights(tmp_path / "preset" / "whole.weights.h5")  # of the task alone a preset keeps the head
    return tmp_path / "preset"


@needed
def test_a_preset_fits_what_its_configs_describe(preset):
    whole = audit(preset / "whole.weights.h5", f"keras_hub:{preset}/task.json")
    assert (whole.verdict.status, whole.coverage.tensors) == ("compatible", (len(whole.model.graph),) * 2)
    other = audit(preset / "whole.weights.h5", f"keras_hub:{preset}/task.json", arguments={"num_classes": 7})
    assert "num-classes" in {finding.rule for finding in other.findings}
    assert not other.verdict.fit
    assert audit(preset / "model.weights.h5", f"keras_hub:{preset}").verdict.status == "compatible"


@needed
def test_a_class_is_built_with_its_arguments():
    found = build_model("keras_hub:ResNetBackbone", SMALL, fresh=True)
    assert (found.graph.framework, found.source, found.graph.tensors["conv1_conv/kernel"].shape) == ("keras", "keras_hub", (3, 3, 3, 64))


@needed
@pytest.mark.parametrize(
    ("arch", "words"),
    [
        ("ResNetBackbone", "missing 6 required"),
        ("ResNetBackbon", "no architecture named 'ResNetBackbon'; did you mean"),
        ("ResNetBackbone?preset=resnet_50_imagenet", "leave preset='resnet_50_imagenet' out"),
        ("kaggle://keras/resnet/keras/resnet_50_imagenet", "there is no such file"),
    ],
)
def test_nothing_is_downloaded(arch, words):
    with pytest.raises(ArchitectureError, match=words):
        build_model(f"keras_hub:{arch}", fresh=True)


@needed
@pytest.mark.parametrize(
    "named",
    [
        {"module": "os", "class_name": "system", "config": {"command": "true"}},
        {"module": "keras.layers", "class_name": "Lambda", "config": {}},
        {"module": "keras_hub.tokenizers", "class_name": "BytePairTokenizer", "config": {"vocabulary": "/etc/passwd"}},
    ],
)
def test_configs_that_name_other_things_are_refused(preset, named):
    config = json.loads((preset / "config.json").read_text())
    config["config"]["name"] = named
    (preset / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArchitectureError, match=f"not built: its config names `{named['module']}.{named['class_name']}`"):
        build_model(f"keras_hub:{preset}", fresh=True)
