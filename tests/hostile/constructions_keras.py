"""HDF5 files that lead elsewhere, go round in circles or claim the impossible; Keras configs that name code, in ``.keras`` and ``.h5``."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from struct import pack
from typing import Any

import h5py
import numpy as np

from tests.hostile.making import FOUR, SYSTEM, Case, pickled, state_dict, torch_zip, zipped

EITHER, ANY = "refuse finding", "refuse finding ok"
NOWHERE = 2**64 - 1
KERAS = Path(__file__).parent.parent / "data" / "keras"
DENSE = {"module": "keras.layers", "class_name": "Dense", "config": {"name": "out", "units": 2}, "registered_name": None}
LAMBDA = {
    "module": "keras.layers",
    "class_name": "Lambda",
    "config": {"name": "l", "function": {"class_name": "__lambda__", "config": {"code": "4wEAAA=="}}},
}


def _given(settings: dict[str, Any], **outer: Any) -> dict[str, Any]:
    return {**DENSE, "config": {**DENSE["config"], **settings}, **outer}  # type: ignore[dict-item]


def _object(module: str | None, called: str, config: object = None, registered: str | None = None) -> dict[str, Any]:
    return {"module": module, "class_name": called, "config": {} if config is None else config, "registered_name": registered}


def _wrapped(kind: str, inner: object, key: str = "layer") -> dict[str, Any]:
    return _object("keras.layers", kind, {"name": "wrap", key: inner})


def _function(module: str, called: str) -> dict[str, Any]:
    return _object(module, "function", called, "function")


OLD_LAMBDA = {"class_name": "Lambda", "config": {"name": "l", "function": ["4wEAAA==\n", None, None], "function_type": "lambda"}}

#: Layers that rebuilding the model would run or import code for, with the word that must be told.
DANGERS: dict[str, tuple[dict[str, Any], str]] = {
    "lambda": (LAMBDA, "Lambda"),
    "lambda_old": (OLD_LAMBDA, "Lambda"),
    "lambda_registered": (_object(None, "keras>Lambda", {"name": "l"}), "Lambda"),
    "lambda_custom": (_object(None, "Custom>Lambda", {"name": "l"}, "Custom>Lambda"), "Lambda"),
    "lambda_dotted": (_object(None, "keras.layers.core.Lambda", {"name": "l"}), "Lambda"),
    "lambda_src": (_object("keras.src.layers.core.lambda_layer", "Lambda", {"name": "l"}), "Lambda"),
    "lambda_tf": (_object("tensorflow.python.keras.layers.core", "Lambda", {"name": "l"}), "Lambda"),
    "lambda_in_sequential": (_object("keras", "Sequential", {"name": "s", "layers": [LAMBDA]}), "Lambda"),
    "lambda_in_functional": (_object("keras.src.models.functional", "Functional", {"name": "f", "layers": [LAMBDA]}), "Lambda"),
    "lambda_in_model_in_model": (_object("keras", "Model", {"layers": [_object("keras", "Sequential", {"layers": [LAMBDA]})]}), "Lambda"),
    "lambda_distributed": (_wrapped("TimeDistributed", LAMBDA), "Lambda"),
    "lambda_bidirectional": (_wrapped("Bidirectional", OLD_LAMBDA), "Lambda"),
    "lambda_backward": (_wrapped("Bidirectional", LAMBDA, "backward_layer"), "Lambda"),
    "lambda_cell": (_wrapped("RNN", LAMBDA, "cell"), "Lambda"),
    "lambda_cells": (_wrapped("StackedRNNCells", [LAMBDA], "cells"), "Lambda"),
    "lambda_spectral": (_wrapped("SpectralNormalization", LAMBDA), "Lambda"),
    "lambda_in_pipeline": (_wrapped("Pipeline", [LAMBDA], "layers"), "Lambda"),
    "lambda_in_feature_space": (_wrapped("FeatureSpace", {"a": {"preprocessor": LAMBDA}}, "features"), "Lambda"),
    "lambda_output_shape": (_given({"output_shape": {"class_name": "__lambda__", "config": {"code": "x"}}}), "Lambda"),
    "lambda_initializer": (_given({"kernel_initializer": {"class_name": "__lambda__", "config": {"code": "x"}}}), "Lambda"),
    "lambda_in_build": (_given({}, build_config={"x": LAMBDA}), "Lambda"),
    "lambda_in_inbound": (_given({}, inbound_nodes=[{"args": [LAMBDA], "kwargs": {}}]), "Lambda"),
    "lambda_deep": (json.loads('{"config":' * 200 + json.dumps(LAMBDA) + "}" * 200), "Lambda"),
    "activation_exec": (_given({"activation": _function("builtins", "exec")}), "exec"),
    "activation_old": (_given({"activation": "builtins>exec"}), "exec"),
    "activation_of_os": (_given({"activation": _function("os", "system")}), "os"),
    "activation_of_keras_loader": (_given({"activation": _function("keras.models", "load_model")}), "load_model"),
    "activation_get_file": (_given({"activation": _function("keras.utils", "get_file")}), "get_file"),
    "activation_get_file_src": (_given({"activation": _function("keras.src.utils.file_utils", "get_file")}), "get_file"),
    "unsafe_switch": (_given({"activation": _function("keras.config", "enable_unsafe_deserialization")}), "enable_unsafe"),
    "unsafe_switch_class": (_object("keras.config", "enable_unsafe_deserialization"), "enable_unsafe"),
    "unsafe_switch_src": (_object("keras.src.saving.serialization_lib", "enable_unsafe_deserialization"), "enable_unsafe"),
    "loader_as_class": (_object("keras.models", "load_model", {"filepath": "/etc/x"}), "load_model"),
    "loader_of_layers": (_object("keras.layers", "deserialize", {"config": LAMBDA}), "Lambda"),
    "initializer_of_os": (_given({"kernel_initializer": _object("os", "system", "x")}), "os.system"),
    "regularizer_custom": (_given({"kernel_regularizer": _object(None, "R", {}, "evil>R")}), "evil"),
    "constraint_module": (_given({"kernel_constraint": _object("evil.constraints", "C")}), "evil"),
    "dtype_policy": (_given({"dtype": _object("evil", "Policy")}), "evil"),
    "metric_module": (_given({}, compile_config={"metrics": [_object("evil", "M")]}), "evil"),
    "loss_function": (_given({}, compile_config={"loss": _function("evil.losses", "f")}), "evil"),
    "class_of_builtins": (_object("builtins", "eval", "1"), "eval"),
    "class_of_subprocess": (_object("subprocess", "Popen", {"args": "x"}), "Popen"),
    "class_of_numpy": (_object("numpy", "load", {"file": "x"}), "numpy"),
    "class_of_package": (_object("my_package.layers", "Attention", {}, "my_package>Attention"), "my_package"),
    "class_alone": ({"class_name": "GatedBlock", "config": {"name": "g"}}, "GatedBlock"),
    "class_alone_wrapped": (
        {"class_name": "TimeDistributed", "config": {"name": "t", "layer": {"class_name": "GatedBlock", "config": {"name": "g"}}}},
        "GatedBlock",
    ),
    "class_registered": (_object(None, "Attention", {}, "my>Attention"), "my>Attention"),
    "class_empty_module": (_object("", "system", {}, "os>system"), "system"),
    "class_of_keras_prefix": (_object("keras_evil.layers", "Dense"), "keras_evil"),
    "class_of_keras_dotted": (_object("keras..evil", "Thing", {}, "a>b"), "a>b"),
    "hub_layer": (_object("tensorflow_hub.keras_layer", "KerasLayer", {"handle": "https://example.org/m"}), "KerasLayer"),
    "tfsm_layer": (_object("keras.layers", "TFSMLayer", {"filepath": "/tmp/x"}), "TFSMLayer"),
    "torch_wrapper": (_object("keras.layers", "TorchModuleWrapper", {"module": "gASV"}), "TorchModuleWrapper"),
    "jax_layer": (_object("keras.layers", "JaxLayer", {"call_fn": "gASV"}), "JaxLayer"),
    "flax_layer": (_object("keras.layers", "FlaxLayer", {"module": "gASV"}), "FlaxLayer"),
    "lookup_file": (_object("keras.layers", "StringLookup", {"vocabulary": "/etc/passwd"}), "/etc/passwd"),
    "lookup_url": (_object("keras.layers", "IntegerLookup", {"vocabulary": "https://example.org/v.txt"}), "example.org"),
    "vectorization_file": (_object("keras.layers", "TextVectorization", {"vocabulary": "../../secret.txt"}), "secret.txt"),
    "escape_in_class": (_object("evil\x1b[31m", "Thing\u202e"), "evil"),
    "long_class": (_object("evil." + "x" * 100_000, "Thing"), "evil"),
}  # fmt: skip

#: What must not be taken for code: ordinary layers of every Keras.
HONEST: dict[str, dict[str, Any]] = {
    "dense": DENSE,
    "activation_word": _given({"activation": "relu"}),
    "activation_function": _given({"activation": _function("keras.activations", "gelu")}),
    "policy": _given({"dtype": _object("keras", "DTypePolicy", {"name": "float32"})}),
    "old_tf": {
        "class_name": "Conv2D",
        "config": {"name": "c", "kernel_initializer": {"class_name": "VarianceScaling", "config": {"seed": None}}},
    },
    "add": _object("keras.layers", "Add", {"name": "a"}),
    "compiled": _given({}, compile_config={"optimizer": _object("keras.src.backend.torch.optimizers.torch_adam", "Adam", {}, "Adam")}),
    "old": {"class_name": "MaxoutDense", "config": {"name": "m", "nb_feature": 4}},
    "op": {"class_name": "TFOpLambda", "config": {"name": "tf.math.add", "function": "math.add"}},
    "lookup_list": _object("keras.layers", "StringLookup", {"vocabulary": ["a", "b"]}),
    "rescaling": _object("keras.layers", "Rescaling", {"scale": 0.5}),
}


@cache
def _small() -> tuple[bytes, bytes]:
    with zipfile.ZipFile(KERAS / "small.keras") as archive:
        return archive.read("metadata.json"), archive.read("model.weights.h5")


def _keras(config: object, *more: Any, weights: bytes | None = None, **options: Any) -> bytes:
    metadata, good = _small()
    content = config if isinstance(config, bytes) else json.dumps(config).encode()
    members = [("metadata.json", metadata), ("config.json", content, options), ("model.weights.h5", good if weights is None else weights)]
    return zipped([*members, *more])


def _model(*layers: object, **rest: object) -> dict[str, object]:
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": list(layers)}, "registered_name": None, **rest}


def _hdf5(fill: Callable[[h5py.File], object], **options: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with h5py.File(path, "w", **options) as file:
            fill(file)

    return make


def _legacy(file: h5py.File, config: object = None, names: object = None, weights: object = None) -> h5py.Group:
    """A legacy weights layout of one dense layer."""
    group = file.create_group("model_weights")
    group.attrs["layer_names"] = np.array([b"out"]) if names is None else names
    layer = group.create_group("out")
    layer.attrs["weight_names"] = np.array([b"out/kernel:0"]) if weights is None else weights
    layer.create_dataset("out/kernel:0", data=np.ones((2, 2), "f4"))
    if config is not None:
        file.attrs["model_config"] = config if isinstance(config, (str, bytes)) else json.dumps(config)
    return group


def _hard_cycle(file: h5py.File) -> None:
    a = file.create_group("a")
    b = a.create_group("b")
    b["a"] = a
    a["w"] = np.ones(3, "f4")


def _soft(**links: str) -> Callable[[Path], None]:
    def fill(file: h5py.File) -> None:
        file["w"] = np.ones(3, "f4")
        for called, target in links.items():
            file[called] = h5py.SoftLink(target)

    return _hdf5(fill)


def _external(target: str, inside: str = "/w") -> Callable[[Path], None]:
    def fill(file: h5py.File) -> None:
        file["v"] = np.ones(3, "f4")
        file["w"] = h5py.ExternalLink(target, inside)

    def make(path: Path) -> None:
        (path.parent.parent / "canary").mkdir(exist_ok=True)
        with h5py.File(path.parent.parent / "canary" / "secret.h5", "w") as canary:
            canary["CANARY"] = np.ones(3, "f4")
        _hdf5(fill)(path)

    return make


def _set(**datasets: dict[str, Any]) -> Callable[[Path], None]:
    def fill(file: h5py.File) -> None:
        file["good"] = np.ones(3, "f4")
        for called, options in datasets.items():
            file.create_dataset(called, **options)

    return _hdf5(fill)


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("../canary/secret.h5", "CANARY", (4,))
    file.create_virtual_dataset("w", layout)


def _printf_virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/proc/self/fd/0", "w", (4,))
    file.create_virtual_dataset("w", layout)


def _unknown_filter(file: h5py.File) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((4,))
    plan.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (1,))
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(file.id, b"w", h5py.h5t.IEEE_F32LE, space, plan).write(space, space, np.ones(4, "f4"))


def _compact(file: h5py.File) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(file.id, b"w", h5py.h5t.IEEE_F32LE, space, plan).write(space, space, np.ones(4, "f4"))


def _attributes(file: h5py.File) -> None:
    _legacy(file, _model(DENSE))
    for n in range(3_000):
        file.attrs[f"a{n}"] = n
    file.attrs["model_config2"] = np.zeros((50, 50))
    file.attrs["reference"] = file["model_weights"].ref
    file.attrs["compound"] = np.zeros(2, [("a", "f4"), ("b", "i8")])


def _fan_out(file: h5py.File) -> None:
    below = file.create_group("g0")
    below["w"] = np.ones(3, "f4")
    for n in range(1, 30):
        group = file.create_group(f"g{n}")
        for k in range(30):
            group[f"x{k}"] = below
        below = group


def _superblock(per_table: int, per_node: int, header: int, end: int) -> bytes:
    versions = bytes((0, 0, 0, 0, 0, 8, 8, 0))
    places = pack("<HHI4QQQQ", per_table, per_node, 0, 0, NOWHERE, end, NOWHERE, 0, header, 0)
    return (b"\x89HDF\r\n\x1a\n" + versions + places).ljust(96, b"\0")


def _group(tree: int, heap: int, before: bytes = b"", behind: bytes = b"", messages: int = 1) -> bytes:
    return pack("<BxHII4x", 1, messages, 1, len(before) + 24 + len(behind)) + before + pack("<HH4xQQ", 0x11, 16, tree, heap) + behind


def _nothing(size: int) -> bytes:
    return pack("<HH4x", 0, size) + bytes(size)


def _large_headers(path: Path) -> None:
    """An HDF5 file of 250 groups with as many places in their headers for what they refer to, and 60 whose headers are a megabyte."""
    small, large = 250, 60
    count = small + large
    names = 168
    tree = names + 8 * (count + 1)
    empty, table = tree + 64, tree + 128
    at = table + 8 + 40 * count
    names_of_all = bytes(8) + b"".join(b"g%06d\0" % number for number in range(count))
    entries = []
    with path.open("wb") as file:
        for number in range(count):
            behind = (_nothing(65_520) * 16 + _nothing(8 * number)) if number >= small else b""
            group = _group(empty, 136, _nothing(8 * min(number, small - 1)), behind, 19 if behind else 2)
            file.seek(at)
            file.write(group)
            entries.append(pack("<QQ24x", 8 * (number + 1), at))
            at += len(group)
        file.seek(0)
        file.write(_superblock(count // 2, 1, 96, at) + _group(tree, 136) + pack("<4s4xQQQ", b"HEAP", len(names_of_all), 1, names))
        file.write(names_of_all)
        file.write(pack("<4sBBHQQQQQ16x", b"TREE", 0, 0, 1, NOWHERE, NOWHERE, 0, table, 8 * count))
        file.write(pack("<4sBBHQQ40x", b"TREE", 0, 0, 0, NOWHERE, NOWHERE))
        file.write(pack("<4sBxH", b"SNOD", 1, count) + b"".join(entries))


def _symbol_tables(children: int, per_node: int, per_table: int, name: int) -> bytes:
    """An HDF5 file whose root has one node, with many children that are all the same empty table, bounded by one name of many bytes."""
    header, heap, names = 96, 136, 168
    tree = names + name + 16
    table = tree + 32 + 32 * per_node
    end = table + 8 + 80 * per_table
    parts = {
        0: _superblock(per_table, per_node, header, end),
        header: _group(tree, heap),
        heap: pack("<4s4xQQQ", b"HEAP", name + 16, 1, names),
        names + 8: b"a" * name,
        tree: pack("<4sBBHQQQ", b"TREE", 0, 0, children, NOWHERE, NOWHERE, 0) + pack("<QQ", table, 8) * children,
        table: b"SNOD\1",
    }
    content = bytearray(end)
    for at, part in parts.items():
        content[at : at + len(part)] = part
    return bytes(content)


def _continued_itself(messages: int) -> bytes:
    """An HDF5 file whose root's header goes on where it begins, for so many messages."""
    again = pack("<HH4xQQ", 0x10, 16, 112, 24)
    return _superblock(1, 1, 96, 136) + pack("<BxHII4x", 1, messages, 1, len(again)) + again


