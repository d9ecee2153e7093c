"""Keras files: names, order, roles, dataflow, and values, as Keras itself tells them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ckptaudit.errors import CorruptCheckpointError, ValuesUnavailableError
from ckptaudit.graph.names import natural
from ckptaudit.read import open_checkpoint
from ckptaudit.read.hdf5_library import _selection
from ckptaudit.read.keras_config import dataflow, read_model_config
from ckptaudit.read.keras_names import legacy_names, snake_case, variable_names

DATA = Path(__file__).parent.parent / "data" / "keras"
EXPECTED = json.loads((DATA / "expected.json").read_text())


def digest(value: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]


# --- files that Keras 3 wrote -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["small.weights.h5", "small.keras", "small_full.h5", "sequence.weights.h5", "sequence.keras", "tf2"])
def test_names_shapes_and_values_are_those_that_keras_tells(name: str) -> None:
    read = open_checkpoint(DATA / name)
    found = {key: [key, list(tensor.shape), digest(read.read(key))] for key, tensor in read.branch.tensors.items()}
    assert {key: found.get(key) for key, *_ in EXPECTED[name]} == {row[0]: row for row in EXPECTED[name]}
    assert len(found) == len(EXPECTED[name])
    assert not read.remarks
    assert read.branch.role == "model"


@pytest.mark.parametrize("name", ["small.weights.h5", "small.keras", "small_full.h5", "sequence.weights.h5", "sequence.keras"])
def test_layers_stand_in_definition_order(name: str) -> None:
    order = list(dict.fromkeys(key.rpartition("/")[0] for key, *_ in EXPECTED[name]))
    assert [layer.path for layer in open_checkpoint(DATA / name).graph.layers] == order


def test_trained_weights_before_the_others_within_a_layer() -> None:
    read = open_checkpoint(DATA / "small_full.h5")
    assert [key for key in read.branch.tensors if key.startswith("batch_normalization_2/")] == [
        f"batch_normalization_2/{word}" for word in ("gamma", "beta", "moving_mean", "moving_variance")
    ]


def test_kinds_and_roles() -> None:
    kinds = {layer.path: (layer.kind, *layer.tensors) for layer in open_checkpoint(DATA / "small.keras").graph.layers}
    assert kinds == {
        "stem": ("conv", "weight"),
        "batch_normalization_2": ("batch_norm", "weight", "bias", "running_mean", "running_var"),
        "depthwise_conv2d_1": ("depthwise_conv", "weight", "bias"),
        "batch_normalization_3": ("batch_norm", "bias", "running_mean", "running_var"),
        "tail/conv2d_1": ("conv", "weight", "bias"),
        "tail/p_re_lu_1": ("scale", "weight"),
        "head": ("linear", "weight", "bias"),
    }
    graph = open_checkpoint(DATA / "sequence.keras").graph
    assert graph.by_path["embedding_1"].kind == "embedding"
    assert graph.by_path["bidirectional_1/forward_lstm_1/lstm_cell"].kind == "recurrent"


@pytest.mark.parametrize("name", ["small.keras", "small_full.h5"])
def test_buffers_are_told_from_parameters(name: str) -> None:
    graph = open_checkpoint(DATA / name).graph
    assert {spec.name.rpartition("/")[2] for spec in graph if spec.buffer} == {"moving_mean", "moving_variance"}


@pytest.mark.parametrize("name", ["small.keras", "small_full.h5"])
def test_dataflow_passes_through_layers_without_weights_and_into_nested_models(name: str) -> None:
    assert set(open_checkpoint(DATA / name).graph.feeds) == {
        ("stem", "batch_normalization_2"),
        ("batch_normalization_2", "depthwise_conv2d_1"),
        ("depthwise_conv2d_1", "batch_normalization_3"),
        ("batch_normalization_2", "tail/conv2d_1"),
        ("batch_normalization_3", "tail/conv2d_1"),
        ("tail/conv2d_1", "tail/p_re_lu_1"),
        ("tail/p_re_lu_1", "head"),
    }


def test_settings_that_shapes_do_not_show() -> None:
    modules = open_checkpoint(DATA / "small.keras").graph.modules
    assert modules["batch_normalization_3"].type_name == "BatchNormalization"
    assert (modules["batch_normalization_2"].attributes["eps"], modules["batch_normalization_3"].attributes["eps"]) == (1e-3, 1e-5)
    assert modules["head"].attributes["activation"] == "softmax"


@pytest.mark.parametrize(
    ("name", "optimizer"), [("small.keras", "optimizer"), ("small_full.h5", "optimizer_weights"), ("tf2", "optimizer")]
)
def test_optimizer_and_metadata_stand_apart(name: str, optimizer: str) -> None:
    read = open_checkpoint(DATA / name)
    (apart,) = [branch for branch in read.branches if branch.role == "optimizer"]
    assert (apart.name, len(apart.tensors)) == (optimizer, 13)  # a momentum for each of 11 trained weights, iterations, learning rate
    if name != "tf2":
        assert read.metadata["keras_version"] == "3.15.1"
        assert read.metadata["training_config"]["loss"] == "categorical_crossentropy"
        assert read.metadata["training_config"]["optimizer"] == "SGD"


def test_deflated_archive_reads_the_same(tmp_path: Path) -> None:
    with zipfile.ZipFile(DATA / "small.keras") as stored, zipfile.ZipFile(tmp_path / "x.keras", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    read, same = open_checkpoint(tmp_path / "x.keras"), open_checkpoint(DATA / "small.keras")
    assert list(read.branch.tensors) == list(same.branch.tensors)
    assert all(np.array_equal(read.read(name), same.read(name)) for name in same.branch.tensors)


# --- legacy dialects --------------------------------------------------------------------------------------------------------------------


def write_legacy(path: Path, layers: dict[str, dict[str, Any]], *, holder: str = "", split: bool = False, **attributes: str) -> Path:
    """What Keras' ``save_weights`` writes: layers in definition order in an attribute, groups in the order of their names."""
    with h5py.File(path, "w") as file:
        group = file.create_group(holder) if holder else file
        group.attrs["layer_names"] = [name.encode() for name in layers]
        for layer in sorted(layers):
            inner = group.create_group(layer)
            names = [name.encode() for name in layers[layer]]
            if split and names:
                inner.attrs["weight_names0"], inner.attrs["weight_names1"] = names[:1], names[1:]
            else:
                inner.attrs["weight_names"] = np.array(names, dtype="S") if names else []
            for name, value in layers[layer].items():
                inner.create_dataset(name, data=np.asarray(value, dtype="float32"))
        for key, text in attributes.items():
            file.attrs[key] = text
    return path


