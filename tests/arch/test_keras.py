"""Keras models: by name, from factories and live, and the files that Keras writes of them."""

from __future__ import annotations

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

from ckptaudit.arch import build_model
from ckptaudit.arch.keras_build import import_keras
from ckptaudit.arch.sources import keras as source
from ckptaudit.errors import ArchitectureError
from ckptaudit.pipeline import audit

keras = import_keras()
# Of numpy and torch, about how Keras converts between them.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def live():
    """Real models with random values, as a new process would build them: name → the model."""

    def build(name, **arguments):
        keras.utils.clear_session(free_memory=False)
        model = getattr(keras.applications, name)(weights=None, **arguments)
        random = np.random.default_rng(0)
        model.set_weights([(random.random(w.shape) + 0.1).astype("float32" if "float" in w.dtype else w.dtype) for w in model.weights])
        return model

    return build


SMALL = {"input_shape": (32, 32, 3), "classes": 3}


@pytest.mark.parametrize("name", ["MobileNet", "ConvNeXtTiny"])
def test_every_file_that_keras_writes_of_a_model_fits_it(live, tmp_path, name):
    model = live(name, **SMALL)
    for file in ("a.weights.h5", "a.h5", "a.keras"):
        path = tmp_path / file
        model.save_weights(path) if file == "a.weights.h5" else model.save(path)
        found = audit(path, f"keras:{name}", arguments=SMALL)
        assert (found.verdict.status, found.verdict.fit) == ("compatible", True), (file, [f.message for f in found.findings])
        assert found.coverage.tensors == (len(model.weights), len(model.weights))
        # What is set by what: by value, through the plan.
        values = found.plan.apply(path)
        assert [w.path for w in model.weights] == list(found.model.graph.tensors)
        for weight in model.weights:
            assert np.array_equal(np.asarray(values[weight.path]), keras.ops.convert_to_numpy(weight)), (file, weight.path)


@pytest.mark.parametrize("name", ["Xception", "MobileNetV3Small"])
def test_nothing_is_allocated_and_names_shapes_and_settings_are_those_of_a_real_build(live, name):
    built, real = build_model(f"keras:{name}", {"classes": 7}, fresh=True), live(name, classes=7)
    assert [(t.name, t.shape, t.dtype) for t in built.graph] == [(w.path, tuple(w.shape), w.dtype) for w in real.weights]
    assert all(weight._value is None for weight in built.module.weights)
    modules = built.graph.modules
    for layer in real.layers:
        if layer.weights:
            assert modules[layer.path].type_name == type(layer).__name__
            assert modules[layer.path].attributes.get("eps") == getattr(layer, "epsilon", None)
            assert modules[layer.path].attributes.get("stride") == getattr(layer, "strides", None)
            assert "applications" in modules[layer.path].origin.path


def test_building_leaves_the_calling_program_alone():
    keras.utils.clear_session(free_memory=False)
    first = keras.layers.Dense(1).name
    build_model("keras:MobileNetV2", fresh=True)
    assert [first, keras.layers.Dense(1).name] == ["dense", "dense_1"]
    from keras.src.backend.common import global_state

    # Left by Keras to be given values later: the next StatelessScope of the program would do it.
    assert not global_state.get_global_attribute("uninitialized_variables")


def test_names_are_known_without_importing_keras():
    code = "import sys; from ckptaudit.arch.sources import keras; print(len(keras.names())); assert 'keras' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(result.stdout) == len(source.names()) == len([n for n in dir(keras.applications) if n[0].isupper()])


def renamed(old, new, change):
    """Copy a legacy file, layers and weights renamed: what another version of Keras, or another session, would have written."""
    with h5py.File(old) as given, h5py.File(new, "w") as made:
        group = given.get("model_weights", given)
        layers = [name.decode() if isinstance(name, bytes) else name for name in group.attrs["layer_names"]]
        made.attrs["layer_names"] = [change(layer) for layer in layers]
        for layer in layers:
            weights = [name.decode() if isinstance(name, bytes) else name for name in group[layer].attrs["weight_names"]]
            into = made.create_group(change(layer))
            into.attrs["weight_names"] = [change(weight) + ":0" for weight in weights]
            for weight in weights:
                into[change(weight) + ":0"] = group[layer][weight][()]


def drifted(name):
    """Counters as in a session that has built other models before."""
    head, _, rest = name.partition("/")
    stem, _, number = head.rpartition("_")
    head = f"{stem}_{int(number) + 75}" if number.isdecimal() else f"{head}_75"
    return f"{head}/{rest}" if rest else head


@pytest.fixture(scope="module")
def auto_named(tmp_path_factory):
    """A factory whose layers Keras names, and a legacy file of what it builds."""
    folder = tmp_path_factory.mktemp("auto")
    (folder / "net.py").write_text(
        "import keras\n"
        "from keras import layers\n"
        "def build(classes=3):\n"
        "    given = layers.Input((8, 8, 3))\n"
        "    x = layers.Conv2D(4, 3, use_bias=False)(given)\n"
        "    x = layers.BatchNormalization(epsilon=1e-5)(x)\n"
        "    for _ in range(2):\n"
        "        x = layers.SeparableConv2D(4, 3, padding='same')(x)\n"
        "        x = layers.BatchNormalization()(x)\n"
        "    x = layers.GlobalAveragePooling2D()(x)\n"
        "    return keras.Model(given, layers.Dense(classes)(x))\n"
    )
    (folder / "made.py").write_text("from net import build\nmodel = build(5)\n")
    keras.utils.clear_session(free_memory=False)
    namespace = {}
    exec((folder / "net.py").read_text(), namespace)
    model = namespace["build"]()
    model.set_weights([np.random.default_rng(i).random(w.shape).astype("float32") for i, w in enumerate(model.weights)])
    model.save(folder / "same.h5")
    return folder, model


