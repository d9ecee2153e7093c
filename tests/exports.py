"""Models as ONNX files: exported by torch, and with every name taken away."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import onnx
import torch


def with_statistics(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The module in evaluation mode, every weight and statistic of a value of its own, as after training."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_(generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.add_(noise, alpha=0.1 if parameter.ndim == 1 else 0.01 * float(parameter.detach().std(correction=0)) + 1e-3)
        assert parameter.isfinite().all(), name
    return module.eval()


def export(
    module: torch.nn.Module,
    path: Path,
    size: tuple[int, ...] = (3, 32, 32),
    *,
    anonymous: bool = False,
    train: bool = False,
    fold: bool = True,
    free_batch: bool = False,
) -> Path:
    """Write ``module`` as torch exports it; ``anonymous`` takes all names away, ``free_batch`` lets the batch be of any size."""
    modes = torch.onnx.TrainingMode
    mode = modes.TRAINING if train else modes.EVAL if fold else modes.PRESERVE
    axes = {"dynamic_axes": {"image": {0: "N"}}} if free_batch else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, and that there is a newer exporter
        torch.onnx.export(
            module, (torch.zeros(2 if train else 1, *size),), path, dynamo=False, training=mode, input_names=["image"], **axes
        )
    if anonymous:
        path.write_bytes(without_names(onnx.load(path)).SerializeToString())
    return path


def without_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same computation, initializers in a random order and called by numbers, values by others, nodes by nothing."""
    graph = model.graph
    tensors = list(graph.initializer)
    random.Random(0).shuffle(tensors)
    new = {tensor.name: f"t{number}" for number, tensor in enumerate(tensors)}
    for port in (*graph.input, *graph.output):
        new.setdefault(port.name, f"port{len(new)}")
    for node in graph.node:
        node.name = ""
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name:
                    names[position] = new.setdefault(name, f"v{len(new)}")
    for part in (*tensors, *graph.input, *graph.output):
        part.name = new[part.name]
    del graph.value_info[:]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    return model