CONV = {"z_conv/kernel:0": np.arange(18).reshape(3, 3, 1, 2), "z_conv/bias:0": [1, 2]}
NORM = {f"bn/{word}:0": [k, k] for k, word in enumerate(("gamma", "beta", "moving_mean", "moving_variance"))}


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("holder", ["", "model_weights"])
def test_order_is_that_of_the_attributes(tmp_path: Path, holder: str, split: bool) -> None:
    read = open_checkpoint(write_legacy(tmp_path / "x", {"input": {}, "z_conv": CONV, "bn": NORM}, holder=holder, split=split))
    assert list(read.branch.tensors) == [*CONV, *NORM]
    assert (read.format, read.framework, read.branch.name) == ("keras-h5", "keras", holder)
    assert read.read("z_conv/kernel:0").tolist() == CONV["z_conv/kernel:0"].tolist()


NAMES = {
    "keras 2": ("conv1", ["conv1/kernel:0"], ["conv1/kernel:0"]),
    "built twice in a session": ("conv1", ["conv1_3/kernel:0", "conv1_3/bias:0"], ["conv1/kernel:0", "conv1/bias:0"]),
    "a number of its own": ("conv2d_1", ["conv2d_1_1/kernel:0"], ["conv2d_1/kernel:0"]),
    "keras 3": ("conv", ["seq/conv/kernel"], ["conv/kernel"]),
    "a subclassed model's scope": ("dense", ["my_model/dense/kernel:0"], ["dense/kernel:0"]),
    "nested model": ("model_1", ["conv2d_4/kernel:0", "bn/gamma:0"], ["model_1/conv2d_4/kernel:0", "model_1/bn/gamma:0"]),
    "nested model, keras 3": ("sub", ["sub/conv/kernel", "sub/bn/gamma"], ["sub/conv/kernel", "sub/bn/gamma"]),
    "keras 1": ("convolution2d_1", ["convolution2d_1_W"], ["convolution2d_1/convolution2d_1_W"]),
    "a layer's name with a slash": ("a/depthwise", ["a/depthwise/depthwise_kernel:0"], ["a/depthwise/depthwise_kernel:0"]),
    "wrapper": ("bi", ["bi/forward_lstm/lstm_cell/kernel:0"], ["bi/forward_lstm/lstm_cell/kernel:0"]),
    "no scope at all": ("dense", ["kernel:0"], ["dense/kernel:0"]),
    "names that collide": ("m", ["m/k", "x/m/k"], ["m/m/k", "m/x/m/k"]),
}


