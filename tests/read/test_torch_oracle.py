"""Every file that torch writes must give the names, shapes, dtypes and bytes that ``torch.load`` gives."""

from __future__ import annotations

import pickle
import warnings
from argparse import Namespace
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckptaudit.errors import CorruptCheckpointError, ValuesUnavailableError
from ckptaudit.read import StoredTensor, open_checkpoint

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
    torch.complex32,
    torch.complex64,
    torch.complex128,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint64,
    torch.uint32,
    torch.uint16,
    torch.uint8,
    torch.bool,
]


class Renamed(OrderedDict):
    pass


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.blocks = torch.nn.Sequential(torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2, bias=False))
        self.register_buffer("kept", torch.arange(3.0))
        self.register_buffer("derived", torch.arange(5.0), persistent=False)
        self.blocks.again = self.conv


def bits(tensor: torch.Tensor) -> bytes:
    dense = tensor.detach().resolve_conj().resolve_neg()
    if dense.is_quantized:
        dense = dense.int_repr()
    dense = dense.contiguous().clone(memory_format=torch.contiguous_format)
    return dense.reshape(-1).view(torch.uint8).numpy().tobytes() if dense.numel() else b""


def assert_same(stored: StoredTensor, tensor: torch.Tensor) -> None:
    assert stored.shape == tuple(tensor.shape)
    assert stored.dtype == str(tensor.dtype).removeprefix("torch.")
    assert stored.read().tobytes() == bits(tensor)


