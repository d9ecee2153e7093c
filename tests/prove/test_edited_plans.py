"""``ckptaudit apply --arch``: what people made of a plan is put to the proof before anything is written."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import ckptaudit
from tests.prove import networks

HERE = networks.__file__
SOURCE = ("--source-arch", f"{HERE}:Parallel")
OTHER_BRANCH = {"proj": "conv", "conv": "proj", "proj_bn": "conv_bn", "conv_bn": "proj_bn"}


def exchanged(name: str) -> str:
    module, dot, role = name.partition(".")
    return OTHER_BRANCH.get(module, module) + dot + role


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """A file of two branches of one shape, and plans in which somebody has decided which is which."""
    folder = tmp_path_factory.mktemp("edited")
    torch.save(networks.randomise(networks.Parallel()).state_dict(), folder / "a.pth")
    plan = ckptaudit.audit(folder / "a.pth", networks.parallel_renamed()).plan
    assert not plan.safe
    decided = [dataclasses.replace(step, grade="decided") for step in plan.steps]
    other = [dataclasses.replace(step, sources=tuple(map(exchanged, step.sources))) for step in decided]
    slip = [*other[:-1], dataclasses.replace(other[-1], target="fc.bais")]
    for name, steps in {"open": plan.steps, "as proposed": decided, "exchanged": other, "slip": slip, "half": other[:-2]}.items():
        dataclasses.replace(plan, steps=tuple(steps)).save(folder / f"{name}.yaml")
    return folder


@pytest.mark.parametrize(
    ("plan", "arch", "options", "code", "told"),
    [
        ("exchanged", "parallel_renamed", SOURCE, 0, "16 tensors, 8.2 KiB; proved by running both models"),
        ("as proposed", "parallel_renamed", SOURCE, 1, "✗ refuted by running both models; nothing was written\n"),
        ("half", "parallel_renamed", SOURCE, 1, "  the plan leaves 2 tensors of the model as they were: fc.weight, fc.bias\n"),
        ("exchanged", "parallel_renamed", (), 3, "nothing was written: the model that wrote the file is not known (--source-arch)"),
        ("slip", "parallel_renamed", SOURCE, 3, "nothing was written: the plan sets fc.bais, which the model does not have"),
        ("exchanged", "Parallel", SOURCE, 3, "the plan was made for another model than "),
        ("open", "parallel_renamed", SOURCE, 3, "the plan is not sure of right.weight"),
        ("exchanged", "parallel_renamed", ("--verify-with", "docs"), 3, "nothing was written: docs: no images"),
        ("exchanged", "", SOURCE, 2, "--verify-with and --input-size go with --arch"),
    ],
)
def test_an_edited_plan_is_run_before_it_is_carried_out(plan, arch, options, code, told, edited, run, run_beside_torch, tmp_path):
    options = (*options, *(("--arch", f"{HERE}:{arch}") if arch else ()))
    command = run if code == 0 else run_beside_torch
    result = command("apply", edited / f"{plan}.yaml", edited / "a.pth", "-o", tmp_path / "b.pth", *options)
    assert (result.returncode, told in result.stdout + result.stderr) == (code, True), result.stdout + result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ([] if code else ["b.pth"])
    assert "Traceback" not in result.stderr