@pytest.mark.parametrize("case", NAMES)
def test_legacy_names(case: str) -> None:
    layer, weights, names = NAMES[case]
    assert legacy_names(layer, weights) == names


def test_keras_1_roles(tmp_path: Path) -> None:
    layers = {
        "convolution2d_1": {"convolution2d_1_W": np.zeros((3, 3, 1, 2)), "convolution2d_1_b": [0, 0]},
        "batchnormalization_1": {f"batchnormalization_1_{word}": [1, 1] for word in ("gamma", "beta", "running_mean", "running_std")},
    }
    graph = open_checkpoint(write_legacy(tmp_path / "x", layers, keras_version="1.2.2")).graph
    assert [(layer.kind, list(layer.tensors)) for layer in graph.layers] == [
        ("conv", ["weight", "bias"]),
        ("batch_norm", ["weight", "bias", "running_mean", "running_var"]),
    ]
    assert [spec.buffer for spec in graph] == [False, False, False, False, True, True]


def test_before_keras_1(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x", "w") as file:
        file.attrs["nb_layers"] = 11
        for number in range(11):
            group = file.create_group(f"layer_{number}")
            group.attrs["nb_params"] = 2 if number in (2, 10) else 0
        file["layer_2/param_0"], file["layer_2/param_1"] = np.zeros((3, 4)), np.zeros(4)
        file["layer_10/param_0"], file["layer_10/param_1"] = np.zeros((4, 2)), np.zeros(2)
    read = open_checkpoint(tmp_path / "x")
    assert list(read.branch.tensors) == ["layer_2/kernel", "layer_2/bias", "layer_10/kernel", "layer_10/bias"]


FUNCTIONAL_2 = {
    "class_name": "Model",
    "config": {
        "name": "m",
        "layers": [
            {"class_name": "InputLayer", "name": "i", "config": {"name": "i", "batch_input_shape": [None, 4]}, "inbound_nodes": []},
            {"class_name": "Dense", "name": "a", "config": {"name": "a"}, "inbound_nodes": [[["i", 0, 0, {}]]]},
            {"class_name": "Dense", "name": "b", "config": {"name": "b"}, "inbound_nodes": [[["i", 0, 0, {}]]]},
            {"class_name": "Add", "name": "s", "config": {"name": "s"}, "inbound_nodes": [[["a", 0, 0, {}], ["b", 0, 0, {}]]]},
            {
                "class_name": "Dense",
                "name": "twice",
                "config": {"name": "twice"},
                "inbound_nodes": [[["s", 0, 0, {}]], [["last", 0, 0, {}]]],
            },
            {"class_name": "Dense", "name": "last", "config": {"name": "last"}, "inbound_nodes": [[["twice", 0, 0, {}]]]},
            {"class_name": "TFOpLambda", "name": "op", "config": {"name": "op"}, "inbound_nodes": [["a", 0, 0, {"y": ["last", 0, 0]}]]},
            {"class_name": "Dense", "name": "end", "config": {"name": "end"}, "inbound_nodes": [[["op", 0, 0, {}]]]},
        ],
        "input_layers": [["i", 0, 0]],
        "output_layers": [["end", 0, 0]],
    },
}


def test_dataflow_of_keras_2_with_shared_layers() -> None:
    owners = {name: (name,) for name in ("a", "b", "twice", "last", "end")}
    feeds, why = dataflow(read_model_config(FUNCTIONAL_2), owners)
    assert why == ""
    assert set(feeds) == {("a", "twice"), ("b", "twice"), ("twice", "last"), ("last", "twice"), ("a", "end"), ("last", "end")}


def test_dataflow_of_sequential_models_in_every_dialect() -> None:
    listed = [{"class_name": kind, "config": {"name": name}} for kind, name in (("Dense", "a"), ("Dropout", "d"), ("Dense", "b"))]
    for config in (listed, {"name": "s", "layers": listed}):
        assert dataflow(read_model_config({"class_name": "Sequential", "config": config}), {"a": ("a",), "b": ("b",)}) == (
            (("a", "b"),),
            "",
        )


def test_dataflow_that_would_never_end() -> None:
    def four_times(inner: dict[str, Any], level: int) -> dict[str, Any]:
        layers = [{**inner, "config": {**inner["config"], "name": f"{level}_{k}"}} for k in range(4)]
        return {"class_name": "Sequential", "config": {"name": "s", "layers": layers}}

    config: dict[str, Any] = {"class_name": "Dense", "config": {}}
    for level in range(9):
        config = four_times(config, level)
    assert not dataflow(read_model_config(config), {})[0]
    loop = [{"class_name": "Dense", "name": n, "config": {"name": n}, "inbound_nodes": [[[m, 0, 0]]]} for n, m in (("a", "b"), ("b", "a"))]
    config = {"class_name": "Model", "config": {"layers": loop, "input_layers": [], "output_layers": [["a", 0, 0]]}}
    assert dataflow(read_model_config(config), {"a": ("a",), "b": ("b",)}) == ((), "")


def test_multi_gpu_wrapper_keeps_the_inner_model_as_a_prefix(tmp_path: Path) -> None:
    layers = {"input_1": {}, "lambda_1": {}, "model_1": {"conv/kernel:0": np.zeros((1, 1, 1, 1)), "bn/gamma:0": [1]}, "concatenate": {}}
    assert list(open_checkpoint(write_legacy(tmp_path / "x", layers)).branch.tensors) == ["model_1/conv/kernel:0", "model_1/bn/gamma:0"]


# --- Keras 3's numbered variables ---------------------------------------------------------------------------------------------------------

VARIABLES = {
    "BatchNormalization": ([(4,)] * 4, None, ["gamma", "beta", "moving_mean", "moving_variance"]),
    "BatchNormalization without scale": ([(4,)] * 3, None, ["beta", "moving_mean", "moving_variance"]),
    "BatchNormalization without shift": ([(4,)] * 3, {"center": False}, ["gamma", "moving_mean", "moving_variance"]),
    "BatchNormalization, statistics alone": ([(4,)] * 2, None, ["moving_mean", "moving_variance"]),
    "LayerNormalization": ([(4,)] * 2, None, ["gamma", "beta"]),
    "LayerNormalization without shift": ([(4,)], None, ["gamma"]),
    "Dense, quantised": ([(4, 2), (2,), (2,)], None, ["kernel", "bias", "2"]),
    " four vectors": ([(4,)] * 4, None, ["gamma", "beta", "moving_mean", "moving_variance"]),
    " einsum": ([(5, 2, 3), (2, 3)], None, ["kernel", "bias"]),
    " matrix": ([(5, 2)], None, ["kernel"]),
    " recurrent": ([(8, 16), (4, 16), (16,)], None, ["kernel", "recurrent_kernel", "bias"]),
    " unknown": ([(5, 2), (7, 9)], None, ["0", "1"]),
    " vector": ([(5,)], None, ["0"]),
}


@pytest.mark.parametrize("case", VARIABLES)
def test_variables_by_position(case: str) -> None:
    shapes, settings, names = VARIABLES[case]
    assert variable_names(case.partition(" ")[0].rstrip(","), shapes, settings) == names


def test_snake_case_is_that_of_keras() -> None:
    words = {"BatchNormalization": "batch_normalization", "Conv2DTranspose": "conv2d_transpose", "PReLU": "p_re_lu", "GRU": "gru"}
    assert {name: snake_case(name) for name in words} == words


def test_natural_order() -> None:
    assert sorted(["conv_10", "conv_2", "conv", "a"], key=natural) == ["a", "conv", "conv_2", "conv_10"]


def write_numbered(path: Path, container: str, layers: dict[str, list[Any]], names: dict[str, str] | None = None) -> Path:
    with h5py.File(path, "w") as file:
        for layer, values in layers.items():
            group = file.create_group(f"{container}/{layer}/vars")
            if names is not None:
                group.attrs["name"] = names[layer]
            for number, value in enumerate(values):
                group[str(number)] = np.asarray(value, dtype="float32")
    return path


@pytest.mark.parametrize("container", ["layers", "_layer_checkpoint_dependencies"])
def test_layers_without_names_keep_their_numbers(tmp_path: Path, container: str) -> None:
    layers = {f"conv2d_{k}" if k else "conv2d": [np.zeros((1, 1, 1, 1)), [0]] for k in range(11)}
    layers["batch_normalization"] = [[1]] * 4
    read = open_checkpoint(write_numbered(tmp_path / "x", container, layers))
    assert read.format == "keras-weights"
    assert [layer.path for layer in read.graph.layers] == list(layers)
    assert list(read.branch.tensors)[-4:] == [f"batch_normalization/{word}" for word in ("gamma", "beta", "moving_mean", "moving_variance")]


def test_two_layers_of_one_name_keep_their_places(tmp_path: Path) -> None:
    layers = {"dense": [np.zeros((1, 2)), [0, 0]], "dense_1": [np.zeros((2, 1)), [0]]}
    read = open_checkpoint(write_numbered(tmp_path / "x", "layers", layers, {"dense": "same", "dense_1": "same"}))
    assert list(read.branch.tensors) == [f"layers/{layer}/{word}" for layer in layers for word in ("kernel", "bias")]


def test_gaps_in_the_numbers_are_told(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x", "w") as file:
        for key in ("0", "2", "x"):
            file[f"layers/dense/vars/{key}"] = np.zeros(2)
    read = open_checkpoint(tmp_path / "x")
    assert list(read.branch.tensors) == ["dense/0", "dense/2", "dense/x"]
    assert "not numbered from 0" in read.remarks[0]


# --- values -------------------------------------------------------------------------------------------------------------------------------

VALUES = np.arange(600, dtype="float32").reshape(20, 30)
COMPACT = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
COMPACT.set_layout(h5py.h5d.COMPACT)
STORAGES: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "big endian": {"dtype": ">f4"},
    "packed big endian": {"dtype": ">f4", "chunks": (5, 30), "compression": "gzip"},
    "compact big endian": {"dtype": ">f4", "dcpl": COMPACT},
    "one big endian number": {"data": np.array(3.5), "dtype": ">f4", "dcpl": COMPACT},
    "chunked": {"chunks": (7, 11)},
    "gzip": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"compression": "lzf"},
    "half": {"dtype": "float16"},
    "integers": {"dtype": "int16"},
    "bool": {"dtype": "bool"},
    "complex": {"dtype": "complex64"},
}


