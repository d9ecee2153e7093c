"""Every rule on real files: what it must find, what it must leave alone, and what only looks like it.

A case names the rule that it is about, but states the rules that fire in the whole audit: one cause gives one finding, and
nothing else is said beside it.
"""

import argparse
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy
import pytest
import safetensors.torch as safetensors_torch
import torch
import torchvision
from torch import nn

import ckptaudit
from ckptaudit.completing import completed
from ckptaudit.graph import LayerGraph, TensorSpec
from ckptaudit.graph.settings import computing_modules
from ckptaudit.read import RefusedGlobal, open_checkpoint
from ckptaudit.read.recorded import Recorded
from ckptaudit.rules import all_rules
from tests.exports import export, with_statistics
from tests.rules import keras_chains as chains
from tests.rules.keras_chains import Chain, ChainFile

# Networks -------------------------------------------------------------------------------------------------------------


def block(inputs, outputs, kernel=3):
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(inputs, outputs, kernel, bias=False), bn=nn.BatchNorm2d(outputs), act=nn.ReLU()))


class Features(nn.Module):
    def __init__(self, inputs=3, width=8, kernel=3, depth=3, middle=None):
        super().__init__()
        self.stem = block(inputs, width, kernel)
        self.stages = nn.Sequential(*(block(width, width) for _ in range(depth)))
        self.neck = block(width, middle or width)


class Net(nn.Module):
    """A backbone and a classifier, on demand with what the cases need."""

    def __init__(self, classes=5, *, aux=False, **features):
        super().__init__()
        self.backbone = Features(**features)
        self.classifier = nn.Linear(features.get("middle") or features.get("width", 8), classes)
        if aux:
            self.aux_classifier = nn.Linear(features.get("width", 8), classes)


class With(nn.Module):
    """A net with further parts under names of the case's choice."""

    def __init__(self, net=None, /, **parts):
        super().__init__()
        for name, part in vars(net or Net())["_modules"].items():
            self.add_module(name, part)
        for name, part in parts.items():
            self.add_module(name, part)


def linear(bias):
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3, bias=bias)).state_dict()


def folding(norms=False, bias=True, names=("a", "an", "b", "bn")):
    """Two convolutions, each with its BatchNorm behind it or without."""
    layers = (nn.Conv2d(3, 8, 3, bias=bias), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, bias=bias), nn.BatchNorm2d(8))
    kept = (pair for pair in zip(names, layers, strict=True) if norms or isinstance(pair[1], nn.Conv2d))
    return nn.Sequential(OrderedDict(kept))


def numbered_folding(**more):
    return folding(**more, names=("conv1", "bn1", "conv2", "bn2"))


def basic_blocks(count):
    """Blocks of a ResNet, whose BatchNorm comes first in the order of the alphabet."""
    return Holding(layer1=nn.Sequential(*(torchvision.models.resnet.BasicBlock(8, 8) for _ in range(count))))


def norms_first(count):
    """A convolution, and blocks that normalise what they are given."""
    blocks = (nn.Sequential(OrderedDict(norm=nn.BatchNorm2d(8), conv=nn.Conv2d(8, 8, 3))) for _ in range(count))
    return Holding(stem=nn.Conv2d(3, 8, 3), blocks=nn.Sequential(*blocks))


def norms_last(count):
    """Blocks with a branch of the input itself, which has a BatchNorm alone."""
    blocks = (nn.Sequential(OrderedDict(identity=nn.BatchNorm2d(8), conv=block(8, 8))) for _ in range(count))
    return Holding(stages=nn.Sequential(*blocks))


class Holding(nn.Module):
    """A network under one name of another module."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


class Buffered(nn.Module):
    def __init__(self, **buffers):
        super().__init__()
        self.proj = nn.Linear(4, 4)
        for name, value in buffers.items():
            self.register_buffer(name, value)


class Tied(nn.Module):
    def __init__(self, tie=True, words=12):
        super().__init__()
        self.embedding = nn.Embedding(words, 6)
        self.norm = nn.LayerNorm(6)
        self.lm_head = nn.Linear(6, words, bias=False)
        if tie:
            self.lm_head.weight = self.embedding.weight


class LeNet(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, width, 5)
        self.fc1 = nn.Linear(width * 25, 20)
        self.fc2 = nn.Linear(20, 10)


class Words(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 8)
        self.norm = nn.LayerNorm(8)
        self.output = nn.Linear(8, vocabulary)


class Pyramid(nn.Module):
    def __init__(self, width):
        super().__init__()
        branches = [nn.Conv2d(width, 6, 1), *(nn.Conv2d(width, 6, 3, dilation=d) for d in (6, 12, 18)), nn.Conv2d(width, 6, 1)]
        self.convs = nn.ModuleList(branches)


class DeepLab(nn.Module):
    """Names as in the published ports: ``classifier.aspp.convs``, and ``classifier.project`` for the low-level features of V3+."""

    def __init__(self, plus, classes=4):
        super().__init__()
        self.backbone = Features()
        decoder = {"project": nn.Conv2d(8, 48, 1)} if plus else {}
        self.classifier = nn.ModuleDict({**decoder, "aspp": Pyramid(8), "classifier": nn.Conv2d(54 if plus else 6, classes, 1)})


class Tower(nn.Module):
    """A detector's tower: a list ``convs`` of 3×3 layers, and a layer of 48 channels. No pyramid."""

    def __init__(self, squeeze):
        super().__init__()
        self.backbone = Features()
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3) for _ in range(4))
        if squeeze:
            self.squeeze = nn.Conv2d(8, 48, 1)
        self.head = nn.Linear(8, 4)


def resnet(name, **arguments):
    with torch.device("meta"):
        return getattr(torchvision.models, name)(weights=None, **arguments)


# Files ----------------------------------------------------------------------------------------------------------------


def trained(model, seed=0):
    """Its state dict with values that look trained; kernels are one number, so that large networks are small files."""
    generator = torch.Generator().manual_seed(seed)
    state = OrderedDict()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            state[name] = torch.rand(tensor.shape, generator=generator) + 0.5
        elif name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1000)
        elif not tensor.is_floating_point():
            state[name] = tensor
        elif tensor.dim() > 1 and tensor.is_meta:
            state[name] = torch.full((1,), 0.01).expand(tensor.shape)
        else:
            state[name] = torch.randn(tensor.shape, generator=generator) * 0.3 + 0.5
    return state


def changed(state, **values):
    """``state`` with some tensors replaced; dots of names are written ``__``."""
    return {**state, **{name.replace("__", "."): value for name, value in values.items()}}


def other_names(name):
    """What another library would call the layers of a LeNet."""
    return name.replace("conv", "features.c").replace("fc", "head.dense_")


def without(state, *parts):
    return OrderedDict((name, value) for name, value in state.items() if not any(part in name for part in parts))


def renamed(state, rename):
    return OrderedDict((rename(name), value) for name, value in state.items())


def under(prefix, state):
    return renamed(state, lambda name: prefix + name)


