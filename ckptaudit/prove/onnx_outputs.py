"""A restored model and the ONNX file that its values come from, on the same random input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptaudit.prove.onnx_running import OnnxNetwork
from ckptaudit.prove.outputs import compared_across_libraries
from ckptaudit.prove.proof import Outputs

if TYPE_CHECKING:
    import torch

    from ckptaudit.read import Checkpoint


def compare_with_export(checkpoint: Checkpoint, target: torch.nn.Module) -> Outputs:
    """Run the file with onnxruntime, and the model, on two images of noise.

    Raises
    ------
    ArchitectureError
        One of them cannot be run, onnxruntime is missing, or no output has the shape of another.
    """
    import torch

    network = OnnxNetwork(checkpoint, None, 1)
    sizes = next(network.input_sizes())
    images = torch.randn(2, *sizes, generator=torch.Generator().manual_seed(0))
    theirs = [torch.from_numpy(values) for values in network.results(images.numpy())]
    return compared_across_libraries(theirs, target, images)