@pytest.mark.parametrize("case", STORAGES)
@pytest.mark.parametrize("userblock", [0, 512])
def test_values_however_they_are_stored(tmp_path: Path, case: str, userblock: int) -> None:
    with h5py.File(tmp_path / "x", "w", userblock_size=userblock, libver="latest" if case == "chunked" else None) as file:
        options = {"data": VALUES, "dtype": "float32", **STORAGES[case]}
        options["data"] = options["data"].astype(options["dtype"])
        if options["data"].shape:
            file.create_dataset("a/w", **options)
        else:  # of these create_dataset ignores the layout
            kind, space = h5py.h5t.py_create(np.dtype(options["dtype"])), h5py.h5s.create(h5py.h5s.SCALAR)
            h5py.h5d.create(file.create_group("a").id, b"w", kind, space, options["dcpl"]).write(space, space, options["data"])
        wanted = file["a/w"][()]
    read = open_checkpoint(tmp_path / "x")
    assert np.array_equal(read.read("a/w"), wanted)
    for count in (1, 7, 60):
        assert np.array_equal(read.sample("a/w", count), wanted.reshape(-1)[:count])
        assert np.array_equal(read.sample("a/w", count, last=True), wanted.reshape(-1)[-count:])
    assert not read.remarks


def test_no_more_is_unpacked_than_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        packed = file.create_dataset("w", data=VALUES, chunks=(5, 30), compression="gzip", fletcher32=True)
        place = packed.id.get_chunk_info(1).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 20] ^= 0xFF
    path.write_bytes(content)
    read = open_checkpoint(path)
    assert np.array_equal(read.sample("w", 150), VALUES.reshape(-1)[:150])
    assert np.array_equal(read.sample("w", 150, last=True), VALUES.reshape(-1)[-150:])
    for look in (lambda: read.sample("w", 180), lambda: read.read("w")):
        with pytest.raises(CorruptCheckpointError, match="cannot be unpacked"):
            look()