def optimized(model, make, *, frozen=""):
    """A file to resume from: weights, and the state of an optimizer after one step."""
    if frozen:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen))
    optimizer = make(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    return {"model": trained(model), "optimizer": optimizer.state_dict(), "epoch": 3}


def adam(model):
    return torch.optim.Adam(model.parameters())


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def momentum(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def grouped(model):
    """Head first, as trainers with a rate of its own for the backbone do."""
    return torch.optim.AdamW([{"params": model.classifier.parameters()}, {"params": model.backbone.parameters(), "lr": 1e-4}])


def trainable(model):
    return torch.optim.Adam(p for p in model.parameters() if p.requires_grad)


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("true",)


class Stranger:
    def __reduce__(self):
        return torch.nn.init.calculate_gain, ("relu",)


@dataclass(frozen=True)
class Safetensors:
    """What is to be written as a safetensors file."""

    tensors: Any


@dataclass(frozen=True)
class Locked:
    """The state dict of a model, of which a lock has noted the settings too."""

    model: nn.Module
    under: str = ""


@dataclass(frozen=True)
class Keras:
    """A compiled Keras model with one dense layer, as a file."""

    activation: str
    loss: Any
    units: int = 3


def keras_file(content, folder):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(content.units, activation=content.activation, name="dense")])
    model.compile(loss=content.loss(keras) if callable(content.loss) else content.loss)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras would rather have another format
        model.save(folder / "model.h5")
    return folder / "model.h5"


def dense(units):
    """The model that such a file is from."""
    names = {"dense/kernel": (4, units), "dense/bias": (units,)}
    graph = LayerGraph.from_tensors([TensorSpec(name, shape, "float32") for name, shape in names.items()], "keras")
    return lambda: ckptaudit.Model("dense", "test", graph)


@dataclass(frozen=True)
class Exported:
    """A model as an ONNX file without names, and a checkpoint to compare its values with."""

    model: nn.Module
    twin: Any = None
    train: bool = False
    anonymous: bool = True


def chain(depth=2, norms=True, classes=4):
    """Convolutions, one behind the other, that can be run."""
    torch.manual_seed(0)
    layers = [(nn.Conv2d(8 if i else 3, 8, 3), *([nn.BatchNorm2d(8)] if norms else ()), nn.ReLU()) for i in range(depth)]
    flat = [layer for group in layers for layer in group]
    return with_statistics(nn.Sequential(*flat, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes)))


def moved(name):
    state = {key: value.clone() for key, value in chain().state_dict().items()}
    state[name] += 1
    return state


def audited(case, folder):
    """The audit of a case."""
    content = case.file()
    other = folder / "twin.pth" if isinstance(content, Exported) and content.twin is not None else None
    if other is not None:
        torch.save(content.twin, other)
    return ckptaudit.audit(write(content, folder), case.model(), intent=case.intent, twin=other)


def write(content, folder):
    if isinstance(content, Exported):
        return export(content.model, folder / "model.onnx", (3, 16, 16), anonymous=content.anonymous, train=content.train)
    if isinstance(content, Locked):
        modules = {content.under + path: module for path, module in computing_modules(ckptaudit.build_model(content.model).graph).items()}
        opened = open_checkpoint(write(under(content.under, trained(content.model)), folder))
        return replace(opened, recorded=Recorded(modules=modules))
    if isinstance(content, Keras):
        return keras_file(content, folder)
    if isinstance(content, ChainFile):
        return content.write(folder)
    if isinstance(content, Safetensors):
        path = folder / "model.safetensors"
        safetensors_torch.save_file({name: value.contiguous() for name, value in content.tensors.items()}, path)
    elif isinstance(content, bytes):
        path = folder / "model.safetensors"
        path.write_bytes(content)
    else:
        path = folder / "checkpoint.pth"
        torch.save(content, path)
    return path


# Cases ----------------------------------------------------------------------------------------------------------------


def blocks(depth, odd=False):
    """A network without statistics whose repeated blocks are alike; the last one may be of another kind."""
    layers = [nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(depth)]
    if odd:
        layers.append(nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4)))
    return nn.ModuleDict({"blocks": nn.ModuleList(layers), "head": nn.Linear(4, 3)})


@dataclass(frozen=True)
class Case:
    """``rule`` is what the case is about; ``fires`` are the rules of all findings, each as often as it fires."""

    rule: str
    kind: str
    what: str
    model: Callable[[], Any]
    file: Callable[[], Any]
    fires: tuple[str, ...] = ()
    status: str = "compatible"
    fit: bool = True
    intent: str = "eval"
    severity: str = ""
    says: str = ""

    def __str__(self):
        return f"{self.rule}: {self.kind}: {self.what}"


YES, NO, NEAR = "positive", "negative", "near miss"


def cases(rule, *rows):
    """Cases of one rule; a positive case that does not say what fires expects one finding of the rule itself."""
    for kind, what, model, file, *rest in rows:
        more = dict(rest[0]) if rest else {}
        fires = more.pop("fires", (rule,) if kind == YES else ())
        yield Case(rule, kind, what, model, file, tuple(sorted(fires)), **more)


def partial(**more):
    return {"status": "partial", "fit": False, **more}


def wrong(**more):
    return {"status": "incompatible", "fit": False, **more}


def fine():
    return trained(Net())


def stem_of_resnet():
    return {n: t for n, t in trained(resnet("resnet50")).items() if n.startswith(("conv1.", "bn1."))}


def twice(values, dtype=torch.float32):
    """A file that holds a tied weight twice, the second copy rounded to ``dtype``."""
    return changed(trained(Tied()), embedding__weight=values, lm_head__weight=values.to(dtype, copy=True))


def ramp(words):
    """The same values in every row."""
    return torch.arange(6.0).repeat(words, 1)


def stack():
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(16, 16) for _ in range(8)))


def cut(share):
    """A safetensors file whose download was not completed: zeros from there on."""
    content = safetensors_torch.save(stack().state_dict())
    kept = int(len(content) * share)
    return content[:kept] + bytes(len(content) - kept)


def head_optimizer(model):
    return torch.optim.Adam(model.classifier.parameters())


def halves():
    """Two optimizers that share one model."""
    first, second = optimized(Net(), head_optimizer), optimized(Net(), lambda net: torch.optim.Adam(net.backbone.parameters()))
    return {**first, "optimizer_backbone": second["optimizer"]}


def converted(dtype, new, *, size=4):
    """A buffer of one dtype in the file and another in the model."""
    return lambda: Buffered(table=torch.ones(size, dtype=new)), lambda: {**Buffered(table=torch.ones(size, dtype=dtype)).state_dict()}


def set_to(module, **settings):
    """A net with settings of one module changed."""
    net = Net()
    for name, value in settings.items():
        setattr(net.get_submodule(module), name, value)
    return net


def noted(net=None, **notes):
    """A net that notes something of itself, as models of projects do."""
    net = net or Net()
    for name, value in notes.items():
        setattr(net, name, value)
    return net