def _large(content: bytes, size: int = 20 << 20) -> Callable[[Path], None]:
    """The file with zeros behind it: one of more than 16 MiB is read by parts, and a larger one may have larger headers."""

    def make(path: Path) -> None:
        path.write_bytes(content)
        os.truncate(path, size)

    return make


def _groups_in_groups(levels: int) -> bytes:
    """An HDF5 file of groups of 192 bytes, each within the one before; all are called the same, in one heap."""
    heap, first, each = 96, 144, 192
    content = _superblock(1, 1, first, first + each * (levels + 1))
    content += pack("<4s4xQQQ", b"HEAP", 16, 1, heap + 32) + b"a".rjust(9, b"\0").ljust(16, b"\0")
    for level in range(levels + 1):
        at, more = first + each * level, level < levels
        tree = pack("<4sBBHQQQQQ16x", b"TREE", 0, 0, more, NOWHERE, NOWHERE, 0, at + 104, 8)
        content += _group(at + 40, heap) + tree + pack("<4sBxHQQ64x", b"SNOD", 1, more, 8, at + each).ljust(88, b"\0")
    return content


def _deep_config(levels: int) -> str:
    return '{"class_name":"Sequential","config":{"layers":[' * levels + "]}}" * levels


def _files() -> list[Case]:
    def legacy(kind: str, verdict: str = ANY, mention: str = "", **told: Any) -> Case:
        return Case(f"{kind}.h5", _hdf5(lambda file: _legacy(file, **told)), verdict, mention)

    def made(kind: str, make: Callable[[Path], None], verdict: str = ANY, mention: str = "") -> Case:
        return Case(f"{kind}.h5", make, verdict, mention, ("CANARY",))

    huge = {"shape": (1 << 40, 1 << 20), "dtype": "f4", "chunks": (1, 1)}
    return [
        legacy("good", "ok"),
        legacy("names_of_numbers", names=np.arange(3)),
        legacy("names_of_floats", names=np.ones((2, 2))),
        legacy("names_scalar", names="out"),
        legacy("names_empty", names=np.array([], "S1")),
        legacy("names_twice", names=np.array([b"out", b"out"])),
        legacy("names_ghosts", EITHER, "ghost", names=np.array([b"out", b"ghost"])),
        legacy("names_traversal", names=np.array([b"../../etc", b"/etc/passwd"])),
        legacy("names_many", names=np.array([b"out"] * 4_000)),
        legacy("names_escape", names=np.array([b"\x1b[31mout"])),
        legacy("weights_traversal", weights=np.array([b"../../model_weights/out/out/kernel:0"])),
        legacy("weights_absolute", weights=np.array([b"/model_weights/out/out/kernel:0"])),
        legacy("weights_ghost", EITHER, "", weights=np.array([b"ghost"])),
        legacy("weights_twice", weights=np.array([b"out/kernel:0"] * 2)),
        legacy("weights_of_numbers", weights=np.arange(2)),
        legacy("weights_itself", weights=np.array([b"."])),
        legacy("weights_empty_name", weights=np.array([b""])),
        legacy("config_list", config="[1, 2]"),
        legacy("config_empty", config=""),
        legacy("config_nan", config='{"class_name":"Sequential","config":{"layers":[],"x":NaN}}'),
        legacy("config_twice", EITHER, "duplicate", config='{"class_name":"Model","class_name":"Sequential","config":[]}'),
        legacy("config_deep", config=_deep_config(30_0)),
        legacy("config_million", config=json.dumps(_model(*[{"class_name": "Dense", "config": {"name": "x"}}] * 600))),
        legacy("config_layers_text", config='{"class_name":"Sequential","config":{"layers":"abc"}}'),
        legacy("config_cycle_of_nodes", config=_model({**DENSE, "inbound_nodes": [[["out", 0, 0, {}]]]})),
        made("hard_cycle", _hdf5(_hard_cycle)),
        made("fan_out", _hdf5(_fan_out)),
        made("soft_itself", _soft(a="/a")),
        made("soft_root", _soft(a="/")),
        made("soft_pair", _soft(a="/b", b="/a")),
        made("soft_missing", _soft(a="/nowhere/x")),
        made("soft_dots", _soft(a="/../../etc")),
        made("soft_long", _soft(a="/x" * 10_000)),
        made("external_out", _external("../canary/secret.h5", "/CANARY"), EITHER, "external"),
        made("external_absolute", _external("/etc/passwd"), EITHER, "external"),
        made("external_device", _external("/dev/zero"), EITHER, "external"),
        made("external_itself", _external("external_itself.h5", "/v"), EITHER, "external"),
        made("external_empty", _external("x", "/"), EITHER, "external"),
        made("external_url", _external("https://example.org/x.h5"), EITHER, "external"),
        made("external_storage", _set(w={"shape": (4,), "dtype": "f4", "external": [("/etc/passwd", 0, 16)]}), EITHER, "external"),
        made("external_storage_many", _set(w={"shape": (4,), "dtype": "f4", "external": [(f"/x{n}", n, 4) for n in range(4)]}), EITHER, "external"),
        made("virtual_out", _hdf5(_virtual), EITHER, "virtual"),
        made("virtual_fd", _hdf5(_printf_virtual), EITHER, "virtual"),
        made("filter_unknown", _hdf5(_unknown_filter), EITHER, "filter"),
        made("compact", _hdf5(_compact)),
        made("gzip", _set(w={"data": np.ones(1000, "f4"), "compression": "gzip"}), "ok"),
        made("gzip_bomb", _set(w={"data": np.zeros(40 << 20, "u1"), "compression": "gzip", "chunks": (40 << 20,)})),
        made("lzf", _set(w={"data": np.ones(1000, "f4"), "compression": "lzf"}), "ok"),
        made("shuffle_fletcher", _set(w={"data": np.ones(1000, "f4"), "shuffle": True, "fletcher32": True}), "ok"),
        made("scale_offset", _set(w={"data": np.arange(1000), "scaleoffset": 0})),
        made("chunks_never_written", _set(w=huge)),
        made("chunk_larger", _set(w={"shape": (4,), "maxshape": (None,), "chunks": (1 << 20,), "dtype": "f4"})),
        made("fill_value", _set(w={"shape": (1 << 40,), "dtype": "f4", "fillvalue": 7, "chunks": (1024,)})),
        made("rank_32", _set(w={"shape": (1,) * 32, "dtype": "f4"})),
        made("null_space", _set(w={"data": h5py.Empty("f4")})),
        made("strings", _set(w={"data": np.array(["a", "b" * 1000], h5py.string_dtype())})),
        made("vlen", _set(w={"shape": (3,), "dtype": h5py.vlen_dtype("f4")})),
        made("enum", _set(w={"shape": (3,), "dtype": h5py.enum_dtype({"A": 0, "B": 1})})),
        made("opaque", _set(w={"data": np.zeros(3, "V7")})),
        made("compound", _set(w={"data": np.zeros(3, [("a", "f4"), ("b", "i8")])})),
        made("array_type", _set(w={"shape": (3,), "dtype": np.dtype(("f4", (100, 100)))})),
        made("reference", _set(w={"shape": (3,), "dtype": h5py.ref_dtype})),
        made("region_reference", _set(w={"shape": (3,), "dtype": h5py.regionref_dtype})),
        made("big_endian", _set(w={"data": np.ones(3, ">f4")}), "ok"),
        made("long_double", _set(w={"data": np.ones(3, "longdouble")})),
        made("attributes_many", _hdf5(_attributes)),
        made("swmr", _hdf5(lambda file: file.create_dataset("w", data=np.ones(3, "f4")), libver="latest")),
        made("track_order", _hdf5(_legacy, track_order=True)),
        made("user_block_zip", _polyglot(torch_zip(state_dict(SYSTEM))), EITHER),
        made("user_block_pickle", _polyglot(pickled(SYSTEM)), EITHER),
        made("user_block_text", _polyglot(b"#!/bin/sh\necho hi\n")),
        made("tail_pickle", _appended(pickled(SYSTEM)), ANY),
        made("tail_zip", _appended(torch_zip(state_dict(SYSTEM))), ANY),
        made("nan", _set(w={"data": np.full(3, np.nan, "f4")}), "finding", "NaN"),
        made("names_long", _hdf5(lambda file: file.create_dataset("x" * 60_000, data=np.ones(3, "f4")))),
        made("names_dots", _hdf5(lambda file: file.create_dataset("a.b/c.d", data=np.ones(3, "f4")))),
        made("tables_one", _large(_symbol_tables(65_534, 32_767, 65_535, 1)), "refuse", "no datasets"),
        *(made(f"continued_itself_{count}", _large(_continued_itself(count), 100 << 20), "refuse", "damaged") for count in (1, 65_535)),
        made("headers_large", _large_headers, "refuse", "no datasets"),
        Case("names_one.h5", _symbol_tables(2_000, 1_000, 4, 1 << 20), "refuse", "no datasets"),
        Case("groups_deep.h5", _groups_in_groups(20_000), "refuse", "paths"),
        made("many_groups", _hdf5(lambda file: [file.create_group(f"g{n}") for n in range(3_000)])),
    ]  # fmt: skip