@pytest.mark.parametrize("shape", [(), (7,), (1, 6), (4, 5), (2, 3, 4), (2, 1, 3, 2)], ids=str)
def test_every_run_of_elements_lies_within_the_part_that_is_unpacked(shape: tuple[int, ...]) -> None:
    values = np.arange(int(np.prod(shape))).reshape(shape)
    for first in range(values.size):
        for end in range(first + 1, values.size + 1):
            selected, begin = _selection(shape, first, end)
            part = values[selected].reshape(-1)[first - begin :][: end - first]
            assert part.tolist() == list(range(first, end))


def test_bfloat16_as_keras_writes_it(tmp_path: Path) -> None:
    import ml_dtypes

    with h5py.File(tmp_path / "x", "w") as file:
        dataset = file.create_dataset("layers/dense/vars/0", data=VALUES[:4, :4].astype(ml_dtypes.bfloat16))
        dataset.attrs["dtype"] = "bfloat16"
    read = open_checkpoint(tmp_path / "x")
    assert read.branch.tensors["dense/kernel"].dtype == "bfloat16"
    assert np.array_equal(read.read("dense/kernel").astype("float32"), VALUES[:4, :4].astype(ml_dtypes.bfloat16).astype("float32"))


def test_values_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(bytes(64))
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "raw.h5"), "x", (4,))
    with h5py.File(tmp_path / "x", "w") as file:
        file.create_dataset("external", (4,), "f4", external=[(str(tmp_path / "raw"), 0, 16)])
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("huge", (2**40, 4), "f4", chunks=(1024, 4))
        file.create_dataset("odd", (4,), h5py.h5t.STD_I32LE.copy())
        file.create_dataset("text", data=["a", "b"])
    read = open_checkpoint(tmp_path / "x")
    assert set(read.branch.tensors) == {"external", "virtual", "huge", "odd", "text"}
    for name, word in {
        "external": "external",
        "virtual": "virtual",
        "huge": "never written",
        "odd": "never written",
        "text": "texts",
    }.items():
        with pytest.raises(ValuesUnavailableError, match=word):
            read.read(name)
    assert {word for word in ("external", "virtual", "huge", "odd") if any(word in remark for remark in read.remarks)} == {
        "external",
        "virtual",
        "huge",
        "odd",
    }


