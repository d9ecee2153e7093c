"""The figures of docs/plan.md: real networks whose names mean nothing and whose layers lie in any order, settled by their statistics.

CKPTAUDIT_REAL=… python -m benchmarks.settling_cases [SEEDS]
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import nn

from ckptaudit.align import align
from ckptaudit.arch import build_model
from ckptaudit.plan import make_plan
from ckptaudit.prove.images import crops, image_files, pixels_of
from ckptaudit.prove.presets import PRESETS, prepared
from ckptaudit.prove.settling_by_statistics import settle_by_statistics
from ckptaudit.read import open_checkpoint
from tests.probe.conftest import CHECKED, CHOSEN
from tests.probe.restored import cifar, espnet, photographs
from tests.prove.renaming import renamed

#: Name → network, side of its input.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "ResNet-20, CIFAR-10": (lambda: cifar(20), 32),
    "ESPNetv2, PASCAL": (lambda: espnet("pascal", 21), 224),
    "ResNet-32, CIFAR-10": (lambda: cifar(32), 32),
    "ESPNetv2, Cityscapes": (lambda: espnet("cityscapes", 20), 224),
}

UNTRAINED = ("resnet18", "googlenet", "mobilenet_v2", "shufflenet_v2_x1_0", "efficientnet_b0", "regnet_y_400mf", "densenet121")


def main(seeds: int) -> None:
    """Print one line for each network, order and set of photographs: the least and the most of all seeds."""
    with tempfile.TemporaryDirectory() as made:
        print("| network | order of the file | photographs | ambiguous | settled | wrongly | CPU |\n|---|---|---|---|---|---|---|")
        folders = {label: photographs(Path(made), names) for label, names in (("chosen", CHOSEN), ("checked", CHECKED))}
        for name, (build, side) in NETWORKS.items():
            for order in ("kept", "shuffled"):
                for label, folder in folders.items():
                    rows = [settled(build(), side, seed, order == "shuffled", folder, Path(made)) for seed in range(seeds)]
                    print(f"| {name} | {order} | {label} | {_cells(rows)} s |", flush=True)
        for name in UNTRAINED:
            for order in ("kept", "shuffled"):
                rows = [
                    settled(untrained(name, seed, folders["checked"]), 96, seed, order == "shuffled", folders["chosen"], Path(made))
                    for seed in range(seeds)
                ]
                print(f"| {name}, random weights | {order} | chosen, statistics of checked | {_cells(rows)} s |", flush=True)


def _cells(rows: list[tuple[int, int, int, int]]) -> str:
    return " | ".join(" to ".join(dict.fromkeys((str(min(column)), str(max(column))))) for column in zip(*rows, strict=True))


def untrained(name: str, seed: int, images: Path) -> nn.Module:
    """A network of torchvision with random weights, whose BatchNorms remember photographs."""
    torch.manual_seed(seed)
    arguments = {"init_weights": True, "aux_logits": False} if name == "googlenet" else {}
    module: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=10, **arguments)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.3)
    with torch.no_grad():
        module.train()(torch.from_numpy(prepared(pixels_of(crops(image_files(images), 48), (96, 96)), PRESETS["imagenet"])))
    return module.eval()


def settled(module: nn.Module, side: int, seed: int, shuffle: bool, images: Path, made: Path) -> tuple[int, int, int, int]:
    """How many steps were ambiguous, how many were settled, how many of these wrongly, and seconds of CPU time."""
    state, truth = renamed(module.state_dict(), random.Random(seed), shuffle)
    torch.save(state, made / "renamed.pth")
    checkpoint, model = open_checkpoint(made / "renamed.pth"), build_model(module)
    before = align(checkpoint.graph, model.graph)
    unsure = [step.target for step in make_plan(before, checkpoint.graph, model.graph).steps if not step.sure]
    began = time.process_time()
    after, _ = settle_by_statistics(before, checkpoint, model, images, (3, side, side))
    took = time.process_time() - began
    sure = [after.pairs[target] for target in unsure if target in after.pairs and after.pairs[target].sure]
    return len(unsure), len(sure), sum(pair.sources != (truth[pair.target],) for pair in sure), round(took)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