def _polyglot(front: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        _hdf5(lambda file: file.create_dataset("w", data=np.ones(3, "f4")), userblock_size=2048)(path)
        path.write_bytes(front.ljust(2048, b"\0") + path.read_bytes()[2048:])

    return make


def _appended(tail: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        _hdf5(lambda file: file.create_dataset("w", data=np.ones(3, "f4")))(path)
        path.write_bytes(path.read_bytes() + tail)

    return make


def _linked_weights(link: object) -> Callable[[Path], None]:
    def fill(file: h5py.File) -> None:
        group = file.create_group("layers/dense/vars")
        group["0"] = link if not isinstance(link, str) else h5py.SoftLink(link)

    return _hdf5(fill)


def _weights() -> list[Case]:
    def made(kind: str, make: Callable[[Path], None], verdict: str = ANY, mention: str = "") -> Case:
        return Case(f"{kind}.weights.h5", make, verdict, mention)

    def variables(*names: str) -> Callable[[Path], None]:
        return _hdf5(lambda file: [file.create_dataset(f"layers/dense/vars/{called}", data=np.ones(3, "f4")) for called in names])

    return [
        made("good", variables("0", "1"), "ok"),
        made("external", _linked_weights(h5py.ExternalLink("/etc/passwd", "/w")), EITHER, "external"),
        made("soft", _linked_weights("/layers/dense/vars/0"), EITHER, "soft"),
        made("holes", variables("0", "7")),
        made("letters", variables("a", "b")),
        made("huge_number", variables("9" * 5_000)),
        made("unicode_number", variables("\u0661")),
        made("vars_is_dataset", _hdf5(lambda file: file.create_dataset("layers/dense/vars", data=np.ones(3, "f4")))),
        made("layers_is_dataset", _hdf5(lambda file: file.create_dataset("layers", data=np.ones(3, "f4")))),
        made("itself", _hdf5(lambda file: file.create_group("layers/dense/vars").__setitem__("layers", file["layers"]))),
        made("quantised", _hdf5(lambda file: file.create_dataset("layers/dense/vars/0", data=np.ones(3, "V3")))),
    ]


def _archives() -> list[Case]:
    good, evil = _small()[1], pickled(SYSTEM)
    model = _model(DENSE)

    def one(kind: str, content: bytes, verdict: str = EITHER, mention: str = "") -> Case:
        return Case(f"{kind}.keras", content, verdict, mention, ("\x1b", "\u202e"))

    found = [one(f"danger_{kind}", _keras(_model(DENSE, layer)), EITHER, word) for kind, (layer, word) in DANGERS.items()]
    found += [
        Case(f"danger_{kind}.h5", _hdf5(lambda file, layer=layer: _legacy(file, _model(DENSE, layer))), EITHER, word, ("\x1b", "\u202e"))
        for kind, (layer, word) in DANGERS.items()
        if kind not in ("long_class",)  # more than an attribute holds
    ]
    found += [one(f"honest_{kind}", _keras(_model(layer)), "ok") for kind, layer in HONEST.items()]
    found += [
        one("good", _keras(model), "ok"),
        one("compile_evil", _keras({**model, "compile_config": {"optimizer": _object("evil", "O"), "loss": _function("os", "system")}}), EITHER, "evil"),
        one("compile_lambda", _keras({**model, "compile_config": {"loss": LAMBDA}}), EITHER, "Lambda"),
        one("build_evil", _keras({**model, "build_config": {"input_shape": _object("evil", "S")}}), EITHER, "evil"),
        one("outermost_evil", _keras(_object("evil.models", "Net", {"layers": []}, "evil>Net")), EITHER, "evil"),
        one("outermost_function", _keras(_function("os", "system")), EITHER, "os"),
        one("many_lambdas", _keras(_model(*[LAMBDA] * 3_000)), EITHER, "Lambda"),
        one("lambda_behind_200000", _keras(_model(*[1] * 200_000, LAMBDA)), EITHER, "Lambda"),
        one("config_deep", _keras(_deep_config(30_000).encode()), EITHER),
        one("config_not_json", _keras(b"{nonsense"), EITHER),
        one("config_list", _keras([model]), EITHER),
        one("config_bom", _keras(b"\xef\xbb\xbf" + json.dumps(model).encode()), EITHER),
        one("config_utf16", _keras(json.dumps(model).encode("utf-16")), EITHER),
        one("config_nan", _keras(json.dumps(model).replace('"units": 2', '"units": NaN').encode()), ANY),
        one("config_twice_inside", _keras(json.dumps(model)[:-1].encode() + b',"config":' + json.dumps(LAMBDA).encode() + b"}"), EITHER, "duplicate"),
        one("config_bomb", _keras(b" " * (20 << 20) + b"{}", method=8), ANY),
        one("config_encrypted", _keras(model, flags=1), "refuse"),
        one("config_pickle", _keras(evil), EITHER),
        one("config_upper_twice", _keras(model, ("CONFIG.JSON", json.dumps(LAMBDA).encode())), EITHER),
        one("config_missing", zipped([("metadata.json", b"{}"), ("model.weights.h5", good)]), ANY),
        one("metadata_missing", zipped([("config.json", json.dumps(model).encode()), ("model.weights.h5", good)]), ANY),
        one("metadata_list", zipped([("config.json", json.dumps(model).encode()), ("metadata.json", b"[]"), ("model.weights.h5", good)]), ANY),
        one("metadata_escape", zipped([("config.json", json.dumps(model).encode()), ("metadata.json", json.dumps({"keras_version": "\x1b[31m\u202e"}).encode()), ("model.weights.h5", good)]), ANY),
        one("weights_missing", zipped([("config.json", json.dumps(model).encode()), ("metadata.json", b"{}")]), "refuse"),
        one("weights_twice", _keras(model, ("model.weights.h5", good)), EITHER),
        one("weights_npz", zipped([("config.json", b"{}"), ("metadata.json", b"{}"), ("model.weights.npz", b"x")]), "refuse"),
        one("weights_pickle", _keras(model, weights=evil), "refuse"),
        one("weights_empty", _keras(model, weights=b""), "refuse"),
        one("weights_cut", _keras(model, weights=good[: len(good) // 2]), "refuse"),
        one("weights_zip", _keras(model, weights=torch_zip(state_dict(SYSTEM))), "refuse"),
        one("weights_deflated", zipped([("config.json", json.dumps(model).encode()), ("metadata.json", b"{}"), ("model.weights.h5", good, {"method": 8})]), "ok"),
        one("weights_deflated_lies", zipped([("config.json", json.dumps(model).encode()), ("metadata.json", b"{}"), ("model.weights.h5", good, {"method": 8, "size": 1 << 30})]), EITHER),
        one("assets_pickle", _keras(model, ("assets/x.pkl", evil)), ANY),
        one("assets_absolute", _keras(model, ("/tmp/x", b"x")), EITHER),
        one("assets_windows", _keras(model, ("assets\\..\\..\\x", b"x")), EITHER),
        one("assets_symlink", _keras(model, ("assets", b"/etc", {"attributes": 0o120777 << 16})), ANY),
        one("data_pkl_too", _keras(model, ("a/data.pkl", state_dict(SYSTEM)), ("a/data/0", FOUR)), EITHER),
        one("prefix_pickle", evil + _keras(model), EITHER),
        one("tail_pickle", _keras(model) + evil, EITHER),
    ]  # fmt: skip
    return found


def cases() -> dict[str, list[Case]]:
    """Constructions by class."""
    return {"hdf5": _files(), "keras-weights": _weights(), "keras-zip": _archives()}