# --- links ------------------------------------------------------------------------------------------------------------------------------


def test_links_that_leave_are_not_followed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    path = write_legacy(tmp_path / "x", {"z_conv": CONV})
    with h5py.File(path, "a") as file:
        file["pipe"] = h5py.ExternalLink(str(tmp_path / "fifo"), "/a")
        file["up"] = h5py.SoftLink("/")
        file["z_conv/again"] = file["/"]
    read = open_checkpoint(path)
    assert list(read.branch.tensors) == list(CONV)
    assert sorted(read.remarks) == ["a soft link at 'up' was not followed", "an external link at 'pipe' was not followed"]


@pytest.mark.parametrize("where", ["z_conv", "z_conv/z_conv", "z_conv/z_conv/bias:0"])
@pytest.mark.parametrize("link", [h5py.ExternalLink("other.h5", "/secret"), h5py.SoftLink("/elsewhere")])
def test_weights_behind_a_link_are_refused(tmp_path: Path, where: str, link: Any) -> None:
    path = write_legacy(tmp_path / "x", {"z_conv": CONV})
    with h5py.File(path, "a") as file:
        del file[where]
        file[where] = link
        if where == "z_conv":
            file.attrs["layer_names"] = [b"z_conv"]
    with pytest.raises(CorruptCheckpointError, match=r"(external|soft) link at 'z_conv.*not followed") as raised:
        open_checkpoint(path)
    assert "secret" not in str(raised.value)