def flat(value: object, prefix: str = "") -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {prefix: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return {name: t for key, child in items for name, t in flat(child, f"{prefix}.{key}" if prefix else str(key)).items()}


def quantised() -> dict[str, torch.Tensor]:
    values = torch.randn(3, 4)
    return {
        "tensor.weight": torch.quantize_per_tensor(values, 0.1, 3, torch.qint8),
        "tensor.zero": torch.quantize_per_tensor(values, 0.1, 3, torch.quint8),
        "tensor.wide": torch.quantize_per_tensor(values, 0.1, 3, torch.qint32),
        "channel.weight": torch.quantize_per_channel(values, torch.rand(3) + 0.1, torch.zeros(3, dtype=torch.long), 0, torch.qint8),
    }


def views() -> dict[str, torch.Tensor]:
    base = torch.arange(24.0).reshape(4, 6)
    return {
        "a.base": base,
        "a.tied": base,
        "a.transposed": base.t(),
        "a.strided": base[::2, 1::3],
        "a.row": base[2],
        "a.expanded": torch.ones(1, 5).expand(7, 5),
        "a.scalar": torch.tensor(3.5),
        "a.zero": torch.zeros(0, 3),
        "a.zero_view": base[4:, :2],
        "a.channels_last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    }


pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support", "ignore:.*quantiz", "ignore::UserWarning:torch.*")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch calls half of these dtypes experimental
    OF_EVERY_DTYPE = {f"layer.{dtype}".replace("torch.", ""): torch.arange(6.0).reshape(2, 3).to(dtype) for dtype in DTYPES}
    QUANTISED = quantised()

UNSTORED = {"layer.uint16", "layer.uint32", "layer.uint64", "layer.complex32"}
STATE_DICTS = {
    "dtypes": OF_EVERY_DTYPE,
    "views": views(),
    "quantised": QUANTISED,
    "parameters": {
        "fc.weight": torch.nn.Parameter(torch.randn(2, 2)),
        "fc.frozen": torch.nn.Parameter(torch.randn(2), requires_grad=False),
    },
    "module state dict": Net().state_dict(),
    "subclass": Renamed([("z.weight", torch.ones(2)), ("a.bias", torch.zeros(2))]),
    "defaultdict": defaultdict(list, {"a.weight": torch.ones(3)}),
    "odd names": {"": torch.ones(1), "a\nb\x1b[31m": torch.ones(2), "ключ.weight": torch.ones(3), "x" * 5000: torch.ones(1)},
}

SAVES = [
    pytest.param({"_use_new_zipfile_serialization": zipped, "pickle_protocol": protocol}, id=f"{'zip' if zipped else 'legacy'}-{protocol}")
    for zipped in (True, False)
    for protocol in (2, 3, 4, 5)
]


@pytest.mark.parametrize("how", SAVES)
@pytest.mark.parametrize("name", STATE_DICTS)
def test_state_dict_equals_torch_load(tmp_path: Path, name: str, how: dict[str, object]) -> None:
    path = tmp_path / "file.of.any.name"
    saved = STATE_DICTS[name]
    if name == "dtypes" and not how["_use_new_zipfile_serialization"]:
        # torch itself cannot load the rest from its legacy format: they have no storage class.
        saved = {key: tensor for key, tensor in saved.items() if "float8" not in key and key not in UNSTORED}
    torch.save(saved, path, **how)
    loaded = torch.load(path, weights_only=False)
    read = open_checkpoint(path)
    assert read.format == ("torch-zip" if how["_use_new_zipfile_serialization"] else "torch-legacy")
    assert read.branch.name == ""
    assert list(read.branch.tensors) == list(loaded)
    for key, tensor in loaded.items():
        assert_same(read.branch.tensors[key], tensor)
    # The class of the dictionary is a global like any other: named, and not imported.
    assert [g.name.rpartition(".")[2] for g in read.refused_globals] == (["Renamed"] if name == "subclass" else [])
    assert not read.remarks


@pytest.mark.parametrize("how", SAVES)
def test_parameters_are_marked(tmp_path: Path, how: dict[str, object]) -> None:
    torch.save(STATE_DICTS["parameters"], tmp_path / "p.pt", **how)
    assert [t.parameter for t in open_checkpoint(tmp_path / "p.pt").branch.tensors.values()] == [True, True]


def test_values_that_torch_computes_on_access_are_not_guessed(tmp_path: Path) -> None:
    value = torch.tensor([1 + 2j])
    torch.save(
        {"a.plain": value, "a.conj": value.conj(), "a.neg": torch.tensor([3 + 4j]).conj().imag, "a.sparse": torch.eye(3).to_sparse()},
        tmp_path / "v.pt",
    )
    read = open_checkpoint(tmp_path / "v.pt")
    assert read.read("a.plain").tolist() == [1 + 2j]
    for name in ("a.conj", "a.neg", "a.sparse"):
        with pytest.raises(ValuesUnavailableError):
            read.read(name)
    assert read.branch.tensors["a.sparse"].shape == (3, 3)


def test_tied_tensors_are_tied_and_views_are_not(tmp_path: Path) -> None:
    torch.save(views(), tmp_path / "v.pt")
    assert open_checkpoint(tmp_path / "v.pt").graph.tied == (("a.base", "a.tied"),)


@pytest.mark.parametrize("how", SAVES)
def test_whole_module(tmp_path: Path, how: dict[str, object]) -> None:
    net = Net()
    torch.save({"model": net, "epoch": 7}, tmp_path / "m.pt", **how)
    read = open_checkpoint(tmp_path / "m.pt")
    state = net.state_dict()
    assert read.branch.name == "model"
    assert list(read.branch.tensors) == list(state)
    for key, tensor in state.items():
        assert_same(read.branch.tensors[key], tensor)
    assert read.branch.modules["blocks.0"] == "torch.nn.modules.batchnorm.BatchNorm2d"
    assert read.branch.tensors["conv.weight"].parameter is True
    assert read.branch.tensors["kept"].parameter is False
    assert read.metadata["epoch"] == 7
    assert "torch.nn.modules.conv.Conv2d" in {g.name for g in read.refused_globals}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_bare_pickle_of_arrays(tmp_path: Path, protocol: int) -> None:
    arrays = {
        "conv.weight": numpy.arange(12, dtype="f4").reshape(3, 4),
        "conv.bias": numpy.arange(3, dtype=">f8"),
        "conv.fortran": numpy.asfortranarray(numpy.arange(6, dtype="i8").reshape(2, 3)),
        "conv.flag": numpy.array([True, False]),
    }
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "matching_heuristics": True, "lr": numpy.float64(0.5)}, protocol))
    read = open_checkpoint(path)
    assert (read.format, read.branch.name) == ("pickle", "model")
    assert read.metadata == {"matching_heuristics": True, "lr": 0.5}
    assert {name: tensor.shape for name, tensor in read.branch.tensors.items()} == {name: array.shape for name, array in arrays.items()}
    for name, array in arrays.items():  # up to protocol 2 Python 3 writes bytes as text
        assert numpy.array_equal(read.read(name), array)
    assert not read.refused_globals


