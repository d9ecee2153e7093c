"""Shapes that differ in a known way: what is offered, what is not, and what it gives when it was asked for."""

from __future__ import annotations

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from timm.models.byobnet import MobileOneBlock, RepVggBlock
from torch import nn

import ckptaudit
from ckptaudit.align.adapting import rows_of_classes
from ckptaudit.errors import PlanError
from ckptaudit.plan.emit import emit


def stem(channels=3, classes=4):
    return nn.Sequential(nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.LazyLinear(classes))


class Patches(nn.Module):
    def __init__(self, side, tokens=1, width=6):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, side * side + tokens, width))
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.relative_position_bias_table = nn.Parameter(torch.randn((2 * side - 1) ** 2, 2))


class Text(nn.Module):
    def __init__(self, length):
        super().__init__()
        self.position_embeddings = nn.Embedding(length, 6)
        self.head = nn.Linear(6, 6)


class Convolutional(nn.Module):
    def __init__(self, fused, bias=False):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, bias=fused or bias), nn.Conv2d(4, 5, 3, bias=fused or bias)
        if not fused:
            self.an, self.bn = nn.BatchNorm2d(4, 1e-3), nn.BatchNorm2d(5, 1e-3)

    def forward(self, x):
        if hasattr(self, "an"):
            return self.bn(self.b(torch.relu(self.an(self.a(x)))))
        return self.b(torch.relu(self.a(x)))


class InOrder(nn.Sequential):
    """Convolutions with a BatchNorm behind each, as state dicts list them."""

    def __init__(self, fused, bias=False):
        inner = Convolutional(fused, bias)
        layers = {"a": inner.a, "b": inner.b} if fused else {"a": inner.a, "an": inner.an, "b": inner.b, "bn": inner.bn}
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


def saved(module: nn.Module, path):
    torch.manual_seed(0)
    for name, tensor in module.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            tensor.uniform_(0.5, 2)
    torch.save(module.state_dict(), path / "a.pth")
    return path / "a.pth"


def vit(size):
    return torchvision.models.VisionTransformer(size, 8, 1, 2, 12, 12, num_classes=3)


# file, model, offers: target → operations
OFFERS = [
    (nn.Conv2d(3, 8, 3), nn.Conv2d(1, 8, 3), {"weight": ["inflate"]}),
    (nn.Conv2d(3, 8, 3), nn.Conv2d(5, 8, 3), {"weight": ["inflate"]}),
    (nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 5), {}),
    (nn.Conv2d(3, 8, 3), nn.Conv2d(1, 9, 3), {}),
    (Patches(3), Patches(5), {"pos_embed": ["interpolate"], "relative_position_bias_table": ["interpolate"]}),
    (Patches(3, tokens=0), Patches(5, tokens=0), {"pos_embed": ["interpolate"], "relative_position_bias_table": ["interpolate"]}),
    (Patches(3, tokens=1), Patches(5, tokens=2), {"relative_position_bias_table": ["interpolate"]}),
    (Text(16), Text(64), {}),
    (InOrder(fused=False), InOrder(fused=True), {}),  # the file alone does not tell the eps
    (nn.Linear(4, 5), nn.Linear(4, 5), {}),
]


@pytest.mark.parametrize(("file", "model", "offers"), OFFERS)
def test_what_is_offered(file, model, offers, tmp_path):
    audit = ckptaudit.audit(saved(file, tmp_path), model)
    assert {step.target: [op.name for op in step.ops] for step in audit.offers} == offers
    assert not any(step.ops for step in audit.plan.steps)
    same = {name: tuple(t.shape) for name, t in file.state_dict().items()} == {n: tuple(t.shape) for n, t in model.state_dict().items()}
    assert (audit.plan.complete and audit.plan.safe) is same


def test_a_grey_image_gives_what_it_gave_as_three_channels(tmp_path):
    colour, grey = nn.Conv2d(3, 8, 3), nn.Conv2d(1, 8, 3)
    path = saved(colour, tmp_path)
    plan = ckptaudit.audit(path, grey, adapt=["inflate"]).plan
    assert (plan.complete, plan.safe) == (True, True)
    grey.load_state_dict(plan.apply(path, as_torch=True))
    image = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(grey(image), colour(image.expand(1, 3, 8, 8)))


def test_positions_of_a_larger_image(tmp_path):
    path = saved(vit(32), tmp_path)
    assert ckptaudit.audit(path, vit(64)).verdict.status != "compatible"
    audit = ckptaudit.audit(path, vit(64), adapt=["interpolate"])
    assert (audit.plan.complete, audit.verdict.status, audit.verdict.fit) == (True, "remappable", True)
    state = audit.plan.apply(path, as_torch=True)
    old = torch.load(path)["encoder.pos_embedding"]
    grid = old[:, 1:].reshape(1, 4, 4, 12).permute(0, 3, 1, 2)
    wanted = nn.functional.interpolate(grid, size=(8, 8), mode="bicubic").permute(0, 2, 3, 1).reshape(1, 64, 12)
    torch.testing.assert_close(state["encoder.pos_embedding"], torch.cat([old[:, :1], wanted], 1))


