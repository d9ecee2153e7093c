"""A plan that calls itself complete and safe restores the network: outputs are equal.

Real networks, with names rewritten as another library would.
"""

from __future__ import annotations

import re

import pytest
import torch
import torchvision

import ckptaudit

REWRITES = {
    "other words": [
        ("features", "trunk"),
        ("layer", "stage"),
        ("conv", "cv"),
        ("bn", "norm"),
        ("downsample", "shortcut"),
        ("classifier", "head"),
        ("fc", "out"),
    ],
    "deeper nesting": [(r"^", "net.body."), (r"\.(\d+)\.", r".unit\1.inner."), ("downsample", "skip.proj")],
    "keras-like words": [("running_mean", "moving_mean"), ("running_var", "moving_variance"), (r"^layer", "conv_stage")],
}
NETWORKS = ["resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "squeezenet1_1", "regnet_y_400mf", "densenet121"]


def trained(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None, num_classes=7).eval()
    for key, tensor in network.named_buffers():
        if key.endswith("running_mean"):
            tensor.normal_(0, 0.2)
        elif key.endswith("running_var"):
            tensor.uniform_(0.5, 2)
    return network


@pytest.mark.parametrize("rewrite", REWRITES)
@pytest.mark.parametrize("name", NETWORKS)
def test_safe_plans_give_equal_outputs(name, rewrite, tmp_path):
    network = trained(name)
    state = {}
    for key, tensor in network.state_dict().items():
        for pattern, replacement in REWRITES[rewrite]:
            key = re.sub(pattern, replacement, key)  # noqa: PLW2901
        state[key] = tensor
    torch.save(state, tmp_path / "other.pth")
    fresh = torchvision.models.get_model(name, weights=None, num_classes=7).eval()
    plan = ckptaudit.audit(tmp_path / "other.pth", fresh).plan
    if not (plan.complete and plan.safe):
        pytest.fail(f"not sure of {sum(not step.sure for step in plan.steps)} of {len(plan.steps)} steps")
    fresh.load_state_dict(plan.apply(tmp_path / "other.pth", as_torch=True), strict=False)
    image = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(fresh(image), network(image))
