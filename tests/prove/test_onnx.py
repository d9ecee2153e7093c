"""A plan for an ONNX file is proved by running the file itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import ckptaudit
from ckptaudit.arch import build_model
from ckptaudit.prove import prove_plan
from ckptaudit.read import open_checkpoint
from tests.exports import export, with_statistics


def net():
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3))
    return with_statistics(nn.Sequential(*layers))


@pytest.mark.parametrize(("exchanged", "status"), [(False, "proved"), (True, "refuted")])
@pytest.mark.parametrize("free_batch", [False, True])
def test_outputs_of_the_file_itself(exchanged, status, free_batch, tmp_path):
    opened = open_checkpoint(export(net(), tmp_path / "m.onnx", (3, 16, 16), anonymous=True, free_batch=free_batch))
    model = build_model(net())
    plan = ckptaudit.audit(opened, model).plan
    if exchanged:
        held = {step.target: step for step in plan.steps}
        one, other = held["3.weight"], held["6.weight"]
        swapped = {one.target: replace(one, sources=other.sources), other.target: replace(other, sources=one.sources)}
        plan = replace(plan, steps=tuple(swapped.get(step.target, step) for step in plan.steps))
    proof = prove_plan(plan, opened, model)
    assert (proof.status, proof.by) == (status, "outputs"), proof.reasons
    assert (proof.outputs.difference < 1e-4) == (not exchanged)