@pytest.mark.parametrize(("bias", "write"), [(False, torch.save), (True, torch.save), (True, save_file)])
def test_batch_norms_are_folded(tmp_path, bias, write):
    trained, deployed = Convolutional(fused=False, bias=bias), Convolutional(fused=True)
    ordered = InOrder(fused=False, bias=bias)
    ordered.load_state_dict(trained.state_dict())
    path = saved(ordered, tmp_path)
    trained.load_state_dict(ordered.state_dict())
    write(ordered.state_dict(), path)
    plan = ckptaudit.audit(path, deployed, adapt=["fuse"], source_arch=InOrder(fused=False, bias=bias)).plan
    assert (plan.complete, plan.safe) == (True, True)
    deployed.load_state_dict(plan.apply(path, as_torch=True))
    image = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(deployed(image), trained.eval()(image))


class Branches(nn.Sequential):
    """Blocks of RepVGG and MobileOne: with and without the branch of the input itself, with groups, with a single branch."""

    def __init__(self, deployed=False):
        super().__init__(
            RepVggBlock(3, 16, stride=2),
            RepVggBlock(16, 16),
            MobileOneBlock(16, 16, group_size=1, num_conv_branches=3),
            MobileOneBlock(16, 24, kernel_size=1, num_conv_branches=1),
            nn.Flatten(),
            nn.LazyLinear(3),
        )
        self(torch.randn(1, 3, 8, 8))
        if deployed:
            for block in list(self)[:4]:
                block.reparameterize()


@pytest.mark.parametrize(("wrapper", "write", "read"), [("", torch.save, torch.load), ("module.", save_file, load_file)])
def test_branches_are_added_up(tmp_path, wrapper, write, read):
    trained, deployed, path = Branches(), Branches(deployed=True), tmp_path / "a.pth"
    trained(torch.randn(16, 3, 8, 8))  # statistics
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            if parameter.dim() == 1:
                parameter.copy_(torch.rand_like(parameter) + (0.5 if name.endswith("weight") else 0))
    write({wrapper + name: tensor for name, tensor in trained.state_dict().items()}, path)
    audit = ckptaudit.audit(path, deployed)
    assert [f.rule for f in audit.findings if f.severity == "error"] == ["folded-batch-norm"]
    assert (audit.plan.complete, audit.verdict.fit) == (False, False)
    plan = ckptaudit.audit(path, deployed, adapt=["fuse"], source_arch=Branches()).plan
    assert (plan.complete, plan.safe) == (True, True)
    deployed.load_state_dict(plan.apply(path, as_torch=True))
    image = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(deployed.eval()(image), trained.eval()(image), rtol=1e-4, atol=1e-4)
    scope: dict = {}
    exec(emit(plan, "python"), scope)
    for name, tensor in scope["remap"](read(path)).items():
        torch.testing.assert_close(tensor, deployed.state_dict()[name])


@pytest.mark.parametrize("bias", [False, True])
def test_a_lost_batch_norm_leaves_nothing_sure(tmp_path, bias):
    path, deployed = saved(InOrder(fused=False, bias=bias), tmp_path), InOrder(fused=True)
    audit = ckptaudit.audit(path, deployed)
    assert (audit.plan.safe, audit.verdict.fit) == (False, False)
    with pytest.raises(PlanError, match="ambiguous"):
        audit.plan.apply(path)
    assert not ckptaudit.propose(InOrder(fused=False, bias=bias), deployed).safe


def test_rows_by_a_class_map(tmp_path):
    path = saved(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5)), tmp_path)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))
    assert not ckptaudit.audit(path, model).plan.complete
    names = {"file": ["sky", "road", "cat", "dog", "tree"], "model": ["dog", "horse", "sky"]}
    audit = ckptaudit.audit(path, model, class_map=names)
    plan = audit.plan
    # A class that the file has not keeps its row, which nobody has trained.
    assert (plan.complete, plan.safe, audit.verdict.status, audit.verdict.fit) == (False, True, "partial", False)
    whole = ckptaudit.audit(path, model, class_map=[3, 1, 0])
    assert (whole.plan.complete, whole.plan.safe, whole.verdict.fit) == (True, True, True)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state, stored = plan.apply(path, as_torch=True, initial=fresh), torch.load(path)
    assert torch.equal(state["2.weight"], torch.stack([stored["2.weight"][3], fresh["2.weight"][1], stored["2.weight"][0]]))
    with pytest.raises(PlanError, match="no output layer has 2 classes"):
        ckptaudit.audit(path, model, class_map=[0, 1])


@pytest.mark.parametrize(
    "value", ["cat", [], [1.5], [-2], {"file": ["a"]}, {"file": ["a", "a"], "model": ["a"]}, {"file": 1, "model": 2}, [True]]
)
def test_bad_class_maps(value):
    with pytest.raises(PlanError, match="class map"):
        rows_of_classes(value)


def test_an_unknown_way_is_refused(tmp_path):
    with pytest.raises(ValueError, match="none of inflate"):
        ckptaudit.audit(saved(nn.Conv2d(3, 8, 3), tmp_path), nn.Conv2d(1, 8, 3), adapt=["stretch"])
