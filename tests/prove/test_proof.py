"""A plan put to the proof: by running both models, by statistics, by its own arithmetic."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

import ckptaudit
from ckptaudit.align import align
from ckptaudit.align.ops import Permute, Reshape, Split
from ckptaudit.prove import prove_plan
from ckptaudit.read import open_checkpoint
from tests.plan.helpers import every_kind, plan_for, step
from tests.prove import networks

FACTORIES = Path(__file__).parent / "networks.py"


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "plain.pth"
    torch.save(networks.randomise(networks.Plain()).state_dict(), path)
    return path


# target → status, settings that differ, (layer where they part, inside it)
RUNS = [
    (networks.Renamed, "proved", [], None),
    (networks.other_eps, "refuted", [("eps", 1e-5, 1e-3)], ("stem.1", True)),
    (networks.other_stride, "refuted", [("stride", 2, 1)], ("stem.0", True)),
    (networks.other_padding, "refuted", [("padding", 1, 0)], ("stem.0", True)),
    (networks.swish, "refuted", [], ("head", False)),
]


@pytest.mark.parametrize(("target", "status", "settings", "first"), RUNS, ids=lambda value: getattr(value, "__name__", None))
def test_both_models_are_run(plain, target, status, settings, first):
    live = target()
    before = {name: tensor.clone() for name, tensor in live.state_dict().items()}
    audit = ckptaudit.audit(plain, live)
    assert audit.plan.complete
    proof = prove_plan(audit.plan, audit.checkpoint, audit.model, source=ckptaudit.build_model(networks.Plain()), input_size=(3, 32, 32))
    assert (proof.status, proof.by) == (status, "outputs")
    assert [(s.name, s.file, s.model) for s in proof.settings] == settings
    found = proof.outputs.first
    assert (first is None) == (found is None)
    if first is not None:
        assert (found.layer, found.inside) == first
    assert all(torch.equal(before[name], tensor) for name, tensor in live.state_dict().items())


def other_padding_of_plain():
    return networks.Plain(padding=0)


# models with the file's tensors beside the one that it was taken for → status
RIVALS = [
    ([], "proved"),
    ([networks.Plain], "proved"),
    ([networks.Plain, other_padding_of_plain], "not proved"),
]


@pytest.mark.parametrize(("rivals", "status"), RIVALS, ids=["none", "equal", "another"])
def test_nothing_is_proved_on_which_models_with_the_same_tensors_do_not_agree(plain, rivals, status):
    audit = ckptaudit.audit(plain, networks.Renamed())
    source, *others = (ckptaudit.build_model(build()) for build in (networks.Plain, *rivals))
    proof = prove_plan(audit.plan, audit.checkpoint, audit.model, source=source, rivals=others, input_size=(3, 32, 32))
    assert proof.status == status
    assert any("--source-arch" in reason for reason in proof.reasons) == (status == "not proved")


# order of the outputs where the heads go to (first, second), (second, first) → status
@pytest.mark.parametrize(("order", "heads", "status"), [((0, 1), "pq", "proved"), ((0, 1), "qp", "not proved"), ((1, 0), "qp", "proved")])
def test_outputs_of_one_shape_correspond_in_their_order(tmp_path, order, heads, status):
    torch.save(networks.TwoHeads().state_dict(), tmp_path / "a.pth")
    target = ckptaudit.build_model(networks.TwoHeads(("p", "q"), order))
    checkpoint = open_checkpoint(tmp_path / "a.pth")
    renames = {"age": heads[0], "sex": heads[1], "body": "body"}
    steps = [step(f"{renames[name.split('.')[0]]}.{name.split('.')[1]}", name) for name in checkpoint.branch.tensors]
    plan = plan_for(steps, networks.TwoHeads().state_dict())
    proof = prove_plan(plan, checkpoint, target, source=ckptaudit.build_model(networks.TwoHeads()), input_size=(3, 16, 16))
    assert proof.status == status
    assert any("not in the same order" in reason for reason in proof.reasons) == (status == "not proved")


# what the file has in place of a part of its names → whether these are the names of the model that is said to have written it
WRITTEN = [
    (r"^", "net.", True),
    (r"^", "module.", True),
    (r"^", "module.model.", True),
    ("layer3", "stage_c", False),
    ("^layer3", "a.b", False),
]


@pytest.mark.parametrize(("part", "there", "own"), WRITTEN)
def test_layers_correspond_as_the_whole_file_does(tmp_path, part, there, own):
    """The end of a name may be that of another layer. A prefix around the whole is usual, and another name within it a guess."""

    class Nested(torch.nn.Module):
        def __init__(self, name):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(3, 8, 3, 2, 1)
            self.name = name
            layers = {"conv1": torch.nn.Conv2d(8, 6, 5), "conv2": torch.nn.Conv2d(6, 4, 3)}
            self.add_module(name, torch.nn.Sequential(OrderedDict(layers)))

        def forward(self, x):
            return getattr(self, self.name)(self.conv1(x))

    wrote = Nested("layer3")
    torch.save({re.sub(part, there, name): tensor for name, tensor in wrote.state_dict().items()}, tmp_path / "a.pth")
    audit = ckptaudit.audit(tmp_path / "a.pth", Nested("third"))
    proof = prove_plan(audit.plan, audit.checkpoint, audit.model, source=ckptaudit.build_model(wrote), input_size=(3, 32, 32))
    if own:
        assert proof.status == "proved", proof.reasons
        assert (proof.outputs.layers, proof.outputs.first, proof.settings) == ((3, 3), None, ())
    else:
        assert proof.status == "not proved"
        assert f"did not write a.pth: the file does not set layer3, and to take its {there} for that" in proof.reasons[0]


def test_a_wrong_plan_is_refuted_and_the_place_named(plain):
    audit = ckptaudit.audit(plain, networks.Renamed())
    crossed = {"stem.1": "bn2", "body.1": "bn1"}
    steps = [
        replace(s, sources=(f"{crossed[s.target.rpartition('.')[0]]}.{s.target.rpartition('.')[2]}",))
        if s.target.rpartition(".")[0] in crossed
        else s
        for s in audit.plan.steps
    ]
    source = ckptaudit.build_model(networks.Plain())
    proof = prove_plan(replace(audit.plan, steps=tuple(steps)), audit.checkpoint, audit.model, source=source, input_size=(3, 32, 32))
    assert proof.status == "refuted"
    assert proof.outputs.first.layer == "stem.1"
    assert proof.outputs.difference > 1e-3


def test_open_steps_are_settled_by_running_both(tmp_path):
    wrote, model = networks.randomise(networks.Parallel()), networks.parallel_renamed()
    torch.save(wrote.state_dict(), tmp_path / "a.pth")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names = audit_of(tmp_path / "a.pth", model)
    assert (names.plan.safe, names.verdict.fit) == (False, False)
    run = audit_of(tmp_path / "a.pth", model, settle=True)
    assert (run.plan.complete, run.plan.safe, run.verdict.fit) == (True, True, True)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    model.load_state_dict(run.plan.apply(tmp_path / "a.pth", as_torch=True))
    image = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(model.eval()(image), wrote.eval()(image))


def test_what_running_cannot_tell_stays_open(tmp_path):
    """Branches of one shape with one setting: either order of their two sums is the same to every layer, and only the outputs differ."""
    wrote, model = networks.randomise(networks.Parallel(stride=1)), networks.parallel_renamed(stride=1)
    torch.save(wrote.state_dict(), tmp_path / "a.pth")
    run = audit_of(tmp_path / "a.pth", model, stride=1, settle=True)
    open_steps = [step for step in run.plan.steps if not step.sure]
    assert {step.target.partition(".")[0] for step in open_steps} >= {"left", "right"}
    assert not run.verdict.fit


# roles of the model's branches, plus and minus; whether those of the file contribute nothing
OPPOSED = [(("a", "b"), True), (("b", "a"), True), (("a", "b"), False), (("b", "a"), False)]


@pytest.mark.parametrize(("roles", "silent"), OPPOSED)
def test_nothing_is_shown_of_what_zeros_silence(tmp_path, roles, silent):
    wrote, model = networks.randomise(networks.Opposed()), networks.Opposed(("entry", *roles, "out"))
    if silent:
        torch.nn.init.zeros_(wrote.plus[1].weight)
        torch.nn.init.zeros_(wrote.minus[1].weight)
    torch.save(wrote.state_dict(), tmp_path / "a.pth")
    source = ckptaudit.build_model(networks.Opposed())
    run = ckptaudit.audit(tmp_path / "a.pth", model, source_arch=source, input_size=(3, 16, 16), settle=True)
    truth = dict(zip(("entry", *roles, "out"), wrote.names, strict=True))
    right = {s.target for s in run.plan.steps if s.sources[0].partition(".")[0] == truth[s.target.partition(".")[0]]}
    assert {s.target for s in run.plan.steps if s.sure} <= right
    proof = prove_plan(run.plan, run.checkpoint, run.model, source=source, input_size=(3, 16, 16))
    assert (proof.status == "proved") == (len(right) == len(run.plan.steps))
    if silent and proof.status != "proved":
        assert proof.status == "not proved"
        assert "plus.1.weight" in proof.reasons[-1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_zeros_of_a_fresh_model_do_not_keep_a_plan_from_being_proved(tmp_path, dtype):
    """Biases, means, and a BatchNorm at the end of a branch that starts at zero."""
    wrote = networks.Plain().to(dtype)
    torch.nn.init.zeros_(wrote.bn2.weight)
    torch.save(wrote.state_dict(), tmp_path / "a.pth")
    audit = ckptaudit.audit(tmp_path / "a.pth", networks.Renamed())
    proof = prove_plan(audit.plan, audit.checkpoint, audit.model, source=ckptaudit.build_model(networks.Plain()), input_size=(3, 32, 32))
    assert proof.status == "proved"


def test_a_module_that_is_not_called_excludes_nothing(tmp_path):
    """What is given to it is not known, so that it may be the one that is meant: nothing is sure unless the outputs are equal."""
    wrote, model = networks.randomise(networks.Uncalled()), networks.parallel_renamed()
    torch.save(wrote.state_dict(), tmp_path / "a.pth")
    run = ckptaudit.audit(tmp_path / "a.pth", model, source_arch=networks.Uncalled(), input_size=(3, 16, 16), settle=True)
    sure = {step.target: step.sources[0] for step in run.plan.steps if step.sure}
    assert not {"left.weight", "right.weight"} & sure.keys()
    assert not run.verdict.fit


def test_pairs_that_are_taken_away_are_told_nowhere(tmp_path):
    """A source that is settled for one may leave another with nothing: it is left open, and no rule looks for its pair."""
    wrote, model = networks.randomise(networks.Parallel()), networks.parallel_renamed()
    torch.save(wrote.state_dict(), tmp_path / "a.pth")
    opened, built = open_checkpoint(tmp_path / "a.pth"), ckptaudit.build_model(model)
    found = align(opened.graph, built.graph)
    kept = {name: pair for name, pair in found.pairs.items() if not name.startswith("left")}
    fewer = found.with_pairs(kept, opened.graph, built.graph)
    assert fewer.structural
    assert set(fewer.structural) <= set(fewer.pairs)
    assert set(fewer.unmatched_target) == {name for name in found.pairs if name.startswith("left")}
    assert len(fewer.unmatched_source) == len(found.unmatched_source) + len(fewer.unmatched_target)


def audit_of(path, model, stride=2, **options):
    return ckptaudit.audit(path, model, source_arch=networks.Parallel(stride=stride), input_size=(3, 16, 16), **options)


def test_what_cannot_be_proved_says_why(plain):
    audit = ckptaudit.audit(plain, networks.Renamed())
    unknown = prove_plan(audit.plan, audit.checkpoint, audit.model)
    assert (unknown.status, unknown.by) == ("not proved", "")
    assert "--source-arch" in unknown.reasons[0]
    assert unknown.arithmetic.restored == len(audit.plan.steps)
    stranger = prove_plan(audit.plan, audit.checkpoint, audit.model, source=ckptaudit.build_model(networks.wider()))
    assert stranger.status == "not proved"
    assert "did not write plain.pth" in stranger.reasons[0]


# the model that is taken for the one that wrote the file, in words → what is said of its head, which has other classes
HEADS = [
    ("squeezenet1_1", r'512, 1, 1\) in this model.*--source-arch "squeezenet1_1\?num_classes=7"'),
    ("squeezenet1_1?num_classes=7", "^$"),
    (torchvision.models.squeezenet1_1, "in this model: build it with the arguments"),
]


@pytest.mark.parametrize(("source", "words"), HEADS)
def test_a_head_of_other_classes_names_the_argument(tmp_path, source, words):
    torch.save(torchvision.models.squeezenet1_1(num_classes=7).state_dict(), tmp_path / "a.pth")
    audit = ckptaudit.audit(tmp_path / "a.pth", torchvision.models.squeezenet1_1(num_classes=7))
    wrote = ckptaudit.build_model(source() if callable(source) else source)
    proof = prove_plan(audit.plan, audit.checkpoint, audit.model, source=wrote, input_size=(3, 64, 64))
    assert re.search(words, "".join(proof.reasons))
    assert not proof.reasons or "classifier.1.weight has the shape (7, 512, 1, 1) in the file" in proof.reasons[0]


def test_arithmetic_of_every_operation(tmp_path):
    plan, source = every_kind()
    torch.save(source, tmp_path / "a.pth")
    proof = prove_plan(plan, open_checkpoint(tmp_path / "a.pth"), ckptaudit.build_model(torch.nn.Linear(1, 1)))
    assert not proof.arithmetic.failed
    assert set(proof.arithmetic.lossy) == {
        s.target for s in plan.steps if {"inflate", "interpolate", "fuse", "slice"} & {o.name for o in s.ops}
    } | {s.target for s in plan.steps if any(o.name == "rows" for o in s.ops) and s.target in proof.arithmetic.lossy}
    assert {f"{name}.weight" for name in "qkv"}.isdisjoint(proof.arithmetic.lossy)  # three thirds of one tensor are the tensor
    assert proof.arithmetic.restored + len(proof.arithmetic.lossy) == len(plan.steps)


@pytest.mark.parametrize("wrong", [Permute((1, 0)), Reshape((6,)), Split(0, 0, 2)])
def test_a_step_that_gives_another_shape_is_refuted(tmp_path, wrong):
    source = {"weight": torch.randn(2, 3), "bias": torch.randn(2)}
    torch.save(source, tmp_path / "a.pth")
    plan = plan_for([step("weight", "weight", [wrong]), step("bias", "bias")], source)
    proof = prove_plan(plan, open_checkpoint(tmp_path / "a.pth"), ckptaudit.build_model(torch.nn.Linear(3, 2)))
    assert (proof.status, proof.by, proof.arithmetic.failed) == ("refuted", "arithmetic", ("weight",))


def test_at_the_prompt(run, run_beside_torch, plain):
    common = ("remap", plain, "--for", "finetune", "--verify", "--input-size", "3x32x32", "--source-arch", f"{FACTORIES}:Plain")
    proved = run(*common, "--arch", f"{FACTORIES}:Renamed")
    assert (proved.returncode, "✓ proved by running both models" in proved.stdout) == (0, True), proved.stdout + proved.stderr
    refuted = run_beside_torch(*common, "--arch", f"{FACTORIES}:other_eps", "--format", "json")
    document = json.loads(refuted.stdout)
    assert (refuted.returncode, document["schema"], document["proof"]["status"]) == (1, "ckptaudit.remap/1", "refuted")
    assert document["proof"]["settings"][0] == {"name": "eps", "file": 1e-5, "model": 1e-3, "layers": ["stem.1", "body.1"]}
    assert document["plan"]["safe"] is True
    words = run_beside_torch(*common, "--arch", f"{FACTORIES}:swish").stdout
    assert re.search("they part between `body.1`.*: the weights of another layer, or an activation", " ".join(words.split()))


def test_code_is_that_of_the_plan_that_was_proved(run_beside_torch, plain, tmp_path):
    torch.save(networks.randomise(networks.Parallel()).state_dict(), tmp_path / "parallel.pth")
    given = ("remap", "--for", "finetune", "--input-size", "3x32x32", "--emit", "python")
    ask = (*given, tmp_path / "parallel.pth", "--arch", f"{FACTORIES}:parallel_renamed")
    unsure, told = run_beside_torch(*ask), run_beside_torch(*ask, "--source-arch", f"{FACTORIES}:Parallel")
    assert (unsure.returncode, unsure.stdout) == (3, "")
    assert "not sure of" in unsure.stderr
    assert (told.returncode, told.stderr) == (0, "")
    code: dict = {}
    exec(told.stdout, code)
    (convert,) = [value for name, value in code.items() if callable(value) and not name.startswith("_")]
    state, model = torch.load(tmp_path / "parallel.pth"), networks.parallel_renamed()
    model.load_state_dict(convert(state))
    assert torch.equal(model.left.weight, state["proj.weight"])
    assert torch.equal(model.right.weight, state["conv.weight"])
    refuted = run_beside_torch(*given, plain, "--arch", f"{FACTORIES}:other_eps", "--source-arch", f"{FACTORIES}:Plain")
    assert refuted.returncode == 1
    (line,) = refuted.stderr.splitlines()
    assert "this code carries out is refuted by running both models" in line
    assert "def " in refuted.stdout


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Three ordinary photographs that come with scikit-image."""
    import skimage.data
    from PIL import Image

    folder = tmp_path_factory.mktemp("photographs")
    for name in ("astronaut", "chelsea", "coffee"):
        Image.fromarray(getattr(skimage.data, name)()).save(folder / f"{name}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_statistics_of_a_trained_network(run, real, photographs):
    """A real ResNet-20 restored into a rewrite with other names: right, and with two convolutions exchanged."""
    audit = ckptaudit.audit(real / "cifar10_resnet20.th", networks.CifarResNet())
    assert (audit.plan.complete, audit.plan.safe) == (True, True)
    right = prove_plan(audit.plan, audit.checkpoint, audit.model, images=photographs, input_size=(3, 32, 32))
    assert (right.status, right.by) == ("consistent", "statistics")
    assert right.statistics.preprocessing == "ImageNet mean and standard deviation"
    assert right.statistics.layers == 19
    assert right.statistics.mean < 0.05
    names = {"stages.0.1.c1.weight": "stages.0.1.c2.weight", "stages.0.1.c2.weight": "stages.0.1.c1.weight"}
    sources = {s.target: s.sources for s in audit.plan.steps}
    wrong = replace(
        audit.plan, steps=tuple(replace(s, sources=sources[names[s.target]]) if s.target in names else s for s in audit.plan.steps)
    )
    refuted = prove_plan(wrong, audit.checkpoint, audit.model, images=photographs, input_size=(3, 32, 32))
    assert (refuted.status, refuted.by) == ("refuted", "statistics")
    assert refuted.statistics.worst_layer.startswith("stages.0.1.")


def test_who_wrote_the_file_is_found_out(run, run_beside_torch, tmp_path):
    """A published architecture under a wrapper: nobody says what wrote it."""
    wrote = networks.randomise(torchvision.models.squeezenet1_1())
    torch.save({f"module.{name}": tensor for name, tensor in wrote.state_dict().items()}, tmp_path / "a.pth")
    common = ("remap", tmp_path / "a.pth", "--arch", "squeezenet1_1", "--verify", "--input-size")
    found = run(*common, "3x64x64")
    assert (found.returncode, found.stderr) == (0, "")
    assert "✓ proved by running both models" in found.stdout
    channels = run_beside_torch(*common, "1x64x64", "--plan", tmp_path / "plan.yaml")
    assert (channels.returncode, "– not proved" in channels.stdout) == (3, True)
    assert "not put to the proof: both models could not be run on one input" in channels.stderr
    assert (tmp_path / "plan.yaml").exists()


def test_onet_into_a_renamed_twin(real):
    audit = ckptaudit.audit(real / "onet.pt", networks.onet_twin())
    assert (audit.plan.complete, audit.plan.safe) == (True, True)
    proof = prove_plan(audit.plan, audit.checkpoint, audit.model, source=ckptaudit.build_model(networks.ONet()), input_size=(3, 48, 48))
    assert (proof.status, proof.outputs.compared) == ("proved", 3)


def test_applying_does_not_mutate(tmp_path):
    plan, source = every_kind()
    arrays = {name: tensor.numpy() for name, tensor in source.items()}
    before = {name: array.tobytes() for name, array in arrays.items()}
    for array in arrays.values():
        array.flags.writeable = False
    result = plan.apply(arrays)
    assert all(array.tobytes() == before[name] for name, array in arrays.items())
    assert all(isinstance(value, np.ndarray) for value in result.values())
