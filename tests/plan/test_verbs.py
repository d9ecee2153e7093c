"""``ckptaudit remap`` and ``ckptaudit apply`` as people meet them."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

import ckptaudit
from ckptaudit.cli._proof import models_that_may_have_written
from ckptaudit.read import open_checkpoint

ROOT = Path(__file__).parent.parent.parent

# sample, arch, options → exit code, lines that the page holds
REMAPS = [
    (
        "resnet50_imagenet.pth",
        "resnet50",
        [],
        0,
        ["✓ compatible", "complete, safe · 320 tensors set: 0 renamed, 0 changed, 320 as they are"],
    ),
    (
        "dataparallel_10classes.pth",
        "deeplabv3_resnet50",
        [],
        1,
        [
            "✗ partial",
            "not complete, safe · 360 tensors set",
            "360 renamed",
            r"^module\.(?!classifier\.4\.)  →  (nothing)",
            "classifier.4.{weight,bias}",
            "initial  2 tensors",
        ],
    ),
    ("dataparallel_10classes.pth", "deeplabv3_resnet50", ["--for", "finetune"], 0, ["✓ partial", "not complete, safe", "fit to fine-tune"]),
    (
        "dataparallel_10classes.pth",
        "deeplabv3_resnet50",
        ["--arch-arg", "num_classes=10"],
        0,
        ["✓ remappable", "complete, safe", "renames  1 rule"],
    ),
    ("lightning_ema.ckpt", "deeplabv3_mobilenet_v3_large", ["--branch", "ema_state_dict"], 0, ["352 as they are"]),
    ("tiny_unet_sharded", "sample_ckpts/tiny_unet.py:build", [], 0, ["✓ compatible", "complete, safe"]),
]


@pytest.mark.parametrize(("sample", "arch", "options", "code", "lines"), REMAPS)
def test_remap_shows_and_writes_nothing(run, samples, tmp_path, sample, arch, options, code, lines):
    before = sorted(tmp_path.iterdir())
    result = run("remap", samples / sample, "--arch", arch, *options)
    assert result.returncode == code, result.stderr
    page = " ".join(result.stdout.split())
    assert all(" ".join(line.split()) in page for line in lines), result.stdout
    assert sorted(tmp_path.iterdir()) == before


def test_remap_then_apply_then_restore(run, samples, tmp_path):
    checkpoint, plan, fixed = samples / "dataparallel_10classes.pth", tmp_path / "plan.yaml", tmp_path / "fixed.safetensors"
    content = checkpoint.read_bytes()
    arguments = ("remap", checkpoint, "--arch", "deeplabv3_resnet50", "--arch-arg", "num_classes=10", "--plan", plan)
    written = run(*arguments)
    assert written.returncode == 0
    *_, written_to, follows = written.stdout.splitlines()
    assert written_to == f"written  {plan}"
    assert follows.startswith(f"next     ckptaudit apply {plan} {checkpoint} -o fixed.")
    for silent in (["--quiet"], ["--format", "json"], ["--emit", "python"]):
        assert "written  " not in run(*arguments, "--force", *silent).stdout
    refused = run(*arguments)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "exists already" in refused.stderr
    assert run(*arguments, "--force").returncode == 0
    applied = run("apply", plan, checkpoint, "-o", fixed)
    assert (applied.returncode, applied.stderr) == (0, "")
    assert "362 tensors" in applied.stdout
    model = torchvision.models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=10)
    model.load_state_dict(load_file(fixed))
    stored = torch.load(checkpoint, weights_only=False)["model_state"]
    assert all(torch.equal(tensor, stored[f"module.{name}"]) for name, tensor in model.state_dict().items())
    assert checkpoint.read_bytes() == content
    assert run("diff", fixed, "--arch", "deeplabv3_resnet50", "--arch-arg", "num_classes=10").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fixed.safetensors", "plan.yaml"]


@pytest.mark.parametrize(
    ("dtype", "code", "words"),
    [
        (torch.float8_e4m3fn, 1, ["✗ incompatible", "complete, sure as to names and shapes · 5 tensors set"]),
        (torch.float16, 0, ["✓ compatible", "complete, safe · 5 tensors set"]),
    ],
)
def test_right_names_do_not_make_numbers_safe_that_lack_their_scale(run, tmp_path, dtype, code, words):
    state = load_file(ROOT / "sample_ckpts" / "tiny_unet_sharded" / "model-00001-of-00002.safetensors")
    wanted = dict([(name, tensor) for name, tensor in state.items() if tensor.is_floating_point()][:5])
    save_file(wanted, tmp_path / "model.safetensors")
    torch.save({name: tensor.to(dtype) for name, tensor in wanted.items()}, tmp_path / "file.pth")
    result = run("remap", tmp_path / "file.pth", "--against", tmp_path / "model.safetensors", "--plan", tmp_path / "plan.yaml")
    assert result.returncode == code, result.stdout
    assert all(word in result.stdout for word in words), result.stdout
    assert ("safe ·" in result.stdout) == ("next     ckptaudit apply" in result.stdout) == (code == 0)


def test_what_is_not_sure_is_told_with_its_reason_and_what_to_do(run, tmp_path):
    """The biases of convolutions that the model has without: names and shapes fit, outputs do not."""
    stem = torchvision.models.resnet18(weights=None)
    state = {**stem.state_dict(), "conv1.bias": torch.ones(64), "layer1.0.conv1.bias": torch.ones(64)}
    torch.save(state, tmp_path / "a.pth")
    plan = tmp_path / "plan.yaml"
    result = run("remap", tmp_path / "a.pth", "--arch", "resnet18", "--plan", plan)
    page = " ".join(result.stdout.split())
    assert result.returncode == 1
    assert "ambiguous 2 not applied without asking conv1.weight … 1 pattern more same name; the model has no place for the bias" in page
    assert f"written {plan}; 2 steps in it are ambiguous" in page
    refused = run("apply", plan, tmp_path / "a.pth", "-o", tmp_path / "b.pth")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "`grade: decided`" in refused.stderr
    plan.write_text(plan.read_text().replace("grade: ambiguous", "grade: decided"))
    assert run("apply", plan, tmp_path / "a.pth", "-o", tmp_path / "b.pth").returncode == 0


LESS = ", '1.{weight,bias}'", ""
TWICE = "\n  - {to: norm.weight, from: '1.weight', grade: decided}\n  - {to: norm.bias, from: '1.weight', grade: decided}\n"
#: How the plan's text is edited → what is said of it on standard error.
EDITS = {
    "not at all": ([], []),
    "a step less": ([LESS], ["what it sets is no longer", "1.weight and 1 more of the checkpoint are neither used nor listed as dropped"]),
    "a step less, on purpose": ([LESS, ("\nsteps:", "\ndropped: ['1.{weight,bias}']\nsteps:")], ["what it sets is no longer"]),
    "another name": ([("'norm.'", "'scale.'")], ["what it sets is no longer"]),
    "one tensor twice": ([LESS, ("module]}\n", "module]}" + TWICE)], ["1.bias of the checkpoint is neither used nor listed as dropped"]),
}


@pytest.mark.parametrize(("edits", "told"), EDITS.values(), ids=EDITS)
def test_what_an_edited_plan_no_longer_does_is_told(run, tmp_path, edits, told):
    state = {"0.weight": torch.rand(4, 4), "0.bias": torch.rand(4), "1.weight": torch.rand(4), "1.bias": torch.rand(4)}
    torch.save(state, tmp_path / "a.pth")
    plan, model = tmp_path / "plan.yaml", torch.nn.ModuleDict({"first": torch.nn.Linear(4, 4), "norm": torch.nn.LayerNorm(4)})
    ckptaudit.audit(tmp_path / "a.pth", model).plan.save(plan)
    text = plan.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    plan.write_text(text)
    applied = run("apply", plan, tmp_path / "a.pth", "-o", tmp_path / "b.pth")
    assert applied.returncode == 0, applied.stderr
    lines = applied.stderr.splitlines()
    assert len(lines) == len(told)
    assert all(f"the plan was edited: {words}" in line for words, line in zip(told, lines, strict=True))


def test_the_plan_takes_its_branch(run, samples, tmp_path):
    arguments = ("--arch", "deeplabv3_mobilenet_v3_large", "--branch", "ema_state_dict", "--plan", tmp_path / "plan.yaml")
    assert run("remap", samples / "lightning_ema.ckpt", *arguments).returncode == 0
    assert run("apply", tmp_path / "plan.yaml", samples / "lightning_ema.ckpt", "-o", tmp_path / "a.safetensors").returncode == 0
    averaged = torch.load(samples / "lightning_ema.ckpt", weights_only=False)["ema_state_dict"]
    restored = load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(restored[name], tensor) for name, tensor in averaged.items() if name in restored)


def test_emitted_code_runs(run, samples, tmp_path):
    checkpoint = samples / "dataparallel_10classes.pth"
    emitted = run("remap", checkpoint, "--arch", "deeplabv3_resnet50", "--arch-arg", "num_classes=10", "--emit", "python")
    assert emitted.returncode == 0
    scope: dict = {}
    exec(emitted.stdout, scope)
    state = torch.load(checkpoint, weights_only=False)["model_state"]
    assert scope["remap"](state).keys() == {name.removeprefix("module.") for name in state}


BAD = [
    (("remap", "{s}/tiny_unet_sharded"), 2, "--arch or --against"),
    (("remap", "{s}/deeplabv3_voc.pth", "--arch", "resnet50", "--emit", "perl"), 2, "perl"),
    (("remap", "{s}/not_a_checkpoint.pth", "--arch", "resnet50"), 3, "git-lfs"),
    (("apply", "{t}/none.yaml", "{s}/deeplabv3_voc.pth", "-o", "{t}/a.safetensors"), 3, "no such file"),
    (("apply", "README.md", "{s}/deeplabv3_voc.pth", "-o", "{t}/a.safetensors"), 3, "README.md: "),
    (("apply", "{t}/plan.yaml", "{s}/deeplabv3_voc.pth", "-o", "{t}/a.safetensors"), 3, "another checkpoint"),
    (("apply", "{t}/plan.yaml", "{s}/not_a_checkpoint.pth", "-o", "{t}/a.safetensors"), 3, "git-lfs"),
    (("apply", "{t}/plan.yaml", "{s}/deeplabv3_voc.pth", "-o", "{t}/a.bin"), 2, ".safetensors"),
    (("apply", "{t}/plan.yaml", "{s}/deeplabv3_voc.pth", "-o", "{t}/plan.yaml"), 2, ".safetensors"),
    (("apply", "{t}/plan.yaml", "{s}/deeplabv3_voc.pth"), 2, "--output"),
    (("apply", "{t}/plan.yaml", "{s}/deeplabv3_voc.pth", "-o", "{t}/a.weights.h5"), 2, "--like"),
    (("apply", "{t}/plan.yaml", "{s}/deeplabv3_voc.pth", "-o", "{t}/a.pth", "--like", "{t}/plan.yaml"), 2, "--like"),
    (("remap", "{s}/resnet50_imagenet.pth", "--arch", "resnet50", "--class-map", "README.md"), 3, "class map"),
    (("remap", "{s}/resnet50_imagenet.pth", "--arch", "resnet50", "--class-map", "{t}/none"), 3, "no such file"),
    (("remap", "{s}/resnet50_imagenet.pth", "--arch", "resnet50", "--verify", "--input-size", "big"), 2, "3x224x224"),
    (("remap", "{s}/resnet50_imagenet.pth", "--arch", "resnet50", "--emit", "python", "--format", "json"), 2, "--emit"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), BAD)
def test_bad_calls_are_told_in_one_line(run, samples, tmp_path, arguments, code, words):
    (tmp_path / "plan.yaml").write_text("schema: ckptaudit.plan/1\ncomplete: true\nsteps: [{names: [a]}]\n")
    result = run(*(part.format(s=samples, t=tmp_path) for part in arguments))
    assert result.returncode == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    if code == 3:
        assert (result.stdout, len(result.stderr.splitlines())) == ("", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.yaml"]


# options → exit code, why the plan was not put to the proof
NOT_RUN = [
    (("--verify-with", "docs"), 3, "docs: no images"),
    (("--verify-with", "nowhere"), 3, "nowhere: no such folder"),
    (("--verify", "--source-arch", "resnet18"), 3, "resnet18 did not write"),
    (("--source-arch", "resnet18"), 3, "resnet18 did not write"),
    (("--verify",), 0, "the model that wrote the file is not known"),
]


@pytest.mark.parametrize(("options", "code", "words"), NOT_RUN)
def test_a_plan_that_cannot_be_put_to_the_proof_is_given_all_the_same(run_beside_torch, samples, tmp_path, options, code, words):
    plan, factory = tmp_path / "plan.yaml", "sample_ckpts/tiny_unet.py:build"
    result = run_beside_torch("remap", samples / "tiny_unet_sharded", "--arch", factory, *options, "--plan", plan)
    assert result.returncode == code, result.stderr
    assert "– not proved" in result.stdout
    assert words in " ".join(result.stdout.split())
    assert (words in result.stderr) == (code == 3)
    assert plan.exists()


def test_the_progress_bar_is_for_large_files_at_a_terminal(tmp_path):
    """600 MiB, stored sparsely: the bar is on standard error, and standard output holds the answer alone."""
    save_file({"a": torch.zeros(150 << 20)}, tmp_path / "a.safetensors")
    (tmp_path / "plan.yaml").write_text("schema: ckptaudit.plan/1\ncomplete: true\nsteps: [{to: b, from: a}]\n")
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "ckptaudit", "apply", "plan.yaml", "a.safetensors", "-o", "b.safetensors"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=child, env={**os.environ, "TERM": "xterm"}) as process:
        shown = os.read(parent, 1 << 16)
        answer = process.stdout.read()
        process.wait(timeout=120)
    os.close(child)
    os.close(parent)
    assert process.returncode == 0
    assert b"1 tensor, 600.0 MiB" in answer
    assert b"\x1b" in shown


@pytest.mark.parametrize(("equivalents", "known"), [((), True), (("timm:resnet18",), True), (("no_such_library_has_this",), False)])
def test_a_file_is_taken_for_nothing_that_another_may_be_that_cannot_be_built(monkeypatch, samples, equivalents, known):
    best = SimpleNamespace(arch="resnet18", arguments={"num_classes": 1000}, equivalents=equivalents)
    monkeypatch.setattr("ckptaudit.pipeline.identify", lambda _: SimpleNamespace(best=best))
    wrote, rivals = models_that_may_have_written(open_checkpoint(samples / "resnet50_imagenet.pth"), None, guess=True)
    assert (wrote is not None, len(rivals)) == (known, len(equivalents) if known else 0)