def test_arrays_in_a_zip_of_torch(tmp_path: Path) -> None:
    """torch writes protocol 2; a text of some size stays in the file until it is read."""
    arrays = {"a.weight": numpy.random.default_rng(0).normal(size=(400, 500)), "a.bias": numpy.arange(400)}
    torch.save(arrays, tmp_path / "x.pth")
    read = open_checkpoint(tmp_path / "x.pth")
    assert all(numpy.array_equal(read.read(name), array) for name, array in arrays.items())
    content = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(content.replace(b"\xc2", b"\xc5"))
    with pytest.raises(CorruptCheckpointError, match="not one of 1,600,000 bytes"):
        open_checkpoint(tmp_path / "x.pth").read("a.weight")


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_bare_pickle_of_tensors(tmp_path: Path, protocol: int) -> None:
    state = {**views(), "b.half": torch.ones(2, dtype=torch.float16)}
    path = tmp_path / "state.pkl"
    path.write_bytes(pickle.dumps({"epoch": 1, "state_dict": state}, protocol))
    read = open_checkpoint(path)
    assert list(read.branch.tensors) == list(state)
    for key, tensor in state.items():
        assert_same(read.branch.tensors[key], tensor)
    assert not read.refused_globals


@pytest.mark.parametrize("how", SAVES)
def test_trainer_with_optimizer(tmp_path: Path, how: dict[str, object]) -> None:
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.25)
    sum(parameter.sum() for parameter in net.parameters()).backward()
    optimizer.step()
    saved = {
        "epoch": 3,
        "arch": "net",
        "state_dict": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng_state": torch.get_rng_state(),
        "args": Namespace(lr=0.25, data=Path("some/where"), classes=["cat", "dog"]),
    }
    torch.save(saved, tmp_path / "t.pth", **how)
    read = open_checkpoint(tmp_path / "t.pth")
    assert {branch.name: branch.role for branch in read.branches} == {"": "other", "state_dict": "model", "optimizer": "optimizer"}
    assert read.branch.name == "state_dict"
    assert read.branch_reason == "the only branch with model weights"
    optimizer_branch = read.with_branch("optimizer").branch
    assert set(optimizer_branch.tensors) == {f"state.{k}.{slot}" for k, s in optimizer.state_dict()["state"].items() for slot in s}
    assert_same(optimizer_branch.tensors["state.0.exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    assert read.metadata["epoch"] == 3
    assert read.metadata["args"] == {"lr": 0.25, "data": "some/where", "classes": ["cat", "dog"]}
    assert read.metadata["optimizer"]["param_groups"][0]["lr"] == 0.25
    assert "argparse.Namespace" in {g.name for g in read.refused_globals if g.called}


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="."), min_size=1, max_size=6)
TENSORS = st.builds(
    lambda shape, dtype: torch.arange(int(numpy.prod(shape, dtype=int)) or 0).reshape(shape).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from([torch.float32, torch.int64, torch.bfloat16, torch.bool]),
)
TREES = st.dictionaries(
    NAMES, st.recursive(TENSORS, lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3), max_leaves=6), min_size=1, max_size=4
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TREES, st.booleans(), st.sampled_from([2, 4]))
def test_every_tensor_of_nested_dicts_is_found_once(tmp_path: Path, tree: dict[str, object], zipped: bool, protocol: int) -> None:
    path = tmp_path / "tree.pt"
    torch.save(tree, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    found = {
        ".".join(filter(None, (branch.name, name))): tensor
        for branch in open_checkpoint(path).branches
        for name, tensor in branch.tensors.items()
    }
    expected = flat(torch.load(path, weights_only=False))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert_same(found[name], tensor)