CASES = [
    *cases(
        "architecture-variant",
        (YES, "a resnet101", lambda: resnet("resnet50"), lambda: trained(resnet("resnet101")), wrong()),
        (YES, "shallower", lambda: resnet("resnet101"), lambda: trained(resnet("resnet50")), wrong()),
        (YES, "wider", lambda: resnet("resnet50"), lambda: trained(resnet("wide_resnet50_2")), wrong()),
        (YES, "grouped", lambda: resnet("resnet50"), lambda: trained(resnet("resnext50_32x4d")), wrong()),
        (YES, "another family", lambda: resnet("resnet18"), lambda: trained(resnet("vgg11")), wrong()),
        (YES, "told by a relative that fits", lambda: "squeezenet1_0", lambda: trained(resnet("squeezenet1_1")), wrong()),
        (YES, "unnamed", lambda: Net(width=8, depth=3), lambda: trained(Net(width=16, depth=6)), wrong()),
        (
            YES,
            "and other classes",
            lambda: resnet("resnet18"),
            lambda: trained(resnet("resnet34", num_classes=7)),
            wrong(fires=("architecture-variant", "num-classes")),
        ),
        (NO, "the same", lambda: resnet("resnet50"), lambda: trained(resnet("resnet50"))),
        (
            NEAR,
            "the same with another head",
            lambda: resnet("resnet18"),
            lambda: trained(resnet("resnet18", num_classes=7)),
            partial(fires=("num-classes",)),
        ),
    ),
    *cases(
        "attribute-drift",
        (YES, "eps", lambda: set_to("backbone.neck.bn", eps=1e-3), lambda: Locked(Net()), partial(severity="error")),
        (
            YES,
            "eps, to fine-tune",
            lambda: set_to("backbone.neck.bn", eps=1e-3),
            lambda: Locked(Net()),
            {"intent": "finetune", "severity": "warning"},
        ),
        (YES, "momentum", lambda: set_to("backbone.neck.bn", momentum=0.01), lambda: Locked(Net()), {"severity": "note"}),
        (YES, "an activation", lambda: With(Net(), act=nn.GELU()), lambda: Locked(With(Net(), act=nn.ReLU())), partial(severity="error")),
        (YES, "a note of the project's own", lambda: noted(scheme="b"), lambda: Locked(noted(scheme="a")), {"severity": "warning"}),
        (
            YES,
            "behind a wrapper",
            lambda: set_to("backbone.neck.bn", eps=1e-3),
            lambda: Locked(Net(), "module."),
            partial(fires=("attribute-drift", "wrapper-prefix")),
        ),
        (NO, "nothing", Net, lambda: Locked(Net())),
        (NO, "settings are not known", lambda: set_to("backbone.neck.bn", eps=1e-3), fine),
        (NEAR, "a tuple for a list", lambda: noted(sizes=[1, 2]), lambda: Locked(noted(sizes=(1, 2)))),
        (NEAR, "a layer without weights that is new", lambda: With(Net(), flat=nn.Flatten()), lambda: Locked(With(Net()))),
        (
            NEAR,
            "a note that follows from the classes",
            lambda: noted(Net(classes=7), classes=7),
            lambda: Locked(noted(Net(), classes=5)),
            partial(fires=("num-classes",)),
        ),
    ),
    *cases(
        "aux-head",
        (YES, "absent from the file", lambda: Net(aux=True), fine, partial()),
        (YES, "absent, to fine-tune", lambda: Net(aux=True), fine, {"status": "partial", "intent": "finetune", "severity": "note"}),
        (YES, "absent from the model", Net, lambda: trained(Net(aux=True)), {"status": "remappable", "severity": "note"}),
        (NO, "on both sides", lambda: Net(aux=True), lambda: trained(Net(aux=True))),
        (NEAR, "a layer named auxin", lambda: With(auxin=nn.Linear(2, 2)), fine, wrong(fires=("missing-layers",))),
        (NEAR, "two unrelated networks", lambda: Net(aux=True), lambda: trained(LeNet(6)), wrong(fires=("nothing-matched",))),
    ),
    *cases(
        "auto-numbers",
        (YES, "one model built before", Chain(chains.LATER).build, lambda: ChainFile(Chain(chains.NUMBERED)), {"severity": "note"}),
        (
            YES,
            "another head",
            Chain(chains.LATER, classes=7).build,
            lambda: ChainFile(Chain(chains.NUMBERED)),
            partial(fires=("auto-numbers", "num-classes", "skip-mismatch"), severity="warning"),
        ),
        (NO, "the same session", Chain(chains.NUMBERED).build, lambda: ChainFile(Chain(chains.NUMBERED))),
        (NEAR, "names of the author's", Chain(("p", "q", "r")).build, ChainFile, {"fires": ("renamed-layers",)}),
    ),
    *cases(
        "backbone-only",
        (YES, "no head", Net, lambda: without(fine(), "classifier"), partial()),
        (
            YES,
            "no head, to fine-tune",
            Net,
            lambda: without(fine(), "classifier"),
            {"status": "partial", "intent": "finetune", "severity": "note"},
        ),
        (
            YES,
            "no head, and a stage of another name",
            lambda: resnet("resnet18"),
            lambda: renamed(without(trained(resnet("resnet18")), "fc."), lambda n: n.replace("layer4.", "stage4.")),
            partial(fires=("backbone-only", "renamed-layers"), says="The file holds a part of the model only: `fc`"),
        ),
        (YES, "below another name", Net, lambda: trained(Features()), partial()),
        (YES, "all of it, one level down", lambda: Holding(detector=Net()), fine, {"status": "remappable", "severity": "warning"}),
        (NO, "all of it", Net, fine),
        (YES, "the stem alone, to fine-tune", lambda: resnet("resnet50"), stem_of_resnet, wrong(intent="finetune", severity="error")),
        (YES, "the stem alone", lambda: resnet("resnet50"), stem_of_resnet, wrong()),
        (
            NEAR,
            "a stage in the middle is absent",
            Features,
            lambda: without(trained(Features()), "stages.1."),
            wrong(fires=("missing-layers",)),
        ),
    ),
    *cases(
        "block-count",
        (YES, "more in the file", lambda: blocks(4), lambda: blocks(6).state_dict(), wrong()),
        (YES, "fewer in the file, to fine-tune", lambda: blocks(6), lambda: blocks(4).state_dict(), wrong(intent="finetune")),
        (NO, "as many", lambda: blocks(4), lambda: blocks(4).state_dict()),
        (NEAR, "an odd one at the end", lambda: blocks(4), lambda: blocks(4, odd=True).state_dict(), partial(fires=("unexpected-layers",))),
    ),
    *cases(
        "folded-export",
        (
            YES,
            "by an exporter",
            chain,
            lambda: Exported(chain()),
            {"status": "remappable", "severity": "note", "fires": ("folded-export", "renamed-layers")},
        ),
        (
            YES,
            "to train further",
            chain,
            lambda: Exported(chain()),
            {"status": "remappable", "severity": "warning", "intent": "finetune", "fires": ("folded-export", "renamed-layers")},
        ),
        (
            YES,
            "and what the model computes is not known",
            lambda: replace(ckptaudit.build_model(chain()), module=None, provenance="file"),
            lambda: Exported(chain(), anonymous=False),
            wrong(severity="error", fires=("folded-export", "remarks", "renamed-layers")),
        ),
        (NO, "nothing is folded where there is nothing", lambda: chain(norms=False), lambda: Exported(chain(norms=False), anonymous=False)),
        (
            NEAR,
            "an export to train with its BatchNorm",
            chain,
            lambda: Exported(chain(), train=True, anonymous=False),
            {"fires": ("remarks",)},
        ),
    ),
    *cases(
        "folded-batch-norm",
        (YES, "the file's layers have biases", folding, lambda: trained(folding(norms=True)), wrong()),
        (YES, "the model's alone have", folding, lambda: trained(folding(norms=True, bias=False)), wrong()),
        (
            YES,
            "told by numbers, for the file is in the order of the alphabet",
            numbered_folding,
            lambda: Safetensors(trained(numbered_folding(norms=True))),
            wrong(says="2 BatchNorm layers to be folded"),
        ),
        (
            NEAR,
            "no numbers tell",
            folding,
            lambda: Safetensors(trained(folding(norms=True))),
            partial(fires=("unexpected-layers", "unexpected-layers")),
        ),
        (NO, "the model has them, too", lambda: folding(norms=True), lambda: trained(folding(norms=True))),
        *(
            (NEAR, what, lambda make=make: make(2), lambda make=make: Safetensors(trained(make(3))), partial(fires=("unexpected-layers",)))
            for what, make in [("one block more", basic_blocks), ("which begins with a norm", norms_first), ("or norms", norms_last)]
        ),
        *(
            (NEAR, what, lambda make=make: make(2), lambda make=make: trained(make(3)), partial(fires=("unexpected-layers",)))
            for what, make in [("in the order of its code", norms_first), ("a norm behind a norm", norms_last)]
        ),
        (
            NEAR,
            "a model without biases has nowhere to fold to",
            lambda: folding(bias=False),
            lambda: trained(folding(norms=True, bias=False)),
            partial(fires=("unexpected-layers", "unexpected-layers")),
        ),
    ),
    *cases(
        "constant-weights",
        (YES, "a download that was not completed", stack, lambda: cut(0.6), wrong(severity="error")),
        (YES, "a layer of zeros", stack, lambda: changed(stack().state_dict(), **{"3__weight": torch.zeros(16, 16)})),
        (YES, "all zeros", stack, lambda: {name: torch.zeros_like(values) for name, values in stack().state_dict().items()}),
        (NEAR, "an example of ones", stack, lambda: {name: torch.ones_like(values) for name, values in stack().state_dict().items()}),
        (NO, "a whole download", stack, lambda: cut(1)),
        (NEAR, "biases of zeros", stack, lambda: {n: v * 0 if n.endswith("bias") else v for n, v in stack().state_dict().items()}),
        (NEAR, "expanded on purpose", stack, lambda: {n: v.flatten()[0].expand(v.shape) for n, v in stack().state_dict().items()}),
        (
            NEAR,
            "the first row of an embedding",
            lambda: nn.Embedding(9, 2048, padding_idx=0),
            lambda: nn.Embedding(9, 2048, padding_idx=0).state_dict(),
        ),
    ),
    *cases(
        "bn-absent",
        (YES, "parameters only", Net, lambda: {n: p.detach() for n, p in Net().named_parameters()}, partial()),
        (
            YES,
            "to fine-tune",
            Net,
            lambda: without(fine(), "running", "num_batches"),
            {"status": "partial", "intent": "finetune", "severity": "warning"},
        ),
        (NO, "all there", Net, fine),
        (
            NEAR,
            "statistics are not kept",
            lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
            lambda: trained(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))),
        ),
    ),
    *cases(
        "bn-invalid",
        (YES, "NaN", Net, lambda: changed(fine(), backbone__neck__bn__running_mean=torch.full((8,), torch.nan)), wrong()),
        (YES, "infinite", Net, lambda: changed(fine(), backbone__neck__bn__running_var=torch.full((8,), torch.inf)), wrong()),
        (YES, "negative", Net, lambda: changed(fine(), backbone__neck__bn__running_var=torch.linspace(-1, 1, 8)), wrong()),
        (NO, "healthy", Net, fine),
        (
            NEAR,
            "exact zeros and denormals",
            Net,
            lambda: changed(fine(), backbone__neck__bn__running_var=torch.tensor([0.0, 5.6e-45, 1e-36, 1e30, 1, 1, 1, 1])),
        ),
        (
            NEAR,
            "NaN in a layer that is dropped",
            Net,
            lambda: changed(fine(), criterion__running_var=torch.full((2,), torch.nan)),
            {"status": "remappable", "fires": ("unexpected-layers",)},
        ),
    ),
    *cases(
        "bn-untrained",
        (
            YES,
            "one layer",
            Net,
            lambda: changed(fine(), backbone__neck__bn__running_mean=torch.zeros(8), backbone__neck__bn__running_var=torch.ones(8)),
            partial(),
        ),
        (YES, "every layer", Net, lambda: Net().state_dict(), partial()),
        (YES, "to fine-tune", Net, lambda: Net().state_dict(), {"status": "partial", "intent": "finetune", "severity": "warning"}),
        (NO, "trained", Net, fine),
        (
            NEAR,
            "one channel at 0 and 1",
            Net,
            lambda: changed(
                fine(),
                backbone__neck__bn__running_mean=torch.tensor([0.0, *([0.1] * 7)]),
                backbone__neck__bn__running_var=torch.tensor([1.0, *([0.9] * 7)]),
            ),
        ),
        (NEAR, "variance 0 in every channel", Net, lambda: changed(fine(), backbone__neck__bn__running_var=torch.zeros(8))),
        (NEAR, "means 0, variances not 1", Net, lambda: changed(fine(), backbone__neck__bn__running_mean=torch.zeros(8))),
        (
            NEAR,
            "LayerNorm at 1 and 0",
            lambda: With(norm=nn.LayerNorm(8)),
            lambda: {**fine(), **under("norm.", nn.LayerNorm(8).state_dict())},
        ),
    ),
    *cases(
        "by-name",
        (
            YES,
            "other names",
            Chain(("p", "q", "r")).build,
            lambda: ChainFile(written=chains.LEGACY),
            {"fires": ("by-name", "renamed-layers")},
        ),
        (
            YES,
            "numbers that coincide",
            Chain(chains.LATER).build,
            lambda: ChainFile(Chain(chains.NUMBERED), chains.LEGACY),
            {"fires": ("auto-numbers", "by-name"), "severity": "warning"},
        ),
        (NO, "the same names", Chain().build, lambda: ChainFile(written=chains.LEGACY)),
        (NEAR, "a format that has no by_name", Chain(("p", "q", "r")).build, ChainFile, {"fires": ("renamed-layers",)}),
    ),
    *cases(
        "deeplab-variant",
        (YES, "V3+ in the file", lambda: DeepLab(plus=False), lambda: trained(DeepLab(plus=True)), wrong()),
        (YES, "V3 in the file", lambda: DeepLab(plus=True), lambda: trained(DeepLab(plus=False)), wrong()),
        (NO, "both V3+", lambda: DeepLab(plus=True), lambda: trained(DeepLab(plus=True))),
        (
            NO,
            "V3 with other classes",
            lambda: DeepLab(plus=False),
            lambda: trained(DeepLab(plus=False, classes=9)),
            partial(fires=("num-classes",)),
        ),
        (
            NEAR,
            "a tower and 48 channels",
            lambda: Tower(squeeze=False),
            lambda: trained(Tower(squeeze=True)),
            partial(fires=("unexpected-layers",)),
        ),
    ),
    *cases(
        "derived-buffers",
        (YES, "absent from the file", lambda: Buffered(position_ids=torch.arange(4)), lambda: trained(Buffered())),
        (YES, "absent from the model", Buffered, lambda: trained(Buffered(position_ids=torch.arange(4))), {"status": "remappable"}),
        (NO, "on both sides", lambda: Buffered(position_ids=torch.arange(4)), lambda: trained(Buffered(position_ids=torch.arange(4)))),
        (
            NEAR,
            "a buffer with values of its own",
            lambda: Buffered(anchors=torch.rand(4)),
            lambda: trained(Buffered()),
            wrong(fires=("missing-layers",)),
        ),
        (NEAR, "its module is absent", lambda: With(text=Buffered(position_ids=torch.arange(4))), fine, wrong(fires=("missing-layers",))),
    ),
    *cases(
        "dtype",
        (YES, "half", Net, lambda: {n: t.half() if t.is_floating_point() else t for n, t in fine().items()}, {"severity": "note"}),
        (YES, "quantised", Net, lambda: changed(fine(), classifier__weight=torch.ones(5, 8, dtype=torch.int8)), wrong(severity="error")),
        (
            YES,
            "whole numbers",
            Net,
            lambda: changed(fine(), classifier__weight=torch.ones(5, 8, dtype=torch.int64)),
            wrong(severity="error"),
        ),
        (YES, "complex to int", *converted(torch.complex64, torch.int64), wrong(severity="error")),
        (YES, "complex to float", *converted(torch.complex64, torch.float32), wrong(severity="error")),
        (YES, "float to complex", *converted(torch.float32, torch.complex64), {"severity": "note"}),
        (YES, "narrower whole numbers", *converted(torch.int64, torch.int32), {"severity": "warning"}),
        (YES, "wider whole numbers", *converted(torch.int32, torch.int64), {"severity": "note"}),
        (YES, "signed to unsigned", *converted(torch.int8, torch.uint8), {"severity": "warning"}),
        (YES, "bytes to bool", *converted(torch.uint8, torch.bool), {"severity": "warning"}),
        (YES, "bool to int", *converted(torch.bool, torch.int64), {"severity": "note"}),
        (NO, "the same", Net, fine),
        (NEAR, "counters as floats", Net, lambda: {n: t.float() for n, t in fine().items()}),
    ),
    *cases(
        "ema",
        (YES, "a branch beside", Net, lambda: {"state_dict": fine(), "ema": trained(Net(), 1)}),
        (YES, "a copy among the names", Net, lambda: {**fine(), **under("ema_model.", trained(Net(), 1))}, {"status": "remappable"}),
        (
            YES,
            "flattened names",
            Net,
            lambda: {**fine(), **renamed(fine(), lambda n: "ema_" + n.replace(".", "_"))},
            {"status": "remappable"},
        ),
        (
            YES,
            "SWA",
            Net,
            lambda: trained(torch.optim.swa_utils.AveragedModel(Net())),
            {"status": "remappable", "fires": ("ema", "wrapper-prefix"), "severity": "warning"},
        ),
        (NO, "raw weights only", Net, fine),
        (NEAR, "a layer named schema", lambda: With(schema=nn.Linear(2, 2)), lambda: trained(With(schema=nn.Linear(2, 2)))),
        (NEAR, "an extra layer named schema", Net, lambda: trained(With(schema=nn.Linear(2, 2))), partial(fires=("unexpected-layers",))),
        (
            NEAR,
            "a branch of the network named shadow",
            Net,
            lambda: trained(With(shadow_branch=nn.Linear(3, 7))),
            partial(fires=("unexpected-layers",)),
        ),
    ),
    *cases(
        "remarks",
        (YES, "two keys, one name", Net, lambda: {**fine(), "classifier": {"bias": torch.ones(5)}}),
        (NO, "plain", Net, fine),
        (
            NEAR,
            "nested without clashes",
            lambda: Holding(a=nn.Linear(2, 2), b=nn.Linear(2, 2)),
            lambda: {"a": dict(nn.Linear(2, 2).state_dict()), "b": dict(nn.Linear(2, 2).state_dict())},
        ),
    ),
    *cases(
        "keras-order",
        (YES, "exchanged within a class", Chain(("c", "a", "b")).build, ChainFile, {"status": "remappable", "severity": "error"}),
        (
            YES,
            "exchanged in a legacy file",
            Chain(("c", "a", "b")).build,
            lambda: ChainFile(written=chains.LEGACY),
            {"status": "remappable", "severity": "error"},
        ),
        (
            YES,
            "the first layer gone: every other one would get its neighbour's",
            Chain(("b", "c")).build,
            ChainFile,
            partial(fires=("keras-order", "layer-count", "unexpected-layers")),
        ),
        (YES, "between name and place", Chain(chains.SWAPPED).build, lambda: ChainFile(Chain(chains.NUMBERED)), partial(severity="error")),
        (NO, "the same order", Chain().build, ChainFile),
        (NEAR, "a rotation of other names", Chain(("q", "p", "r")).build, ChainFile, {"fires": ("renamed-layers",)}),
    ),
    *cases(
        "keras-paths",
        (
            YES,
            "attributes of another version",
            Chain(attention=True).build,
            lambda: ChainFile(Chain(attention=True), moved=chains.PRIVATE),
            {"status": "remappable"},
        ),
        (NO, "the same version", Chain(attention=True).build, lambda: ChainFile(Chain(attention=True))),
        (
            NEAR,
            "the container of TensorFlow 2.12, which Keras knows",
            Chain().build,
            lambda: ChainFile(moved=(("layers", "_layer_checkpoint_dependencies"),)),
        ),
    ),
    *cases(
        "layer-count",
        (
            YES,
            "a name that has Keras take it for a legacy file",
            Chain().build,
            lambda: ChainFile(named="x.h5"),
            {"status": "remappable", "severity": "warning"},
        ),
        (
            YES,
            "a legacy file under the name of a new one",
            Chain().build,
            lambda: ChainFile(written=chains.LEGACY, named="x.weights.h5"),
            {"status": "remappable"},
        ),
        (
            YES,
            "one layer less in the file",
            Chain(middle=True).build,
            lambda: ChainFile(written=chains.LEGACY),
            wrong(fires=("layer-count", "missing-layers"), severity="warning"),
        ),
        (
            YES,
            "one layer more in the file",
            Chain(("a", "b")).build,
            ChainFile,
            partial(fires=("layer-count", "unexpected-layers"), severity="note"),
        ),
        (NO, "as many", Chain().build, lambda: ChainFile(written=chains.LEGACY)),
        (NEAR, "a name that any format may have", Chain().build, lambda: ChainFile(named="weights.trained")),
    ),
    *cases(
        "missing-layers",
        (
            YES,
            "a layer without a name for it",
            lambda: With(gate=nn.Linear(3, 3), classifier2=nn.Linear(8, 2)),
            lambda: trained(With(classifier2=nn.Linear(8, 2))),
            wrong(),
        ),
        (
            YES,
            "300 under one prefix",
            lambda: Holding(a=Net(), b=Features(depth=58), z=nn.Linear(2, 2)),
            lambda: trained(Holding(a=Net(), z=nn.Linear(2, 2))),
            wrong(),
        ),
        (
            YES,
            "a gate in each block",
            lambda: nn.Sequential(*(With(gate=nn.Linear(2, 2)) for _ in range(4))),
            lambda: trained(nn.Sequential(*(Net() for _ in range(4)))),
            wrong(),
        ),
        (NO, "none", Net, fine),
        (NEAR, "only counters", Net, lambda: without(fine(), "num_batches"), {"fires": ("num-batches-tracked",)}),
    ),
    *cases(
        "nothing-matched",
        (YES, "another network", Net, lambda: trained(LeNet(6)), wrong()),
        (YES, "an empty state dict", Net, dict, wrong()),
        (YES, "a coincidence", lambda: With(conv1=nn.Conv2d(3, 64, 7, bias=False)), lambda: trained(resnet("resnet18")), wrong()),
        (YES, "in silence", lambda: Net(width=4), lambda: trained(LeNet(6)), wrong(says="untrained in silence")),
        (
            YES,
            "a shape that torch refuses",
            lambda: With(conv1=nn.Conv2d(3, 32, 7)),
            lambda: trained(resnet("resnet18")),
            wrong(says="load_state_dict would refuse the shape of 1 tensor that both have by name, such as `conv1.weight`"),
        ),
        (NO, "the same", Net, fine),
        (NEAR, "a prefix explains it", Net, lambda: under("model.", fine()), {"status": "remappable", "fires": ("wrapper-prefix",)}),
        (
            NEAR,
            "a small part, but all of the file",
            lambda: Holding(a=Net(), b=Features(depth=60)),
            lambda: under("a.", fine()),
            wrong(fires=("missing-layers",)),
        ),
    ),
    *cases(
        "non-finite-values",
        (YES, "NaN", Net, lambda: changed(fine(), classifier__weight=torch.full((5, 8), torch.nan)), wrong()),
        (
            YES,
            "infinite, half precision",
            Net,
            lambda: changed(fine(), classifier__weight=torch.full((5, 8), torch.inf).bfloat16()),
            wrong(fires=("dtype", "non-finite-values")),
        ),
        (NO, "finite", Net, fine),
        (
            NEAR,
            "a mask of infinities",
            lambda: Buffered(attn_mask=torch.full((4, 4), -torch.inf)),
            lambda: changed(trained(Buffered()), attn_mask=torch.full((4, 4), -torch.inf)),
        ),
        (
            NEAR,
            "NaN in a layer that is dropped",
            Net,
            lambda: changed(fine(), criterion__pos_weight=torch.full((2,), torch.nan)),
            {"status": "remappable", "fires": ("unexpected-layers",)},
        ),
    ),
    *cases(
        "num-batches-tracked",
        (YES, "absent from the file", Net, lambda: without(fine(), "num_batches")),
        (
            YES,
            "absent from the model",
            lambda: nn.Sequential(nn.InstanceNorm1d(2, affine=True)),
            lambda: {"0.weight": torch.ones(2), "0.bias": torch.zeros(2), "0.num_batches_tracked": torch.tensor(3)},
        ),
        (NO, "on both sides", Net, fine),
        (
            NEAR,
            "the layer is absent as well",
            Features,
            lambda: without(trained(Features()), "stages.1.bn"),
            wrong(fires=("missing-layers",)),
        ),
    ),
    *cases(
        "num-classes",
        (YES, "to evaluate", Net, lambda: trained(Net(21)), partial(severity="error")),
        (YES, "to fine-tune", Net, lambda: trained(Net(21)), {"status": "partial", "intent": "finetune", "severity": "note"}),
        (YES, "with the auxiliary head", lambda: Net(aux=True), lambda: trained(Net(21, aux=True)), partial()),
        (
            YES,
            "and other input channels",
            lambda: Net(7, inputs=1),
            lambda: trained(Net(21, inputs=3)),
            partial(fires=("num-classes", "stem-channels")),
        ),
        (
            YES,
            "a transposed convolution",
            lambda: With(classifier=nn.ConvTranspose2d(8, 5, 2)),
            lambda: trained(With(classifier=nn.ConvTranspose2d(8, 9, 2))),
            partial(),
        ),
        (
            YES,
            "a head of another name, in another library",
            lambda: resnet("resnet18"),
            lambda: renamed(
                trained(resnet("resnet18", num_classes=7)), lambda n: n.replace("fc.", "head.") if n[0] == "f" else f"body.{n}"
            ),
            partial(fires=("num-classes", "whole-into-part"), says="head 7 → 1000 classes"),
        ),
        (NO, "the same", Net, fine),
        (
            NEAR,
            "a layer of other inputs instead of the head",
            Net,
            lambda: without(trained(With(projection=nn.Linear(9, 7))), "classifier"),
            partial(fires=("backbone-only", "unexpected-layers")),
        ),
        (NEAR, "a wider network", Net, lambda: trained(Net(width=16)), wrong(fires=("shape-mismatch",))),
        (NEAR, "a wider layer before a flattened map", lambda: LeNet(16), lambda: trained(LeNet(32)), wrong(fires=("shape-mismatch",))),
        (NEAR, "another vocabulary", lambda: Words(50), lambda: trained(Words(60)), wrong(fires=("shape-mismatch",))),
    ),
    *cases(
        "optimizer-file",
        (YES, "nothing else", Net, lambda: optimized(Net(), adam)["optimizer"], wrong()),
        (NO, "weights", Net, fine),
        (NEAR, "weights and an optimizer", Net, lambda: optimized(Net(), adam)),
    ),
    *cases(
        "optimizer-state",
        (YES, "absent", Net, fine, partial(intent="resume")),
        (
            YES,
            "of another network",
            Net,
            lambda: {"model": fine(), "optimizer": optimized(LeNet(6), adam)["optimizer"]},
            partial(intent="resume"),
        ),
        (NO, "Adam", Net, lambda: optimized(Net(), adam), {"intent": "resume"}),
        (NO, "SGD with momentum", Net, lambda: optimized(Net(), momentum), {"intent": "resume"}),
        (NO, "absent, but nobody asks", Net, fine),
        (NEAR, "SGD without momentum keeps none", Net, lambda: optimized(Net(), sgd), {"intent": "resume"}),
        (NEAR, "groups in another order", Net, lambda: optimized(Net(), grouped), {"intent": "resume"}),
        (NEAR, "frozen parameters without state", Net, lambda: optimized(Net(), adam, frozen="backbone"), {"intent": "resume"}),
        (
            YES,
            "frozen parameters left out",
            Net,
            lambda: optimized(Net(), trainable, frozen="backbone"),
            partial(intent="resume", severity="warning"),
        ),
        (YES, "of the head alone", Net, lambda: optimized(Net(), head_optimizer), partial(intent="resume", severity="warning")),
        (
            YES,
            "of a larger network",
            Net,
            lambda: {"model": fine(), "optimizer": optimized(With(extra=nn.Linear(3, 3)), sgd)["optimizer"]},
            partial(intent="resume", severity="error"),
        ),
        (NEAR, "two optimizers share the model", Net, halves, {"intent": "resume"}),
        (
            NEAR,
            "a second optimizer for another network",
            Net,
            lambda: {**optimized(Net(), adam), "optimizer_d": optimized(LeNet(6), adam)["optimizer"]},
            {"intent": "resume"},
        ),
        (
            NEAR,
            "the head differs, which is said already",
            Net,
            lambda: optimized(Net(21), adam),
            partial(intent="resume", fires=("num-classes",)),
        ),
    ),
    *cases(
        "other-dataflow",
        (
            YES,
            "a layer less",
            lambda: chain(3),
            lambda: Exported(chain()),
            wrong(fires=("folded-export", "other-dataflow")),
        ),
        (NO, "the same", lambda: chain(norms=False), lambda: Exported(chain(norms=False), anonymous=False)),
        (
            NEAR,
            "other classes",
            lambda: chain(norms=False, classes=5),
            lambda: Exported(chain(norms=False), anonymous=False),
            partial(fires=("num-classes",)),
        ),
    ),
    *cases(
        "other-values",
        (
            YES,
            "another bias",
            chain,
            lambda: Exported(chain(), moved("4.bias")),
            wrong(severity="error", fires=("folded-export", "other-values", "renamed-layers")),
        ),
        (
            YES,
            "none",
            chain,
            lambda: Exported(chain(), chain().state_dict()),
            {"status": "remappable", "severity": "note", "fires": ("folded-export", "other-values", "renamed-layers")},
        ),
        (
            YES,
            "a checkpoint with a part alone",
            chain,
            lambda: Exported(chain(), {name: value for name, value in chain().state_dict().items() if name[0] != "8"}),
            {"status": "remappable", "fires": ("folded-export", "other-values", "other-values", "renamed-layers")},
        ),
        (NO, "nothing to compare with", lambda: chain(norms=False), lambda: Exported(chain(norms=False), anonymous=False)),
        (
            NEAR,
            "the model at hand has other values",
            lambda: with_statistics(chain(norms=False), 5),
            lambda: Exported(chain(norms=False), anonymous=False),
        ),
    ),
    *cases(
        "refused-global",
        (YES, "arguments of a script", Net, lambda: {"model": fine(), "args": argparse.Namespace(lr=1)}, {"severity": "note"}),
        (YES, "a command", Net, lambda: {"model": fine(), "x": Evil()}, wrong(severity="error")),
        (NO, "tensors", Net, fine),
        (YES, "a called unknown", Net, lambda: {"model": fine(), "x": Stranger()}, {"severity": "warning"}),
        (NEAR, "plain containers", Net, lambda: {"model": fine(), "classes": {"cat", "dog"}, "size": (1, 2)}),
    ),
    *cases(
        "sharded-placeholders",
        (YES, "FSDP", Net, lambda: {"_fsdp_wrapped_module._flat_param": torch.rand(900)}, wrong()),
        (YES, "ZeRO-3", Net, lambda: {n: torch.empty(0) if "running" not in n else t for n, t in fine().items()}, wrong()),
        (YES, "ZeRO-3, older", Net, lambda: {n: torch.ones(1) if "running" not in n else t for n, t in fine().items()}, wrong()),
        (NO, "whole", Net, fine),
        (NEAR, "one empty buffer", lambda: Buffered(queue=torch.empty(0)), lambda: trained(Buffered(queue=torch.empty(0)))),
        (NEAR, "a layer named flat_params", lambda: With(flat_params=nn.Linear(2, 2)), lambda: trained(With(flat_params=nn.Linear(2, 2)))),
    ),
    *cases(
        "numpy-arrays",
        (YES, "all", Net, lambda: {n: t.numpy() for n, t in fine().items()}, {"status": "remappable", "severity": "error"}),
        (YES, "some", Net, lambda: {n: t.numpy() if t.dim() > 1 else t for n, t in fine().items()}, {"status": "remappable"}),
        (NO, "tensors", Net, fine),
        (NEAR, "beside the tensors", Net, lambda: {"state_dict": fine(), "pixel_mean": numpy.ones(3)}),
    ),
    *cases(
        "renamed-layers",
        (
            YES,
            "another library's names",
            lambda: LeNet(16),
            lambda: renamed(trained(LeNet(16)), other_names),
            {"status": "remappable", "severity": "warning"},
        ),
        (
            YES,
            "one module",
            Net,
            lambda: renamed(fine(), lambda n: n.replace("backbone.stages.", "backbone.levels.")),
            {
                "status": "remappable",
                "severity": "warning",
                "says": "Other names (`backbone.levels` for `backbone.stages`): fit to evaluate.",
            },
        ),
        (NO, "the same names", Net, fine),
        (NEAR, "another prefix", Net, lambda: under("model.", fine()), {"status": "remappable", "fires": ("wrapper-prefix",)}),
        (NEAR, "another network", Net, lambda: trained(LeNet(6)), wrong(fires=("nothing-matched",))),
    ),
    *cases(
        "shape-mismatch",
        (YES, "another kernel", Net, lambda: trained(Net(kernel=5)), wrong()),
        (YES, "every shape", lambda: Net(5), lambda: trained(Net(9, width=12, inputs=1)), wrong()),
        (NO, "the same", Net, fine),
        (NEAR, "only the head", Net, lambda: trained(Net(21)), partial(fires=("num-classes",))),
    ),
    *cases(
        "skip-mismatch",
        (YES, "another head", Chain(classes=5).build, ChainFile, partial(fires=("num-classes", "skip-mismatch"))),
        (
            YES,
            "another head, to fine-tune",
            Chain(classes=5).build,
            lambda: ChainFile(written=chains.LEGACY),
            {"status": "partial", "fires": ("num-classes", "skip-mismatch"), "intent": "finetune", "severity": "note"},
        ),
        (NO, "the same head", Chain().build, ChainFile),
        (
            NEAR,
            "a layer more: Keras refuses whatever it is told",
            Chain(classes=5, middle=True).build,
            lambda: ChainFile(written=chains.LEGACY),
            wrong(fires=("layer-count", "missing-layers", "num-classes")),
        ),
    ),
    *cases(
        "stem-channels",
        (YES, "3 in the file", lambda: Net(inputs=1), fine, partial()),
        (YES, "to fine-tune", lambda: Net(inputs=4), fine, {"status": "partial", "intent": "finetune", "severity": "warning"}),
        (NO, "the same", Net, fine),
        (
            NEAR,
            "a later layer with other inputs",
            Features,
            lambda: changed(trained(Features()), neck__conv__weight=torch.rand(8, 4, 3, 3)),
            wrong(fires=("shape-mismatch",)),
        ),
        (NEAR, "another kernel too", Net, lambda: trained(Net(inputs=1, kernel=5)), wrong(fires=("shape-mismatch",))),
    ),
    *cases(
        "tied-weights",
        (YES, "an alias that safetensors drops", Tied, lambda: Safetensors(without(trained(Tied()), "lm_head")), {"status": "remappable"}),
        (YES, "different values", Tied, lambda: trained(Tied(tie=False)), partial(severity="error")),
        (YES, "tied in the file only", lambda: Tied(tie=False), lambda: Tied().state_dict()),
        (NO, "tied on both sides", Tied, lambda: Tied().state_dict()),
        (
            NEAR,
            "equal values, not tied",
            lambda: Tied(tie=False),
            lambda: changed(trained(Tied()), embedding__weight=ramp(12), lm_head__weight=ramp(12)),
        ),
        (YES, "equal in the sample alone", lambda: Tied(words=400), lambda: twice(ramp(400)), {"severity": "note"}),
        (NEAR, "stored twice, one rounded", Tied, lambda: twice(torch.rand(12, 6), torch.float16), {"fires": ("dtype",)}),
        (
            NEAR,
            "stored twice with equal values",
            Tied,
            lambda: changed(trained(Tied()), embedding__weight=ramp(12), lm_head__weight=ramp(12)),
        ),
    ),
    *cases(
        "training-config",
        (YES, "logits taken for probabilities", dense(3), lambda: Keras("linear", "categorical_crossentropy"), {}),
        (YES, "one unit for several classes", dense(1), lambda: Keras("sigmoid", "sparse_categorical_crossentropy", 1), {}),
        (YES, "softmax over one unit", dense(1), lambda: Keras("softmax", "binary_crossentropy", 1), {}),
        (YES, "squashed twice", dense(3), lambda: Keras("softmax", lambda k: k.losses.CategoricalCrossentropy(from_logits=True)), {}),
        (YES, "classes that do not compete", dense(3), lambda: Keras("sigmoid", "categorical_crossentropy"), {}),
        (NO, "softmax", dense(3), lambda: Keras("softmax", "categorical_crossentropy")),
        (
            NEAR,
            "logits, and the loss knows",
            dense(3),
            lambda: Keras("linear", lambda k: k.losses.CategoricalCrossentropy(from_logits=True)),
        ),
        (NEAR, "a regression", dense(1), lambda: Keras("linear", "mse", 1)),
        (NEAR, "several labels at once", dense(3), lambda: Keras("sigmoid", "binary_crossentropy")),
    ),
    *cases(
        "unexpected-layers",
        (YES, "the head's bias", lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3, bias=False)), lambda: linear(bias=True), partial()),
        (NO, "no bias either", lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3, bias=False)), lambda: linear(bias=False)),
        (YES, "more layers than the model has", Net, lambda: trained(With(gate=nn.Linear(3, 3))), partial()),
        (YES, "one block more", lambda: Features(depth=3), lambda: trained(Features(depth=4)), partial()),
        (
            YES,
            "state of the loss",
            Net,
            lambda: changed(fine(), criterion__pos_weight=torch.ones(5)),
            {"status": "remappable", "severity": "note"},
        ),
        (
            YES,
            "statistics of an InstanceNorm",
            lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4, affine=True)),
            lambda: trained(nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4, affine=True, track_running_stats=True))),
            partial(),
        ),
        (NO, "none", Net, fine),
        (
            NEAR,
            "only counters",
            lambda: nn.Sequential(nn.InstanceNorm1d(2, affine=True)),
            lambda: {"0.weight": torch.ones(2), "0.bias": torch.zeros(2), "0.num_batches_tracked": torch.tensor(3)},
            {"fires": ("num-batches-tracked",)},
        ),
    ),
    *cases(
        "whole-into-part",
        (YES, "a network into its backbone", Features, fine, {"status": "remappable"}),
        (
            YES,
            "two encoders",
            Features,
            lambda: {**under("encoder_q.", trained(Features())), **under("encoder_k.", trained(Features(), 1))},
            wrong(severity="error"),
        ),
        (
            YES,
            "two encoders, to fine-tune",
            Features,
            lambda: {**under("encoder_q.", trained(Features())), **under("encoder_k.", trained(Features(), 1))},
            wrong(severity="error", intent="finetune"),
        ),
        (YES, "one prefix and nothing else", Features, lambda: under("image_tower.", trained(Features())), {"status": "remappable"}),
        (NO, "the same", Features, lambda: trained(Features())),
        (NEAR, "a trainer's attribute", Net, lambda: under("model.", fine()), {"status": "remappable", "fires": ("wrapper-prefix",)}),
    ),
    *cases(
        "wrapper-prefix",
        (YES, "DataParallel", Net, lambda: under("module.", fine()), {"status": "remappable"}),
        (
            YES,
            "in the middle of a path",
            Net,
            lambda: renamed(fine(), lambda n: n.replace("backbone.", "backbone.module.")),
            {"status": "remappable"},
        ),
        (
            YES,
            "combined",
            Net,
            lambda: under("_orig_mod.module.", renamed(fine(), lambda n: n.replace("stages.", "module.stages._orig_mod."))),
            {"status": "remappable"},
        ),
        (
            YES,
            "Lightning",
            Net,
            lambda: {"state_dict": under("model.", fine()), "pytorch-lightning_version": "2.0"},
            {"status": "remappable"},
        ),
        (YES, "the model is wrapped", lambda: nn.DataParallel(Net()), fine, {"status": "remappable"}),
        (NO, "the same", Net, fine),
        (NO, "wrapped on both sides", lambda: nn.DataParallel(Net()), lambda: under("module.", fine())),
        (NEAR, "a layer named module_act", lambda: With(module_act=nn.PReLU()), lambda: trained(With(module_act=nn.PReLU()))),
        (NEAR, "an extra layer named module_act", Net, lambda: trained(With(module_act=nn.PReLU())), partial(fires=("unexpected-layers",))),
        (
            NEAR,
            "the model has a module of that name",
            lambda: Holding(module=Net(), gate=nn.Linear(2, 2)),
            lambda: trained(Holding(module=Net(), gate=nn.Linear(2, 2))),
        ),
        (
            NEAR,
            "names cut by seven characters",
            Net,
            lambda: renamed(fine(), lambda n: n[7:]),
            {"status": "remappable", "fires": ("renamed-layers", "renamed-layers")},
        ),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case, tmp_path):
    torch.manual_seed(0)
    audit = audited(case, tmp_path)
    told = "\n".join(f"{f.severity} {f.rule}: {f.message}" for f in audit.findings)
    assert tuple(sorted(f.rule for f in audit.findings)) == case.fires, told
    assert (audit.verdict.status, audit.verdict.fit) == (case.status, case.fit), f"{audit.verdict.summary}\n{told}"
    assert case.says in f"{audit.verdict.summary}\n{told}"
    if case.severity:
        assert [f.severity for f in audit.findings if f.rule == case.rule] == [case.severity], told
    for finding in audit.findings:
        assert set(finding.checkpoint) <= audit.checkpoint.graph.tensors.keys()
        assert set(finding.model) <= audit.model.graph.tensors.keys()
        assert finding.message.endswith((".", "harmless.")) or finding.rule == "remarks", finding.message
        assert " 1 tensors" not in finding.message, finding.message
    # Whole packages of rules are not asked where nothing is there that they are about: they would have had nothing to say.
    assert [rule.id for rule, check in all_rules() if rule.id not in case.fires and any(check(audit.comparison))] == []
    if (found := audit.comparison.alignment).as_it_is:
        assert completed(found, audit.checkpoint, audit.model) == (found, audit.model, ())