def test_a_factory_may_return_a_keras_model(auto_named):
    folder, _ = auto_named
    built = build_model(f"{folder}/net.py:build", {"classes": 4})
    assert built.graph.framework == "keras"
    assert built.graph.tensors["dense/kernel"].shape == (4, 4)
    assert built.graph.modules["batch_normalization"].attributes["eps"] == 1e-5
    origin = built.graph.modules["separable_conv2d_1"].origin
    assert (origin.path, origin.line) == (str(folder / "net.py"), 8)
    assert ("conv2d", "batch_normalization") in built.graph.feeds
    assert all(weight._value is None for weight in built.module.weights)
    assert build_model(f"{folder}/made.py:model").graph.tensors["dense/bias"].shape == (5,)


def test_numbers_that_keras_gave_in_another_session_do_not_matter(auto_named, tmp_path):
    folder, model = auto_named
    renamed(folder / "same.h5", tmp_path / "drifted.h5", drifted)
    found = audit(tmp_path / "drifted.h5", f"{folder}/net.py:build")
    assert (found.verdict.status, found.verdict.fit) == ("compatible", True)
    assert [finding.rule for finding in found.findings] == ["auto-numbers", "by-name"]
    values = found.plan.apply(tmp_path / "drifted.h5")
    assert all(np.array_equal(np.asarray(values[w.path]), keras.ops.convert_to_numpy(w)) for w in model.weights)


def test_names_of_tf_keras_fit_by_role_even_where_the_head_is_another(auto_named, tmp_path):
    folder, _ = auto_named
    renamed(folder / "same.h5", tmp_path / "tf.h5", str)
    assert audit(tmp_path / "tf.h5", f"{folder}/net.py:build").verdict.status == "compatible"
    other = audit(tmp_path / "tf.h5", f"{folder}/net.py:build", arguments={"classes": 9}, intent="finetune")
    assert (other.verdict.status, other.verdict.fit) == ("partial", True)
    assert "num-classes" in {finding.rule for finding in other.findings}


def test_layers_in_another_order_are_not_restored_by_position(auto_named, tmp_path):
    folder, model = auto_named
    with h5py.File(folder / "same.h5") as given, h5py.File(tmp_path / "other.h5", "w") as made:
        group = given["model_weights"]
        layers = list(group.attrs["layer_names"])
        made.attrs["layer_names"] = list(reversed(layers))
        for layer in layers:
            group.copy(layer, made)
    found = audit(tmp_path / "other.h5", model)
    # Every name is there, so that a plan fits; Keras itself refuses it.
    assert (found.verdict.status, [f.rule for f in found.findings]) == ("remappable", ["keras-order"])
    with pytest.raises(ValueError, match="mismatch"):
        model.load_weights(tmp_path / "other.h5")
    renamed(tmp_path / "other.h5", tmp_path / "both.h5", drifted)
    assert audit(tmp_path / "both.h5", model).verdict.status != "compatible"


def test_a_live_model_is_audited_as_it_is(auto_named):
    folder, model = auto_named
    found = audit(folder / "same.h5", model)
    assert (found.verdict.status, found.model.source, found.model.module) == ("compatible", "object", model)
    assert [m.module for m in found.coverage.modules][:2] == ["conv2d", "batch_normalization"]  # layers, not tensors
    assert found.model.library_version == keras.__version__


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("keras:ResNet51", r"^keras has no architecture named 'ResNet51'; did you mean "),
        ("keras:ResNet50?weights=imagenet", r"^keras:ResNet50: leave weights='imagenet' out"),
        ("keras:ResNet50?clases=3", r"^keras:ResNet50 raised TypeError: .*clases"),
    ],
)
def test_failures_are_told_in_one_line(arch, message):
    with pytest.raises(ArchitectureError, match=message) as caught:
        build_model(arch)
    assert "\n" not in str(caught.value)


def test_a_model_without_weights_yet_is_refused():
    with pytest.raises(ArchitectureError, match=r"^Sequential: the weights of 'dense.*' are made when the size of its input is known"):
        build_model(keras.Sequential([keras.layers.Dense(3)]))


def test_a_configured_backend_that_is_not_installed_is_replaced(tmp_path, run):
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "tensorflow"}))
    code = (
        "from ckptaudit.arch.keras_build import import_keras; import os, importlib.util;"
        "print(import_keras().backend.backend(), importlib.util.find_spec('tensorflow') is None, os.environ.get('KERAS_BACKEND'))"
    )
    environment = {"KERAS_HOME": str(tmp_path), "PATH": "/usr/bin", "PYTHONPATH": ":".join(sys.path)}
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stdout
    assert printed.split() in (["torch", "True", "None"], ["tensorflow", "False", "None"])
