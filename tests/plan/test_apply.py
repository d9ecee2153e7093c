"""A plan carried out in memory and into a file: equal to torch, bit for bit, and the source untouched."""

from __future__ import annotations

import hashlib

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import ckptaudit
from ckptaudit.align.ops import Permute, Rows
from ckptaudit.errors import CkptAuditError, CorruptCheckpointError, OutputError, PlanError, UsageError
from ckptaudit.plan import Plan
from ckptaudit.plan.writing import write_restored
from ckptaudit.read import open_checkpoint
from tests.plan.helpers import every_kind, plan_for, step


def test_every_source_gives_the_same(tmp_path):
    plan, source = every_kind()
    torch.save({"state_dict": source, "epoch": 3}, tmp_path / "a.pth")
    plan = plan.named("a.pth", "model", "state_dict")
    before = {name: tensor.clone() for name, tensor in source.items()}
    of_tensors = plan.apply(source)
    of_arrays = plan.apply({name: tensor.numpy() for name, tensor in source.items()})
    of_file = plan.apply(tmp_path / "a.pth")
    of_checkpoint = plan.apply(open_checkpoint(tmp_path / "a.pth"), as_torch=True)
    assert list(of_tensors) == list(of_arrays) == list(of_file) == list(of_checkpoint) == [s.target for s in plan.steps]
    for name, tensor in of_tensors.items():
        assert isinstance(tensor, torch.Tensor)
        assert isinstance(of_file[name], np.ndarray)
        assert torch.equal(tensor, torch.from_numpy(of_arrays[name]))
        assert torch.equal(tensor, torch.from_numpy(of_file[name]))
        assert torch.equal(tensor, of_checkpoint[name])
        assert of_file[name].flags.c_contiguous
        assert tensor.is_contiguous()
    for result in (of_tensors, of_arrays):  # the source is the same even after writing to what was computed
        for name in ("q.weight", "h.0.conv.weight", "scale"):
            result[name][...] = -1
    assert all(torch.equal(source[name], before[name]) for name in source)


def test_streamed_file(tmp_path):
    plan, source = every_kind()
    torch.save({"state_dict": source}, tmp_path / "a.pth")
    digest = hashlib.sha256((tmp_path / "a.pth").read_bytes()).digest()
    plan = plan.named("a.pth", "my model", "state_dict")
    seen = []
    write_restored(plan, tmp_path / "a.pth", tmp_path / "b.safetensors", progress=lambda done, total: seen.append((done, total)))
    written, wanted = load_file(tmp_path / "b.safetensors"), plan.apply(source)
    assert written.keys() == wanted.keys()
    assert all(torch.equal(written[name], wanted[name]) for name in wanted)
    assert seen[-1][0] == seen[-1][1] == sum(t.nbytes for t in wanted.values())
    with safe_open(tmp_path / "b.safetensors", "pt") as file:
        about = file.metadata()
    assert about == {
        "format": "pt", "tool": "ckptaudit", "tool_version": ckptaudit.__version__, "source": "a.pth", "source_branch": "state_dict",
        "plan": plan.fingerprint, "target": "my model",
    }  # fmt: skip
    assert hashlib.sha256((tmp_path / "a.pth").read_bytes()).digest() == digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "b.safetensors"]


DTYPES = [
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "uint16",
    "bool",
]


@pytest.mark.parametrize("dtype", [*DTYPES, "complex64"])
def test_dtypes(dtype, tmp_path):
    tensor = torch.arange(24).reshape(4, 6).remainder(5).to(getattr(torch, dtype))
    source = {"a.w": tensor, "a.t": tensor, "a.s": tensor[0, 0].clone(), "a.e": tensor[:0].clone(), "one": torch.ones(1, dtype=torch.uint8)}
    steps = [step("w", "a.w"), step("t", "a.t", [Permute((1, 0))]), step("s", "a.s"), step("e", "a.e"), step("one", "one")]
    plan = plan_for(steps, source)
    torch.save(source, tmp_path / "a.pth")
    wanted = {"w": tensor, "t": tensor.T, "s": tensor[0, 0], "e": tensor[:0], "one": source["one"]}
    write_restored(plan, tmp_path / "a.pth", tmp_path / "b.safetensors")
    results = [plan.apply(source), plan.apply(tmp_path / "a.pth", as_torch=True)]
    if dtype != "uint16":
        results.append(load_file(tmp_path / "b.safetensors"))
    for result in results:
        for name, value in wanted.items():
            assert result[name].dtype == value.dtype
            assert result[name].shape == value.shape
            assert torch.equal(result[name].float() if "float8" in dtype else result[name], value.float() if "float8" in dtype else value)
    arrays = plan.apply(tmp_path / "a.pth")
    if dtype == "bfloat16":
        assert arrays["t"].dtype == ml_dtypes.bfloat16


