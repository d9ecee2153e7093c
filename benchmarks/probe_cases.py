"""The figures of docs/probe.md: ways to feed images, and what wrong restores leave in the BatchNorm statistics of real networks.

CKPTAUDIT_REAL=… python -m benchmarks.probe_cases
"""

from __future__ import annotations

import copy
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ckptaudit.prove.agreement import Agreement, measure_agreement
from ckptaudit.prove.images import crops, image_files, pixels_of
from ckptaudit.prove.presets import PRESETS, flipped, prepared
from ckptaudit.prove.running import batches_of, divergences, network_of
from ckptaudit.prove.statistics import AGREES, DISAGREES
from tests.probe.conftest import CHECKED, CHOSEN
from tests.probe.restored import REAL, cifar, espnet, photographs

SEEDS = 3


def faces() -> Any:
    """The Keras network of the package fer."""
    import keras

    return keras.models.load_model(REAL / "fer_emotion_model.hdf5", compile=False)


#: Name → network, side of its input, crops, grey, how it was trained.
CHOSEN_NETWORKS: dict[str, tuple[Callable[[], Any], int, int, bool, str]] = {
    "ResNet-20, CIFAR-10": (lambda: cifar(20), 32, 120, False, "imagenet"),
    "ESPNetv2, PASCAL": (lambda: espnet("pascal", 21), 256, 12, False, "imagenet"),
}
CHECKED_NETWORKS: dict[str, tuple[Callable[[], Any], int, int, bool, str]] = {
    "ResNet-32, CIFAR-10": (lambda: cifar(32), 32, 120, False, "imagenet"),
    "ESPNetv2, Cityscapes": (lambda: espnet("cityscapes", 20), 256, 12, False, "imagenet"),
    "mini-Xception, faces": (faces, 64, 60, True, "-1..1"),
}


def main() -> None:
    """Print both tables for both sets."""
    with tempfile.TemporaryDirectory() as made:
        for label, networks, names in (("chosen on", CHOSEN_NETWORKS, CHOSEN), ("checked on", CHECKED_NETWORKS, CHECKED)):
            folder = photographs(Path(made), names)
            print(f"\n{label}\n\n| network | trained with | imagenet | BGR | -1..1 | 0..1 | 0..255 | caffe | worst on its own |")
            print("|---|---|---|---|---|---|---|---|---|", flush=True)
            for name, (build, side, count, grey, trained) in networks.items():
                print(_ways(name, build(), _pixels(folder, side, count, grey), trained), flush=True)
            print(f"\n| network | wrong restore | least worst layer | at the place | above {DISAGREES} | up to {AGREES} |")
            print("|---|---|---|---|---|---|")
            for name, (build, side, count, grey, trained) in networks.items():
                if not grey:
                    for line in _wrong(name, build(), prepared(_pixels(folder, side, count, grey), PRESETS[trained])):
                        print(line, flush=True)


def _pixels(folder: Path, side: int, count: int, grey: bool) -> Any:
    return pixels_of(crops(image_files(folder), count, grey), (side, side))


def _ways(name: str, module: Any, pixels: Any, trained: str) -> str:
    network = network_of(module)
    cells = []
    ways = {"imagenet": PRESETS["imagenet"], "BGR": flipped(PRESETS["imagenet"]), **{key: PRESETS[key] for key in list(PRESETS)[1:]}}
    for key, way in ways.items():
        if pixels.shape[-1] == 1 and key in ("imagenet", "BGR", "caffe"):
            cells.append("–")
            continue
        figures = list(divergences(network.run(batches_of(prepared(pixels, way), 30)).norms, network.norms()).values())
        cells.append(f"{figures[0]:,.3g} / {sum(figures) / len(figures):,.3g}")
    agreement = measure_agreement(network, prepared(pixels, PRESETS[trained]), 30)
    assert agreement is not None
    worst = max(agreement.inner, key=lambda layer: layer.alone)
    return f"| {name} | {trained} | {' | '.join(cells)} | {worst.alone:.3f} |"


