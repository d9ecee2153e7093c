"""What names and shapes leave open, settled by what each BatchNorm remembers of the images that it saw."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from torch import nn

import ckptaudit
from ckptaudit.align import align
from ckptaudit.graph.names import leaf, parent
from ckptaudit.prove import prove_plan
from ckptaudit.prove.images import crops, image_files, pixels_of
from ckptaudit.prove.presets import PRESETS, prepared
from ckptaudit.prove.settling_by_statistics import settle_by_statistics
from ckptaudit.read import open_checkpoint
from ckptaudit.records import replace
from tests.probe.conftest import CHOSEN
from tests.prove.networks import CifarResNet
from tests.prove.renaming import renamed

FACTORIES = Path(__file__).parent / "networks.py"
SIZE = (3, 32, 32)


class Stages(nn.Module):
    """Convolutions of one shape, each with its BatchNorm, in a row."""

    def __init__(self, stages=4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(*(nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(stages)))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class Branches(Stages):
    """Two convolutions of one shape that are given the same; what they make is added, or laid one behind the other."""

    def __init__(self, *, added):
        super().__init__(0)
        self.left, self.right = (nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8)) for _ in range(2))
        self.added = added
        self.behind = nn.Sequential(nn.Conv2d(8 if added else 16, 8, 1), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, x):
        x = self.stem(x)
        left, right = self.left(x), self.right(x)
        x = left + right if self.added else torch.cat([left, right], 1)
        return self.head(self.behind(x).mean((2, 3)))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Smooth spots of every size and colour."""
    folder, chance = tmp_path_factory.mktemp("pictures"), numpy.random.default_rng(0)
    for number in range(6):
        spots = chance.integers(0, 256, (4 + 3 * number, 4 + 3 * number, 3), numpy.uint8)
        Image.fromarray(spots).resize((200, 160), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def trained(module, folder, seed=0):
    """The module with random weights whose BatchNorms remember these pictures, as after training."""
    torch.manual_seed(seed)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.momentum = None
            nn.init.uniform_(child.weight, 0.5, 2)
            nn.init.uniform_(child.bias, -1, 1)
    with torch.no_grad():
        module.train()(torch.from_numpy(prepared(pixels_of(crops(image_files(folder), 60), SIZE[1:]), PRESETS["0..1"])))
    return module.eval()


def written(module, path, seed=0):
    """A file of the module whose names mean nothing and whose order is none; each name of the module with that of the file."""
    state, truth = renamed(module.state_dict(), random.Random(seed), shuffle=True)
    torch.save(state, path)
    return truth


def sources(audit):
    return {step.target: step.sources[0] for step in audit.plan.steps}


@pytest.mark.parametrize("seed", range(4))
def test_layers_of_one_shape_are_told_apart(tmp_path, pictures, seed):
    module = trained(Stages(), pictures, seed)
    truth = written(module, tmp_path / "a.pth", seed)
    names = ckptaudit.audit(tmp_path / "a.pth", Stages())
    assert not names.plan.safe
    live = Stages()
    before = {name: tensor.clone() for name, tensor in live.state_dict().items()}
    found = ckptaudit.audit(tmp_path / "a.pth", live, settle_with=pictures, input_size=SIZE)
    assert (found.plan.safe, sources(found)) == (True, truth)
    assert all(one.sure for one in found.settled)
    assert {one.path for one in found.settled} >= {f"body.{i}.{j}" for i in range(4) for j in range(2)}
    assert all(torch.equal(before[name], tensor) for name, tensor in live.state_dict().items())


def test_branches_that_are_added_stay_open(tmp_path, pictures):
    """Either order is the same function: nothing could tell, and the figures are told."""
    written(trained(Branches(added=True), pictures), tmp_path / "a.pth")
    found = ckptaudit.audit(tmp_path / "a.pth", Branches(added=True), settle_with=pictures, input_size=SIZE)
    open_ = {step.target.partition(".")[0] for step in found.plan.steps if not step.sure}
    assert open_ == {"left", "right"}
    left = next(one for one in found.settled if one.path == "left.0")
    assert not left.sure
    assert "the next best" in left.why
    assert all("leaves it open" in step.evidence[-1] for step in found.plan.steps if not step.sure)


def test_what_lies_behind_decides(tmp_path, pictures):
    """Both orders fit both branches; only one fits the layer that is given both."""
    module = trained(Branches(added=False), pictures)
    truth = written(module, tmp_path / "a.pth", 1)
    found = ckptaudit.audit(tmp_path / "a.pth", Branches(added=False), settle_with=pictures, input_size=SIZE)
    assert (found.plan.safe, sources(found)) == (True, truth)
    assert any("layers behind" in one.why for one in found.settled)


def test_statistics_of_other_weights_settle_nothing(tmp_path, pictures):
    """Where no choice fits, the best of them is none."""
    module = trained(Stages(), pictures)
    for stage in module.body:
        nn.init.orthogonal_(stage[0].weight.data.view(8, -1))
    written(module, tmp_path / "a.pth")
    found = ckptaudit.audit(tmp_path / "a.pth", Stages(), settle_with=pictures, input_size=SIZE)
    assert not {step.target for step in found.plan.steps if step.sure and step.target.startswith("body")}
    assert len(found.plan.steps) == len(ckptaudit.audit(tmp_path / "a.pth", Stages()).plan.steps)


@pytest.mark.parametrize(("held", "wanted"), [(5, 4), (3, 4)])
def test_networks_of_other_depths_are_left_open(tmp_path, pictures, held, wanted):
    """Something is left out on one side, and what fits need not belong."""
    written(trained(Stages(held), pictures), tmp_path / "a.pth")
    found = ckptaudit.audit(tmp_path / "a.pth", Stages(wanted), settle_with=pictures, input_size=SIZE)
    assert not {step.target for step in found.plan.steps if step.sure and step.target.startswith("body")}
    assert not found.verdict.fit


def test_time_is_bounded(tmp_path, pictures):
    written(trained(Stages(), pictures), tmp_path / "a.pth")
    opened, model = open_checkpoint(tmp_path / "a.pth"), ckptaudit.build_model(Stages())
    before = align(opened.graph, model.graph)
    after, settled = settle_by_statistics(before, opened, model, pictures, SIZE, budget=0)
    assert settled == ()
    assert dict(after.pairs) == dict(before.pairs)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_real_network_in_any_order(run, real, tmp_path, seed):
    import skimage.data

    for name in CHOSEN:
        (tmp_path / "photographs").mkdir(exist_ok=True)
        shutil.copy(Path(skimage.data.__file__).parent / name, tmp_path / "photographs" / name)
    state = torch.load(real / "cifar10_resnet20.th", map_location="cpu", weights_only=False)["state_dict"]
    module = CifarResNet()
    own = [name for name in module.state_dict() if not name.endswith("num_batches_tracked")]
    named = dict(zip(own, state.values(), strict=True))
    shuffled, truth = renamed(named, random.Random(seed), shuffle=True)
    torch.save(shuffled, tmp_path / "a.pth")
    common = ("remap", tmp_path / "a.pth", "--arch", f"{FACTORIES}:CifarResNet", "--verify-with", tmp_path / "photographs")
    result = run(*common, "--input-size", "3x32x32", "--plan", tmp_path / "plan.yaml")
    assert result.returncode == 0, result.stdout + result.stderr
    page = " ".join(result.stdout.split())
    assert "complete, safe" in page
    assert "settled 35 layers by what each BatchNorm remembers; 0 open" in page
    assert "the next best" in page
    assert "settled by BatchNorm statistics" in page
    assert "consistent with the BatchNorm statistics" in page
    plan = ckptaudit.Plan.load(tmp_path / "plan.yaml")
    assert {step.target: step.sources[0] for step in plan.steps} == truth


# whether the pictures are those of the training, layers that a wrong plan exchanges → answer, whether it speaks against the plan
JUDGED = [
    (True, (), "consistent", False),
    (True, ("body.0.0", "body.1.0"), "refuted", True),
    (True, ("body.0.1", "body.3.1"), "refuted", True),
    (False, (), "not proved", True),
    (False, ("body.0.0", "body.1.0"), "not proved", True),
]


@pytest.mark.parametrize(("of_training", "exchanged", "status", "against"), JUDGED)
def test_statistics_convict_a_plan_only_where_they_can_tell(tmp_path, pictures, of_training, exchanged, status, against):
    """Pictures of another kind than those of the training fit nowhere: that proves nothing against a plan, nor for it."""
    module = trained(Stages(), pictures)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d) and not of_training:
            child.running_var *= 6
    torch.save(module.state_dict(), tmp_path / "a.pth")
    audit = ckptaudit.audit(tmp_path / "a.pth", Stages())
    other = dict(zip(exchanged, reversed(exchanged), strict=True))
    steps = tuple(
        replace(step, sources=(f"{other[parent(step.target)]}.{leaf(step.target)}",)) if parent(step.target) in other else step
        for step in audit.plan.steps
    )
    proof = prove_plan(replace(audit.plan, steps=steps), audit.checkpoint, audit.model, images=pictures, input_size=SIZE)
    assert (proof.status, proof.against) == (status, against), proof