@pytest.mark.parametrize("rule", [rule.id for rule, _ in all_rules()])
def test_every_rule_has_the_three_kinds_of_cases(rule):
    assert {case.kind for case in CASES if case.rule == rule} == {YES, NO, NEAR}


def test_positive_cases_fire_and_the_others_do_not():
    for case in CASES:
        assert (case.rule in case.fires) == (case.kind == YES), case


@pytest.mark.parametrize("deep", [False, True])
def test_tied_weights_are_compared_whole_only_when_asked(deep, tmp_path):
    values = ramp(400)
    state = twice(values)
    state["lm_head.weight"][-1, -1] = 2
    result = ckptaudit.audit(write(state, tmp_path), Tied(words=400), deep=deep)
    (finding,) = result.findings
    assert (finding.rule, finding.severity) == ("tied-weights", "error" if deep else "note")
    assert deep or "sample" in finding.message


@pytest.mark.parametrize(
    ("name", "called", "severity"),
    [
        *((name, True, "note") for name in ("argparse.Namespace", "pathlib.PosixPath", "pathlib._local.PosixPath", "datetime.timedelta")),
        *((name, True, "note") for name in ("collections.deque", "omegaconf.dictconfig.DictConfig", "numpy.core.multiarray.scalar")),
        *((name, True, "note") for name in ("torch.nn.modules.conv.Conv2d", "torch.device", "yacs.config.CfgNode", "addict.addict.Dict")),
        *((name, True, "note") for name in ("transformers.training_args.TrainingArguments", "numpy.dtypes.Float64DType")),
        *(
            (name, True, "note")
            for name in ("lightning.fabric.utilities.data.AttributeDict", "transformers.models.bert.configuration_bert.BertConfig")
        ),
        *((name, True, "error") for name in ("torch.jit.unsupported_tensor_ops.execWrapper", "numpy.ctypeslib.load_library")),
        *((name, True, "error") for name in ("torch.utils._config_module.load_config", "torch.classes.load_library")),
        *((name, True, "error") for name in ("lightning.fabric.utilities.cloud_io._load", "_pickle.loads", "profile.run", "_io.open")),
        *(
            (name, True, "error")
            for name in ("operator.attrgetter", "doctest.debug_script", "collections.namedtuple", "pathlib.Path.write_text")
        ),
        ("torch.nn.modules.conv.os.System", True, "error"),
        *((name, True, "error") for name in ("os.system", "cgitb.handler", "typing.get_type_hints", "datetime.sys.exit")),
        *((name, False, "error") for name in ("os.system", "builtins.eval")),
        *((name, False, "warning") for name in ("operator.attrgetter", "doctest.debug_script", "torch.nn.init.normal_", "__main__.Config")),
        *((name, True, "warning") for name in ("torch.nn.init.normal_", "torch.nn.modules.utils._ntuple")),
        *(
            (name, True, "warning")
            for name in ("numpy.random._pickle.__randomstate_ctor", "transformers.pipeline", "functools.partial", "mylib.F")
        ),
    ],
)
def test_nothing_is_harmless_by_its_package(name, called, severity, tmp_path):
    result = audit_with_globals(tmp_path, RefusedGlobal(name, 7, called))
    (finding,) = result.findings
    assert (finding.rule, finding.severity) == ("refused-global", severity)
    assert (result.verdict.status == "incompatible") == (severity == "error")
    assert (f"`{name}`" in result.verdict.summary) == (called and severity == "warning")


def test_what_a_partial_would_call_counts_as_called(tmp_path):
    result = audit_with_globals(tmp_path, RefusedGlobal("functools.partial", 1, True), RefusedGlobal("doctest.debug_script", 2, False))
    assert result.verdict.status == "incompatible"


def test_what_runs_code_comes_first(tmp_path):
    result = audit_with_globals(tmp_path, RefusedGlobal("posix.system", 1, True), model=LeNet(6))
    assert [finding.rule for finding in result.findings] == ["refused-global", "nothing-matched"]


def audit_with_globals(folder, *names, model=None):
    opened = replace(open_checkpoint(write(fine(), folder)), refused_globals=names)
    return ckptaudit.audit(opened, model or Net())