def _wrong(name: str, module: nn.Module, images: Any) -> Iterator[str]:
    for kind, change in CHANGES.items():
        worst, at_place = [], 0
        for seed in range(SEEDS):
            changed = copy.deepcopy(module)
            places = change(changed, random.Random(seed))
            agreement: Agreement | None = measure_agreement(network_of(changed), images, 30)
            assert agreement is not None
            layers = sorted(agreement.inner, key=lambda layer: -layer.alone)
            worst.append(layers[0].alone)
            at_place += any(_near(layers[0].path, place, changed) for place in places)
        above = sum(value > DISAGREES for value in worst)
        below = sum(value <= AGREES for value in worst)
        yield f"| {name} | {kind} | {min(worst):.3f} | {at_place} of {SEEDS} | {above} of {SEEDS} | {below} of {SEEDS} |"


def _near(path: str, place: str, module: nn.Module) -> bool:
    """Whether the layer is the changed one, or one of the two BatchNorms behind it in the order of definition."""
    names = [n for n, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    norms = [n for n in names[names.index(place) :] if isinstance(module.get_submodule(n), nn.BatchNorm2d)]
    return path in norms[:3]


def _exchanged(modules: list[tuple[str, Any]], key: Callable[[Any], Any], chance: random.Random) -> list[str]:
    groups = defaultdict(list)
    for name, module in modules:
        groups[key(module)].append((name, module))
    (first, a), (second, b) = chance.sample(chance.choice([group for group in groups.values() if len(group) > 1]), 2)
    kept, other = copy.deepcopy(a.state_dict()), copy.deepcopy(b.state_dict())
    a.load_state_dict(other)
    b.load_state_dict(kept)
    return [first, second]


def _convolutions(module: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    return [(name, child) for name, child in module.named_modules() if isinstance(child, nn.Conv2d) and child.bias is None]


def _norms(module: nn.Module) -> list[tuple[str, nn.BatchNorm2d]]:
    return [(name, child) for name, child in module.named_modules() if isinstance(child, nn.BatchNorm2d)]


def _convolutions_exchanged(module: nn.Module, chance: random.Random) -> list[str]:
    return _exchanged(_convolutions(module), lambda conv: (tuple(conv.weight.shape), conv.groups), chance)


def _norms_exchanged(module: nn.Module, chance: random.Random) -> list[str]:
    return _exchanged(_norms(module), lambda norm: norm.num_features, chance)


def _scale_and_shift(module: nn.Module, chance: random.Random) -> list[str]:
    name, norm = chance.choice(_norms(module))
    norm.weight.data, norm.bias.data = norm.bias.data, norm.weight.data
    return [name]


def _mean_zero(module: nn.Module, chance: random.Random) -> list[str]:
    name, norm = chance.choice(_norms(module)[1:])
    assert norm.running_mean is not None
    norm.running_mean.zero_()
    return [name]


def _transposed(module: nn.Module, chance: random.Random) -> list[str]:
    square = [(name, conv) for name, conv in _convolutions(module) if conv.weight.shape[0] == conv.weight.shape[1] and conv.groups == 1]
    square = square or [(name, conv) for name, conv in _convolutions(module) if conv.weight.shape[0] == conv.weight.shape[1]]
    name, conv = chance.choice(square)
    conv.weight.data = conv.weight.data.transpose(0, 1).contiguous()
    return [name]


def _fresh(module: nn.Module, chance: random.Random) -> list[str]:
    torch.manual_seed(0)
    name, conv = chance.choice(_convolutions(module)[1:])
    conv.reset_parameters()
    return [name]


CHANGES: dict[str, Callable[[nn.Module, random.Random], list[str]]] = {
    "two convolutions exchanged": _convolutions_exchanged,
    "two norms exchanged": _norms_exchanged,
    "a norm's weight and bias exchanged": _scale_and_shift,
    "a running mean zeroed": _mean_zero,
    "a kernel transposed": _transposed,
    "a convolution left fresh": _fresh,
}


if __name__ == "__main__":
    main()
