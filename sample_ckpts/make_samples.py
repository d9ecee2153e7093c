"""Make the sample checkpoints: real names and shapes, invented values, few bytes.

    python sample_ckpts/make_samples.py [FOLDER]

Convolutions and matrices are stored with stride 0, one number for the whole tensor, so that a 168 MB network is a file of
half a megabyte; BatchNorm vectors hold values such as training leaves. The same torch version gives the same files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))
from tiny_unet import build

State = dict[str, torch.Tensor]


def trained(model: torch.nn.Module, seed: int) -> State:
    """The state dict of ``model`` with values that look trained, matrices and kernels compressed to one number."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for name, tensor in model.state_dict().items():
        if name.endswith("running_mean"):
            state[name] = torch.randn(tensor.shape, generator=generator) * 0.4
        elif name.endswith("running_var"):
            state[name] = torch.rand(tensor.shape, generator=generator).mul(2).sub(1).exp()
        elif name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(20_000)
        elif tensor.dim() == 1:
            state[name] = torch.randn(tensor.shape, generator=generator) * 0.1 + float(name.endswith("weight"))
        else:
            state[name] = (torch.randn(1, generator=generator) * 0.01).expand(tensor.shape)
    return state


def architecture(name: str, **arguments: Any) -> torch.nn.Module:
    """A torchvision segmentation or classification network without weights in memory."""
    builder = {**vars(torchvision.models), **vars(torchvision.models.segmentation)}[name]
    with torch.device("meta"):
        extra = {"weights_backbone": None} if name.startswith("deeplab") else {}
        model: torch.nn.Module = builder(weights=None, **extra, **arguments)
    return model


def prefixed(state: Mapping[str, torch.Tensor], prefix: str) -> State:
    """``state`` with ``prefix`` before every name."""
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def make(folder: Path) -> None:
    """Write every sample into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    voc = trained(architecture("deeplabv3_resnet50"), 1)
    torch.save(voc, folder / "deeplabv3_voc.pth")

    ten = prefixed(trained(architecture("deeplabv3_resnet50", num_classes=10), 2), "module.")
    torch.save({"epoch": 119, "best_miou": 0.713, "model_state": ten}, folder / "dataparallel_10classes.pth")

    torch.save(
        {"model": trained(architecture("deeplabv3_resnet101"), 3), "args": {"backbone": "resnet101"}}, folder / "resnet101_backbone.pth"
    )

    raw = prefixed(trained(architecture("deeplabv3_mobilenet_v3_large"), 4), "model.")
    average = trained(architecture("deeplabv3_mobilenet_v3_large"), 5)
    torch.save(
        {
            "epoch": 42,
            "global_step": 63_000,
            "pytorch-lightning_version": "2.4.0",
            "state_dict": raw,
            "ema_state_dict": average,
            "hyper_parameters": {"lr": 0.01, "num_classes": 21},
        },
        folder / "lightning_ema.ckpt",
    )

    untrained = trained(architecture("deeplabv3_resnet50", aux_loss=True), 6)
    for name, tensor in untrained.items():
        if name.startswith("classifier.") and name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            untrained[name] = torch.ones_like(tensor) if name.endswith("var") else torch.zeros_like(tensor)
    torch.save(untrained, folder / "untrained_head_bn.pth")

    torch.save(trained(architecture("resnet50"), 7), folder / "resnet50_imagenet.pth")

    shards = folder / "tiny_unet_sharded"
    shards.mkdir(exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in trained(build(num_classes=2), 8).items()}
    halves = {
        "model-00001-of-00002.safetensors": {n: t for n, t in state.items() if n.startswith("encoder")},
        "model-00002-of-00002.safetensors": {n: t for n, t in state.items() if not n.startswith("encoder")},
    }
    for file, tensors in halves.items():
        save_file(tensors, shards / file, {"format": "pt"})
    index = {
        "metadata": {"total_size": sum(t.nbytes for t in state.values())},
        "weight_map": {name: file for file, tensors in halves.items() for name in tensors},
    }
    (shards / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")

    (folder / "not_a_checkpoint.pth").write_text(
        "version https://git-lfs.github.com/spec/v1\n"
        "oid sha256:c36c9c9e9dbf10d3ea10a6b2a12cb0d9f3d5a3c3c2d0cb6a1a5a9a38bda5d1d4\n"
        "size 168312152\n"
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
