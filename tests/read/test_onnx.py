"""ONNX models read back equal to what the onnx package says, wherever the values lie; contradictions are refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ckptaudit.errors import CkptAuditError, CorruptCheckpointError, NotACheckpointError
from ckptaudit.read import open_checkpoint


def model_of(*nodes, initializers=(), opset=17, functions=(), **rest):
    graph = helper.make_graph(list(nodes), "g", [], [], list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], functions=list(functions), **rest)


def read(model, folder, name="m.onnx"):
    (folder / name).write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return open_checkpoint(folder / name)


def assert_equal(found, tensor):
    wanted = numpy_helper.to_array(tensor)
    values = found.read()
    assert values.shape == wanted.shape
    assert values.tobytes() == wanted.tobytes()


DTYPES = [
    *("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BOOL"),
    *("COMPLEX64", "COMPLEX128", "FLOAT8E4M3FN", "FLOAT8E5M2", "FLOAT8E4M3FNUZ", "FLOAT8E5M2FNUZ"),
]


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("word", DTYPES)
@pytest.mark.filterwarnings("ignore")
def test_every_dtype(tmp_path, word, raw):
    values = np.array([0, 1, 2, 5, 100, 1]) if word != "BOOL" else np.array([True, False, True, True, False, True])
    if word.startswith("INT"):
        values[1:3] *= -1
    kind = getattr(TensorProto, word)
    tensor = helper.make_tensor(
        "w", kind, (2, 3), values.astype(helper.tensor_dtype_to_np_dtype(kind)).tobytes() if raw else values, raw=raw
    )
    found = read(model_of(initializers=[tensor]), tmp_path).branch.tensors["w"]
    assert_equal(found, tensor)


def test_real_model(real):
    model = onnx.load(real / "deeplabv3_mnv2_dm05.onnx")
    found = open_checkpoint(real / "deeplabv3_mnv2_dm05.onnx")
    assert len(found.branch.tensors) == 272
    assert list(found.branch.tensors) == [tensor.name for tensor in model.graph.initializer]
    for tensor in model.graph.initializer:
        assert_equal(found.branch.tensors[tensor.name], tensor)
    assert found.metadata["producer"] == "tf2onnx"
    assert found.metadata["inputs"] == ["MobilenetV2/MobilenetV2/input:0"]
    assert found.metadata["train_mode"] is False


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.lists(st.integers(0, 4), max_size=3), st.sampled_from(["f4", "f8", "i8", "i4", "u1", "f2", "u8"])), max_size=5)
)
def test_any_shapes(tmp_path, tensors):
    arrays = {
        f"layer.{n}.weight": np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype) for n, (shape, dtype) in enumerate(tensors)
    }
    model = model_of(initializers=[numpy_helper.from_array(array, name) for name, array in arrays.items()])
    found = read(model, tmp_path).branch.tensors
    assert {name: tensor.shape for name, tensor in found.items()} == {name: array.shape for name, array in arrays.items()}
    assert all((found[name].read() == array).all() for name, array in arrays.items())


def test_subgraphs_constants_and_functions(tmp_path):
    def branch(value):
        inner = numpy_helper.from_array(np.full(3, value, "f4"), "inner")
        return helper.make_graph([helper.make_node("Identity", ["inner"], ["o"])], "b", [], [], [inner])

    nodes = [
        helper.make_node("If", ["c"], ["r"], name="choose", then_branch=branch(1), else_branch=branch(2)),
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.arange(2, dtype="i8"), "ignored")),
    ]
    function = helper.make_function(
        "d", "f", [], ["y"], [helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(np.ones(1, "f4")))], []
    )
    found = read(model_of(*nodes, initializers=[numpy_helper.from_array(np.zeros((4, 4), "f4"), "w")], functions=[function]), tmp_path)
    held = {branch.name: dict(branch.tensors) for branch in found.branches}
    assert list(held["model"]) == ["w", "inner", "choose.else_branch/inner"] or list(held["model"]) == [
        "w",
        "inner",
        "choose.then_branch/inner",
    ]
    assert {float(held["model"][name].read()[0]) for name in list(held["model"])[1:]} == {1.0, 2.0}
    assert held["constants"]["k"].read().tolist() == [0, 1]
    assert held["constants"]["y"].read().tolist() == [1.0]
    assert found.branch.name == "model"


def test_dataflow_and_operators(tmp_path):
    weights = [numpy_helper.from_array(np.zeros((2, 2, 1, 1), "f4"), f"{name}.weight") for name in ("a", "b")]
    nodes = [
        helper.make_node("Conv", ["x", "a.weight"], ["1"]),
        helper.make_node("Relu", ["1"], ["2"]),
        helper.make_node("Conv", ["2", "b.weight"], ["3"]),
    ]
    found = read(model_of(*nodes, initializers=weights), tmp_path)
    assert found.branch.feeds == (("a", "b"),)
    assert found.branch.modules == {"a": "Conv", "b": "Conv"}


@pytest.mark.parametrize(
    ("opset", "node", "training"),
    [
        (17, {"op_type": "BatchNormalization", "training_mode": 1}, True),
        (17, {"op_type": "BatchNormalization"}, False),
        (9, {"op_type": "BatchNormalization", "outputs": ["y", "m", "v", "sm", "sv"]}, True),
        (9, {"op_type": "BatchNormalization"}, False),
        (6, {"op_type": "BatchNormalization", "is_test": 1}, False),
        (6, {"op_type": "Dropout"}, True),
        (13, {"op_type": "Dropout", "inputs": ["x", "", "on"]}, True),
        (13, {"op_type": "Dropout", "inputs": ["x", "", "off"]}, False),
        (13, {"op_type": "Dropout"}, False),
    ],
)
def test_train_mode(tmp_path, opset, node, training):
    made = helper.make_node(**{"inputs": ["x"], "outputs": ["y"], **node})
    flags = [numpy_helper.from_array(np.array(value), name) for name, value in (("on", True), ("off", False))]
    found = read(model_of(made, initializers=flags, opset=opset), tmp_path)
    assert found.metadata["train_mode"] is training
    assert any("train mode" in remark for remark in found.remarks) is training


def external(tmp_path, **entries):
    tensor = numpy_helper.from_array(np.arange(4, dtype="f4"), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", **entries}.items():
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    return read(model_of(initializers=[tensor]), tmp_path)


def test_external_data(tmp_path):
    (tmp_path / "w.bin").write_bytes(b"junk" + np.arange(4, dtype="f4").tobytes())
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/w.bin").write_bytes(np.arange(4, dtype="f4").tobytes())
    found = external(tmp_path, offset="4", length="16")
    assert found.branch.tensors["w"].read().tolist() == [0, 1, 2, 3]
    assert found.metadata["external_data"] == {"w.bin": 16}
    assert external(tmp_path, location="./sub/w.bin").branch.tensors["w"].read().tolist() == [0, 1, 2, 3]


def test_missing_external_data_is_told(tmp_path):
    found = external(tmp_path)
    assert "'w.bin' is missing" in found.remarks[0]
    with pytest.raises(CkptAuditError, match="missing"):
        found.read("w")


OUTSIDE = [
    "../w.bin",
    "/etc/hostname",
    "a/../../w.bin",
    "file:///etc/hostname",
    "C:\\w.bin",
    "..\\w.bin",
    "",
    "w\0.bin",
    " w.bin",
    "./../w.bin",
    "link",
    "linked/w.bin",
    ".",
]


@pytest.mark.parametrize("location", OUTSIDE)
def test_external_data_outside_is_refused(tmp_path, location):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(16))
    (folder / "link").symlink_to(tmp_path / "w.bin")
    (folder / "linked").symlink_to(tmp_path)
    with pytest.raises(CorruptCheckpointError):
        external(folder, location=location)


def test_external_data_in_the_cache_of_a_hub(tmp_path):
    snapshot = tmp_path / "models--a--b/snapshots/0123"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--a--b/blobs").mkdir()
    (tmp_path / "models--a--b/blobs/ff").write_bytes(np.arange(4, dtype="f4").tobytes())
    (snapshot / "w.bin").symlink_to("../../blobs/ff")
    assert external(snapshot).branch.tensors["w"].read().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "entries", [{"offset": "-1"}, {"offset": "1"}, {"offset": "x"}, {"length": "15"}, {"offset": "9" * 40}, {"location": None}]
)
def test_contradicting_external_data_is_refused(tmp_path, entries):
    (tmp_path / "w.bin").write_bytes(bytes(16))
    with pytest.raises(CorruptCheckpointError, match="'w'"):
        external(tmp_path, **entries)


def tensor(**fields):
    made = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
    for key, value in fields.items():
        if isinstance(value, list):
            del getattr(made, key)[:]
            getattr(made, key).extend(value)
        else:
            setattr(made, key, value)
    return made


@pytest.mark.parametrize(
    "broken",
    [
        tensor(raw_data=bytes(7)),
        tensor(raw_data=bytes(9)),
        tensor(float_data=[1.0]),
        tensor(float_data=[1.0, 2.0], raw_data=bytes(8)),
        tensor(int32_data=[1, 2]),
        tensor(data_type=TensorProto.INT64, int64_data=[1, 2, 3]),
        tensor(data_type=999, raw_data=bytes(8)),
        tensor(data_type=0),
        tensor(dims=[-2], raw_data=bytes(8)),
        tensor(dims=[2**32, 2**32]),
        tensor(dims=[1] * 300, raw_data=bytes(4)),
        tensor(),
    ],
)
def test_contradicting_tensors_are_refused(tmp_path, broken):
    with pytest.raises(CorruptCheckpointError, match="w"):
        read(model_of(initializers=[broken]), tmp_path)


def test_two_initializers_of_one_name_are_refused(tmp_path):
    with pytest.raises(CorruptCheckpointError, match="two initializers"):
        read(model_of(initializers=[tensor(raw_data=bytes(8))] * 2), tmp_path)


def test_graphs_nested_too_deep_are_refused(tmp_path):
    def field(number, content):
        length, size = b"", len(content)
        while size >= 0x80:
            length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    graph = b""
    for _ in range(200):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    with pytest.raises(CorruptCheckpointError, match="nested"):
        read(b"\x08\x08" + field(7, graph), tmp_path)


def test_fields_in_any_order(tmp_path):
    whole = model_of(initializers=[tensor(raw_data=bytes(8))])
    graph = whole.graph.SerializeToString()
    assert len(graph) < 128
    assert list(read(b"\x3a" + bytes([len(graph)]) + graph + b"\x08\x08", tmp_path).branch.tensors) == ["w"]


def test_without_a_graph(tmp_path):
    with pytest.raises(NotACheckpointError, match="without a graph"):
        read(onnx.ModelProto(ir_version=8, producer_name="p"), tmp_path)