def test_many_hard_links_are_visited_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x", "w") as file:
        below = file.create_group("g0")
        below["w"] = np.zeros(3)
        for level in range(1, 60):
            group = file.create_group(f"g{level}")
            for copy in range(4):
                group[f"c{copy}"] = below
            below = group
    assert list(open_checkpoint(tmp_path / "x").branch.tensors) == ["g0/w"]


def test_tied_weights_are_seen(tmp_path: Path) -> None:
    path = write_legacy(tmp_path / "x", {"a": {"a/kernel:0": np.zeros((2, 2))}, "b": {}})
    with h5py.File(path, "a") as file:
        file["b/b/kernel:0"] = file["a/a/kernel:0"]
        file["b"].attrs["weight_names"] = [b"b/kernel:0"]
    assert open_checkpoint(path).graph.tied == (("a/kernel:0", "b/kernel:0"),)


CONTRADICTIONS = {
    "ghost": (lambda f: f.attrs.create("layer_names", [b"z_conv", b"ghost"]), "'ghost', which it does not hold"),
    "missing weight": (lambda f: f["z_conv"].attrs.create("weight_names", [b"a/b"]), "'a/b', which it does not hold"),
    "absolute": (lambda f: f["z_conv"].attrs.create("weight_names", [b"/z_conv/z_conv/bias:0"]), "does not hold"),
    "parent": (lambda f: f["z_conv"].attrs.create("weight_names", [b"../../x"]), "does not hold"),
    "group": (lambda f: f["z_conv"].attrs.create("weight_names", [b"z_conv"]), "which is a group"),
    "numbers": (lambda f: f["z_conv"].attrs.create("weight_names", [1, 2]), "no list of names"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions_are_refused(tmp_path: Path, case: str) -> None:
    path = write_legacy(tmp_path / "x", {"z_conv": CONV})
    change, words = CONTRADICTIONS[case]
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(CorruptCheckpointError, match=words):
        open_checkpoint(path)


def test_every_truncation_is_a_clean_refusal(tmp_path: Path) -> None:
    for source in (DATA / "small_full.h5", DATA / "small.keras"):
        whole = source.read_bytes()
        for length in range(1, len(whole), len(whole) // 40):
            (tmp_path / "x").write_bytes(whole[:length])
            with pytest.raises(CorruptCheckpointError if length > 8 else Exception, match=r"truncated|too short|cannot be read|damaged"):
                open_checkpoint(tmp_path / "x")


# --- configs ----------------------------------------------------------------------------------------------------------------------------


def layer(**rest: Any) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": "s", "layers": [{"class_name": "Dense", "config": {"name": "a"}, **rest}]}}


DANGERS = {
    "Lambda layer 'x'": layer(class_name="Lambda", config={"name": "x", "function": ["4wEAAA==", None, None]}),
    "Lambda layer": layer(config={"name": "x", "activation": {"class_name": "__lambda__", "config": {"value": "4wEA"}}}),
    "builtins.exec": layer(module="builtins", class_name="function", config="exec"),
    "os.system": layer(config={"activation": {"module": "os", "class_name": "function", "config": "system"}}),
    "keras.utils.get_file": layer(config={"activation": {"module": "keras.utils", "class_name": "function", "config": "get_file"}}),
    "TorchModuleWrapper": layer(class_name="TorchModuleWrapper", config={"name": "x", "module": "gAJ9"}),
    "TFSMLayer": layer(class_name="TFSMLayer", config={"filepath": "/etc"}),
    "my.module.Block": layer(module="my.module", class_name="Block"),
    "Custom>Block": layer(module=None, class_name="Block", registered_name="Custom>Block"),
}


@pytest.mark.parametrize("words", DANGERS)
def test_what_a_rebuild_would_run_is_told(tmp_path: Path, words: str) -> None:
    path = write_legacy(tmp_path / "x", {"z_conv": CONV}, holder="model_weights", model_config=json.dumps(DANGERS[words]))
    (remark,) = open_checkpoint(path).remarks
    assert words in remark


def test_harmless_configs_are_not_suspected() -> None:
    for name in ("small.keras", "sequence.keras", "small_full.h5"):
        assert not open_checkpoint(DATA / name).remarks


@pytest.mark.parametrize("config", ["{", "[1]", "[" * 50_000, '{"a": 1, "a": 2}', '{"class_name": 3, "config": [[], 1, {"config": 5}]}'])
def test_a_damaged_config_does_not_hide_the_weights(tmp_path: Path, config: str) -> None:
    path = write_legacy(tmp_path / "x", {"z_conv": CONV}, holder="model_weights", model_config=config)
    read = open_checkpoint(path)
    assert list(read.branch.tensors) == list(CONV)
    assert len(read.remarks) == (0 if "class_name" in config else 1)


# --- real files -------------------------------------------------------------------------------------------------------------------------


def test_crepe(real: Path) -> None:
    read = open_checkpoint(real / "crepe_model-tiny.h5")
    assert (read.format, len(read.branch.tensors), read.metadata["keras_version"]) == ("keras-h5", 38, "2.1.5")
    assert list(read.branch.tensors)[:3] == ["conv1/kernel:0", "conv1/bias:0", "conv1-BN/gamma:0"]
    with h5py.File(real / "crepe_model-tiny.h5") as file:
        for layer_name in file.attrs["layer_names"]:
            group = file[layer_name]
            for weight in group.attrs["weight_names"]:
                (name,) = legacy_names(layer_name.decode(), [weight.decode()])
                assert np.array_equal(read.read(name), group[weight][()])


def test_fer(real: Path) -> None:
    read = open_checkpoint(real / "fer_emotion_model.hdf5")
    assert {branch.role: len(branch.tensors) for branch in read.branches} == {"model": 80, "optimizer": 105}
    assert sum(kind.kind == "batch_norm" for kind in read.graph.layers) == 14
    assert len(read.graph.feeds) >= 28
    assert read.metadata["training_config"]["loss"] == "categorical_crossentropy"


def test_musicnn(real: Path) -> None:
    keras = open_checkpoint(real / "musicnn_keras_MTT_vgg.h5")
    bundle = open_checkpoint(real / "musicnn_MTT_vgg")
    assert len(keras.branch.tensors) == len(bundle.branch.tensors) == 36
    # 32 of 32 variables of several elements are equal: a mapping that these readers did not know of.
    values = {digest(bundle.read(name)) for name in bundle.branch.tensors}
    several = [name for name, tensor in keras.branch.tensors.items() if np.prod(tensor.shape) > 1]
    assert len(several) == 32
    assert all(digest(keras.read(name)) in values for name in several)


def test_reading_imports_no_framework() -> None:
    script = (
        "import sys\nfrom ckptaudit.read import open_checkpoint\n"
        "read = open_checkpoint(sys.argv[1]); read.graph.layers\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'torch', 'keras', 'tensorflow', 'networkx', 'onnx'})"
    )
    for name in ("small.keras", "small_full.h5", "tf2"):
        done = subprocess.run([sys.executable, "-c", script, DATA / name], capture_output=True, text=True, check=True)
        assert done.stdout == "set()\n"
