"""``ckptaudit.load``: it restores, or it raises and nothing has changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import ckptaudit
from ckptaudit.errors import CheckpointError, UsageError
from tests.conftest import ROOT
from tests.prove import networks as proving
from tests.restore.networks import Repeated, SmallNet, Tied, copied, prefixed, same, trained

IMAGE = torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)


@pytest.fixture
def source() -> nn.Module:
    return trained(SmallNet())


@pytest.fixture
def file(source, tmp_path):
    torch.save({"epoch": 3, "state_dict": prefixed(source.state_dict())}, tmp_path / "trained.pth")
    return tmp_path / "trained.pth"


def test_restores_by_the_plan_into_the_very_tensors(source, file):
    model = SmallNet().eval()
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    versions = {name: parameter._version for name, parameter in parameters.items()}
    audit = ckptaudit.load(model, file)
    assert audit.verdict.status == "remappable"
    assert torch.equal(model(IMAGE), source(IMAGE))
    assert all(dict(model.named_parameters())[name] is parameter for name, parameter in parameters.items())
    assert all(p.requires_grad and p.grad_fn is None and p._version > versions[name] for name, p in parameters.items())
    model(IMAGE).sum().backward()
    optimizer.step()


def test_what_an_audit_without_findings_needs_is_loaded_and_no_more(source, tmp_path):
    """A program that restores one file pays for every module: beside the copying of a large one, that is all that a restore costs."""
    torch.save(source.state_dict(), tmp_path / "plain.pth")
    program = (
        "import sys, ckptaudit\nfrom tests.restore.networks import SmallNet\nmodel = SmallNet()\n"
        f"assert ckptaudit.load(model, {str(tmp_path / 'plain.pth')!r}).verdict.status == 'compatible'\n"
        "print(*sorted(name.removeprefix('ckptaudit.') for name in sys.modules if name.startswith('ckptaudit')))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (ended.returncode, ended.stderr) == (0, "")
    loaded = ended.stdout.split()
    families = ("identification", "prove", "report", "scanning", "lock", "probe", "contract", "cli", "completing", "align.by_structure")
    modules = (
        "align.combine",
        "align.ops.",
        "arch.resolve",
        "arch.catalogue",
        "graph.heads",
        "plan.rename_rules",
        "plan.applying",
        "plan.writing",
    )
    assert "restore.torch_writing" in loaded
    assert [name for name in loaded if name.startswith((*families, *modules))] == []
    assert {name.split(".")[1] for name in loaded if name.startswith("rules.") and name.count(".") == 2} == {"always", "weights"}


WRAPPERS = {"DataParallel": nn.DataParallel, "compile": torch.compile, "twice": lambda m: nn.DataParallel(torch.compile(m))}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_wrapped_models_are_restored(wrap, source, file):
    inner = SmallNet().eval()
    ckptaudit.load(wrap(inner), file)
    assert torch.equal(inner(IMAGE), source(IMAGE))


def change(state: dict[str, torch.Tensor], **new: torch.Tensor) -> dict[str, torch.Tensor]:
    return state | {name.replace("__", "."): tensor for name, tensor in new.items()}


#: What is wrong with the file, what is asked, and what the error says.
REFUSED = [
    pytest.param(lambda s: change(s, head__weight=torch.ones(4, 16, 1, 1), head__bias=torch.ones(4)), {}, "num-classes", id="classes"),
    pytest.param(lambda s: {n: t for n, t in s.items() if n.startswith("encoder")}, {}, "missing", id="no head"),
    pytest.param(lambda s: {f"stage.{n}": t.flatten()[:1] for n, t in s.items()}, {"intent": "finetune"}, "not fit", id="another network"),
    pytest.param(lambda s: change(s, encoder__1__running_var=-torch.ones(8)), {}, "bn-invalid", id="negative variance"),
    pytest.param(lambda s: change(s, head__weight=s["head.weight"].to(torch.int64)), {}, "dtype", id="whole numbers"),
    pytest.param(
        lambda s: {n: t for n, t in s.items() if n.startswith("encoder")},
        {"intent": "finetune", "min_coverage": 0.95},
        "95.0% are demanded",
        id="coverage",
    ),
    pytest.param(lambda s: {n: s[n] for n in ("head.weight", "head.bias")}, {"allow_missing": ["encoder.0"]}, "encoder", id="allowed less"),
]


@pytest.mark.parametrize(("damage", "demand", "words"), REFUSED)
def test_what_does_not_fit_leaves_the_model_as_it_was(damage, demand, words, source, tmp_path):
    torch.save(damage(copied(source)), tmp_path / "other.pth")
    model = trained(SmallNet(), seed=1)
    before = copied(model)
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match=words) as raised:
        ckptaudit.load(model, tmp_path / "other.pth", **demand)
    assert same(model, before)
    assert not raised.value.audit.verdict.fit or "demanded" in words
    assert isinstance(raised.value, ckptaudit.CkptAuditError)


@pytest.mark.parametrize(
    ("demand", "kept"),
    [({"intent": "finetune"}, "head"), ({"allow_missing": ["head"]}, "head"), ({"allow_missing": ["head.*"], "min_coverage": 0.5}, "head")],
)
def test_what_may_be_missing_keeps_its_values(demand, kept, source, tmp_path):
    torch.save(source.encoder.state_dict(), tmp_path / "encoder.pth")
    model = trained(SmallNet(), seed=1)
    before = copied(model)
    audit = ckptaudit.load(model, tmp_path / "encoder.pth", **demand)
    assert audit.coverage.parameters[0] < audit.coverage.parameters[1]
    after = model.state_dict()
    unchanged = {name for name in after if torch.equal(after[name], before[name]) and not name.endswith("num_batches_tracked")}
    assert unchanged == {f"{kept}.weight", f"{kept}.bias"}
    assert same(model.encoder, source.encoder.state_dict())


def test_dtype_and_layout_of_the_model_are_kept(source, file):
    model = SmallNet().to(torch.bfloat16).to(memory_format=torch.channels_last)
    ckptaudit.load(model, file)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.head.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(model.encoder[3].weight, source.encoder[3].weight.to(torch.bfloat16))


@pytest.mark.parametrize("name", ["head.weight", "encoder.4.running_var"])
def test_values_beyond_the_models_dtype_are_found_before_the_first_write(name, source, tmp_path):
    state = copied(source)
    state[name].view(-1)[min(100, state[name].numel() - 2)] = 1e6  # where no sample looks; float16 ends at 65,504
    torch.save(state, tmp_path / "large.pth")
    model = trained(SmallNet(), seed=1).half()
    before = copied(model)
    refused = pytest.raises(ckptaudit.IncompatibleCheckpoint, match=rf"1 values of `{re.escape(name)}` are beyond what float16 holds\.")
    for call in (ckptaudit.load, load_in_a_guard):
        with refused:
            call(model, tmp_path / "large.pth")
        assert same(model, before)
    model.load_state_dict(state)
    with refused:
        ckptaudit.verify(model, tmp_path / "large.pth")
    with ckptaudit.guard(model):
        model.load_state_dict(state, assign=True)
    assert ckptaudit.verify(model, tmp_path / "large.pth").verdict.fit


@pytest.mark.parametrize("piece", [1, 1000, 1 << 20])
def test_large_tensors_are_read_in_pieces(piece, source, tmp_path, monkeypatch):
    from ckptaudit.restore import torch_writing

    monkeypatch.setattr(torch_writing, "_PIECE", piece)
    monkeypatch.setattr(torch_writing, "_SMALL", 256)
    torch.save({name: tensor.half() if "head" in name else tensor for name, tensor in source.state_dict().items()}, tmp_path / "a.pth")
    model = SmallNet().eval()
    versions = {name: tensor._version for name, tensor in model.state_dict(keep_vars=True).items()}
    ckptaudit.load(model, tmp_path / "a.pth")
    ckptaudit.verify(model, tmp_path / "a.pth")
    assert all(tensor._version > versions[name] for name, tensor in model.state_dict(keep_vars=True).items())


def test_a_file_that_loses_its_name_meanwhile_is_read_to_its_end(source, file, monkeypatch):
    """A trainer writes the next checkpoint under the same name while this one is restored."""
    from ckptaudit.restore import torch_writing

    model, real = SmallNet().eval(), torch_writing.refuse_contradictions

    def replaced(writes):
        real(writes)
        (file.parent / "next").write_bytes(b"something else")
        (file.parent / "next").replace(file)

    monkeypatch.setattr(torch_writing, "refuse_contradictions", replaced)
    ckptaudit.load(model, file)
    assert torch.equal(model(IMAGE), source(IMAGE))


def test_a_file_that_is_cut_short_meanwhile_is_told(source, tmp_path, monkeypatch):
    """Copying from a mapping of it would kill the process by SIGBUS."""
    from ckptaudit.restore import torch_writing

    file, real = tmp_path / "a.safetensors", torch_writing.refuse_contradictions
    safetensors.torch.save_file({n: t.half() if "head" in n else t for n, t in source.state_dict().items()}, file)

    def cut(writes):
        real(writes)
        assert {write.straight for write in writes} == {True, False}
        os.truncate(file, 4096)

    monkeypatch.setattr(torch_writing, "refuse_contradictions", cut)
    with pytest.raises(CheckpointError, match=r"changed while .*no longer as it was"):
        ckptaudit.load(SmallNet(), file)


DAMAGE = {
    "cut": lambda f: f.write_bytes(f.read_bytes()[:-4000]),
    "gone": lambda f: f.unlink(),
    "another": lambda f: f.write_text("x" * 9000),
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_a_file_that_is_damaged_after_the_audit_changes_nothing(change, source, tmp_path):
    safetensors.torch.save_file(source.state_dict(), tmp_path / "a.safetensors")
    opened = ckptaudit.open_checkpoint(tmp_path / "a.safetensors")
    model = trained(SmallNet(), seed=1)
    before = copied(model)
    change(tmp_path / "a.safetensors")
    with pytest.raises(ckptaudit.CkptAuditError):
        ckptaudit.load(model, opened)
    assert same(model, before)


class Sharing(nn.Module):
    """Two parameters that are parts of one storage, a buffer that is a view of one of them, and an expanded one."""

    def __init__(self) -> None:
        super().__init__()
        both = torch.randn(2, 6)
        self.a, self.b = nn.Parameter(both[0]), nn.Parameter(both[1])
        self.register_buffer("part", self.a.detach()[2:4])
        self.register_buffer("scale", torch.zeros(1, 3).expand(5, 3))


@pytest.mark.parametrize("lost", ["out.weight", "embed.weight"])
@pytest.mark.parametrize("words", [{}, {"embed": "tokens", "body": "middle", "out": "head"}], ids=["own names", "other names"])
def test_tied_weights_stay_tied(lost, words, tmp_path):
    source, model = trained(Tied()), Tied()
    state = {name: tensor.contiguous() for name, tensor in source.state_dict().items() if name != lost}
    renamed = {".".join(words.get(part, part) for part in name.split(".")): tensor for name, tensor in state.items()}
    safetensors.torch.save_file(renamed, tmp_path / "tied.safetensors")
    assert ckptaudit.load(model, tmp_path / "tied.safetensors").plan.complete
    assert model.out.weight is model.embed.weight
    assert same(model, source.state_dict())


@pytest.mark.parametrize("there", ["layers.0", "layers.2", "block"])
def test_a_block_that_is_repeated_is_held_once(there, tmp_path):
    source, model = trained(Repeated()), Repeated()
    state = {n.replace("layers.0", there): t for n, t in source.state_dict().items() if n.startswith(("layers.0", "head"))}
    safetensors.torch.save_file(state, tmp_path / "once.safetensors")
    audit = ckptaudit.load(model, tmp_path / "once.safetensors")
    assert (audit.plan.complete, len(audit.plan.steps)) == (True, 26)
    assert same(model, source.state_dict())


def test_tied_in_the_model_and_different_in_the_file(source, tmp_path):
    state = copied(trained(Tied()))
    state["out.weight"] = state["out.weight"].clone()
    state["out.weight"][-1, -1] += 1
    torch.save(state, tmp_path / "untied.pth")
    model = Tied()
    before = copied(model)
    with pytest.raises(ckptaudit.CkptAuditError, match="different"):
        ckptaudit.load(model, tmp_path / "untied.pth")
    assert same(model, before)


def sharing_state(**new: torch.Tensor) -> dict[str, torch.Tensor]:
    a = torch.arange(6.0) + 1
    return {"a": a, "b": a * 2, "part": a[2:4].clone(), "scale": torch.tensor([[1.0, 2, 3]] * 5), **new}


def test_shared_storages_and_expanded_tensors(tmp_path):
    torch.save(sharing_state(), tmp_path / "fits.pth")
    model = Sharing()
    ckptaudit.load(model, tmp_path / "fits.pth")
    assert same(model, sharing_state())
    assert model.scale.stride() == (0, 1)


@pytest.mark.parametrize(
    ("new", "words"), [({"part": torch.tensor([8.0, 9])}, "share memory"), ({"scale": torch.arange(15.0).reshape(5, 3)}, "expanded")]
)
def test_memory_that_would_get_two_values_is_refused(new, words, tmp_path):
    torch.save(sharing_state(**new), tmp_path / "contradicts.pth")
    model = Sharing()
    before = copied(model)
    with pytest.raises(ckptaudit.CkptAuditError, match=words):
        ckptaudit.load(model, tmp_path / "contradicts.pth")
    assert same(model, before)


def test_a_model_without_memory_needs_a_device(source, file):
    with torch.device("meta"):
        model = SmallNet().eval()
    with pytest.raises(ckptaudit.CkptAuditError, match=r"meta device.*device"):
        ckptaudit.load(model, file)
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    ckptaudit.load(model, file, device="cpu")
    assert torch.equal(model(IMAGE), source(IMAGE))


def test_a_model_without_memory_gets_no_undefined_values(source, tmp_path):
    torch.save(source.encoder.state_dict(), tmp_path / "encoder.pth")
    with torch.device("meta"):
        model = SmallNet()
    with pytest.raises(ckptaudit.CkptAuditError, match=r"head\.weight is on the meta device and the checkpoint does not set it"):
        ckptaudit.load(model, tmp_path / "encoder.pth", intent="finetune", device="cpu")
    assert all(tensor.is_meta for tensor in model.state_dict().values())


def test_models_made_in_inference_mode(source, file):
    with torch.inference_mode():
        model = SmallNet().eval()
        ckptaudit.load(model, file)
    ckptaudit.load(model, file)
    with torch.inference_mode():
        assert torch.equal(model(IMAGE), source(IMAGE))


def test_other_formats_and_layouts(source, tmp_path):
    """Big-endian values, a transposed view in the file, and numpy arrays end up as the same numbers."""
    state = copied(source)
    state["head.weight"] = state["head.weight"].transpose(0, 1).contiguous().transpose(0, 1)
    torch.save(state, tmp_path / "strided.pth")
    model = SmallNet()
    ckptaudit.load(model, tmp_path / "strided.pth")
    assert same(model, copied(source))


def test_arguments_are_checked():
    model = SmallNet()
    for demand, error in (({"intent": "train"}, ValueError), ({"allow_missing": "head"}, TypeError), ({"min_coverage": 90}, ValueError)):
        with pytest.raises(error):
            ckptaudit.load(model, "never_opened.pth", **demand)
    with pytest.raises(ckptaudit.CkptAuditError, match=r"torch\.nn\.Module"):
        ckptaudit.load(np.zeros(3), "never_opened.pth")


#: What is restored → what the refusal says of it, or "" where it is restored.
PUT_TO_THE_PROOF = [
    pytest.param(proving.Renamed, {}, "", id="right"),
    pytest.param(lambda: torch.compile(proving.Renamed()), {}, "", id="right, compiled"),
    pytest.param(proving.other_padding, {}, r"refuted by running both models.*`stem\.0`.*padding: 1 in the model that wrote", id="padding"),
    pytest.param(lambda: nn.DataParallel(proving.swish()), {}, r"refuted.*an activation, a pooling", id="activation, wrapped"),
    pytest.param(proving.other_padding, {"settle": False}, "", id="not asked for"),
]


@pytest.mark.parametrize(("build", "options", "words"), PUT_TO_THE_PROOF)
def test_settling_puts_the_plan_to_the_proof(build, options, words, tmp_path):
    wrote, model = proving.randomise(proving.Plain()), build()
    torch.save(wrote.state_dict(), tmp_path / "a.pth")
    before = copied(model)
    given = {"source_arch": proving.Plain(), "settle": True, **options}
    if not words:
        ckptaudit.load(model, tmp_path / "a.pth", **given)
        assert torch.equal(wrote.fc.weight, getattr(model, "_orig_mod", model).head.weight)
        return
    with pytest.raises(ckptaudit.IncompatibleCheckpoint) as refused:
        ckptaudit.load(model, tmp_path / "a.pth", **given)
    assert re.search(words, " ".join(str(refused.value).split()))
    assert not refused.value.audit.verdict.fit
    assert same(model, before)


def load_in_a_guard(model, file, **demand):
    with ckptaudit.guard(model, **demand):
        model.load_state_dict(torch.load(file), strict=False)


def build_in_a_guard(model, file, **demand):
    with ckptaudit.guard(SmallNet, **demand):
        SmallNet().load_state_dict(torch.load(file), strict=False)


def test_what_is_no_file_is_told_what_to_do(source):
    state = source.state_dict()
    for call in (ckptaudit.load, ckptaudit.verify, lambda model, given: ckptaudit.audit(given, model)):
        for given in (state, {"model": state}):
            with pytest.raises(UsageError, match=r"not of type (Ordered)?[dD]ict; .*load_state_dict .*ckptaudit\.guard"):
                call(SmallNet(), given)
        for given in (source, None, b"path.pth"):
            with pytest.raises(UsageError, match=rf"the path of a file.* not of type {type(given).__name__}\Z"):
                call(SmallNet(), given)
    with pytest.raises(UsageError, match=r"tensor\.shape, tensor\.dtype"):
        ckptaudit.propose(state, SmallNet())
    described = {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}
    assert ckptaudit.propose(described, SmallNet()).apply(state).keys() == state.keys()


WITH_A_DEMAND = [ckptaudit.load, ckptaudit.verify, load_in_a_guard, build_in_a_guard, lambda m, f, **d: ckptaudit.audit(f, m, **d)]


@pytest.mark.parametrize("allowed", [["hed"], ["head", "encoder.9"], ["decoder.*"], [""]], ids="/".join)
@pytest.mark.parametrize("call", WITH_A_DEMAND)
def test_a_gap_is_allowed_only_where_the_model_has_something(call, allowed, source, tmp_path):
    torch.save(source.state_dict(), tmp_path / "whole.pth")
    model = SmallNet()
    model.load_state_dict(source.state_dict())
    call(model, tmp_path / "whole.pth", allow_missing=["head", "encoder.3.weight", "*.bias"])
    with pytest.raises(UsageError, match=re.escape(f"no tensor of the model is {allowed[-1]!r}")) as raised:
        call(model, tmp_path / "whole.pth", allow_missing=allowed)
    assert ("; did you mean head" in str(raised.value)) == (allowed == ["hed"])


def test_verify_says_that_a_model_has_no_values(source, file):
    with torch.device("meta"):
        model = SmallNet()
    with pytest.raises(UsageError, match=r"\Aencoder\.0\.weight is on the meta device .*device=…\)\Z"):
        ckptaudit.verify(model, file)


def test_verify_compares_every_value(source, file):
    model = SmallNet()
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match="were not restored"):
        ckptaudit.verify(model, file)
    model.load_state_dict(source.state_dict())
    assert ckptaudit.verify(model, file).verdict.fit
    model.encoder[1].num_batches_tracked += 1
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match=r"1 of the model's 14 tensors (.|\n)*encoder\.1\.num_batches_tracked"):
        ckptaudit.verify(model, file)
    model.load_state_dict(source.state_dict())
    with torch.no_grad():
        model.encoder[3].weight.view(-1)[300] += 1
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match=r"1 of the model's 14 tensors (.|\n)*encoder\.3"):
        ckptaudit.verify(model, file)