def test_large_transposed_tensors():
    source = {"a": torch.randn(700, 900), "b": torch.randn(40, 300, 50), "c": torch.randn(3, 3, 200, 300)}
    perms = {"a": (1, 0), "b": (1, 0, 2), "c": (3, 2, 0, 1)}
    plan = plan_for([step(f"x.{n}", n, [Permute(p)]) for n, p in perms.items()], source)
    result = plan.apply(source)
    assert all(torch.equal(result[f"x.{n}"], source[n].permute(p)) for n, p in perms.items())


def test_views_and_tied_tensors(tmp_path):
    whole = torch.randn(6, 8)
    source = {"a": whole, "b": whole, "c": whole[1:3], "d": whole.t(), "e": torch.randn(1).expand(5, 5)}
    torch.save(source, tmp_path / "a.pth")
    plan = plan_for([step(f"x.{name}", name) for name in source], source)
    write_restored(plan, tmp_path / "a.pth", tmp_path / "b.safetensors")
    written = load_file(tmp_path / "b.safetensors")
    assert all(torch.equal(written[f"x.{name}"], tensor) for name, tensor in source.items())


def test_another_checkpoint_is_refused(tmp_path):
    plan, source = every_kind()
    lacking = {name: tensor for name, tensor in source.items() if name != "module.stem"}
    other = {**source, "module.unused": source["module.unused"].double()}
    with pytest.raises(PlanError, match=r"has no module\.stem"):
        plan.apply(lacking, check=False)
    with pytest.raises(PlanError, match="names, shapes or dtypes differ"):
        plan.apply(other)
    assert len(plan.apply(other, check=False)) == len(plan.steps)
    save_file(other, tmp_path / "a.safetensors")
    for call in (plan.apply, lambda path: write_restored(plan, path, tmp_path / "b.safetensors")):
        with pytest.raises(PlanError, match="another checkpoint"):
            call(tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_ambiguous_steps_are_not_applied_unasked(tmp_path):
    source = {"a": torch.ones(2), "b": torch.zeros(2)}
    plan = plan_for([step("x", "a", grade="ambiguous", confidence=0.5), step("y", "b", grade="ambiguous", confidence=0.5)], source)
    assert not plan.safe
    save_file(source, tmp_path / "a.safetensors")
    with pytest.raises(PlanError, match=r"not sure of x and 1 more.*grade: decided.*--allow-ambiguous"):
        plan.apply(source)
    with pytest.raises(PlanError, match="not sure"):
        write_restored(plan, tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert plan.apply(source, allow_ambiguous=True).keys() == {"x", "y"}


def test_a_step_that_does_not_fit_names_its_tensor(tmp_path):
    source = {"a": torch.ones(2, 3)}
    plan = plan_for([step("x.weight", "a", [Permute((0, 2, 1))])], source)
    save_file(source, tmp_path / "a.safetensors")
    for call in (lambda: plan.apply(source), lambda: write_restored(plan, tmp_path / "a.safetensors", tmp_path / "b.safetensors")):
        with pytest.raises(PlanError, match=r"^x\.weight: transpose:0,2,1 does not fit a tensor of shape 2×3"):
            call()


def test_rows_of_the_model_are_kept(tmp_path):
    source = {"head": torch.tensor([[1.0], [2.0]])}
    plan = plan_for([step("fc", "head", [Rows((1, -1, 0))])], source)
    fresh = {"fc": torch.full((3, 1), 9.0)}
    assert plan.apply(source, initial=fresh)["fc"].flatten().tolist() == [2, 9, 1]
    assert fresh["fc"].flatten().tolist() == [9, 9, 9]
    save_file(source, tmp_path / "a.safetensors")
    with pytest.raises(PlanError, match="initial"):
        write_restored(plan, tmp_path / "a.safetensors", tmp_path / "b.safetensors")


def test_outputs_are_never_lost(tmp_path):
    source = {"a": torch.ones(2)}
    plan = plan_for([step("x", "a")], source)
    save_file(source, tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_text("mine")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "a.safetensors")
    for name, force, error in (
        ("b.safetensors", False, OutputError),
        ("a.safetensors", True, OutputError),
        ("link.safetensors", True, OutputError),
        ("b.bin", True, UsageError),
        ("b.weights.h5", True, UsageError),
        ("no/b.safetensors", True, OutputError),
    ):
        with pytest.raises(error):
            write_restored(plan, tmp_path / "a.safetensors", tmp_path / name, force=force)
    assert (tmp_path / "b.safetensors").read_text() == "mine"
    assert load_file(tmp_path / "a.safetensors").keys() == {"a"}
    write_restored(plan, tmp_path / "a.safetensors", tmp_path / "b.safetensors", force=True)
    assert load_file(tmp_path / "b.safetensors").keys() == {"x"}


def test_a_source_that_shrinks_leaves_nothing_behind(tmp_path):
    source = {"a": torch.ones(1000), "b": torch.ones(1000)}
    plan = plan_for([step("x", "a"), step("y", "b")], source)
    save_file(source, tmp_path / "a.safetensors")
    opened = open_checkpoint(tmp_path / "a.safetensors")
    with (tmp_path / "a.safetensors").open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(CorruptCheckpointError):
        write_restored(plan, opened, tmp_path / "b.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
def test_values_that_are_not_decoded_are_refused(tmp_path):
    source = {"a": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}
    torch.save(source, tmp_path / "a.pth")
    plan = plan_for([step("x", "a")], source)
    for call in (lambda: plan.apply(tmp_path / "a.pth"), lambda: write_restored(plan, tmp_path / "a.pth", tmp_path / "b.safetensors")):
        with pytest.raises(CkptAuditError, match="qint8"):
            call()


@given(st.lists(st.text("ab.", min_size=1, max_size=4), min_size=1, max_size=8, unique=True), st.randoms())
def test_a_rename_plan_moves_every_value_to_its_name(names, random):
    new = [f"{name}.x" for name in names]
    random.shuffle(new)
    source = {name: torch.tensor([i]) for i, name in enumerate(names)}
    plan = plan_for([step(b, a) for a, b in zip(names, new, strict=True)], source)
    assert plan.apply(source) == {b: source[a] for a, b in zip(names, new, strict=True)}
    assert len(set(plan.apply(source))) == len(names)


def test_an_identical_pair_has_an_empty_plan(samples):
    plan = ckptaudit.audit(samples / "resnet50_imagenet.pth", "resnet50").plan
    assert (plan.rules, plan.special, plan.dropped, plan.initial) == ((), (), (), ())
    assert all(s.ops == () and s.sources == (s.target,) for s in plan.steps)


def test_the_model_computes_the_same(tmp_path):
    """A small network under other names and in channels-last layout: restored through the plan, its outputs are equal."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 5)).eval()
    twin = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 5)).eval()
    model[1].running_mean.normal_()
    state = model.state_dict()
    source, steps = {}, []
    for name, tensor in state.items():
        perm = {4: (2, 3, 1, 0), 2: (1, 0)}.get(tensor.dim())
        source[f"net/{name.replace('.', '/')}"] = tensor.permute(perm).contiguous() if perm else tensor
        back = Permute(tuple(sorted(range(len(perm)), key=perm.__getitem__))) if perm else None
        steps.append(step(name, f"net/{name.replace('.', '/')}", [back] if back else []))
    save_file(source, tmp_path / "a.safetensors")
    plan = plan_for(steps, source)
    plan.save(tmp_path / "plan.yaml")
    twin.load_state_dict(Plan.load(tmp_path / "plan.yaml").apply(tmp_path / "a.safetensors", as_torch=True))
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(twin(images), model(images))
