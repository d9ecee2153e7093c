"""A restored model and the ONNX file that its values come from, on the same random input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptaudit.arch.failures import describe_error
from ckptaudit.arch.isolation import isolated, output_to_stderr
from ckptaudit.errors import ArchitectureError
from ckptaudit.prove.networks import tensors_of
from ckptaudit.prove.onnx_running import OnnxNetwork
from ckptaudit.prove.outputs import depends_on_input, distances
from ckptaudit.prove.proof import Outputs

if TYPE_CHECKING:
    import torch

    from ckptaudit.read import Checkpoint

#: In units of the output's standard deviation: two libraries in single precision with BatchNorm folded in one of them leave 1e-5, and up to
#: 1e-4 where activations grow; another weight changes more than 0.05.
_EQUAL, _OTHER = 1e-3, 0.05


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
    with isolated(type(target).__name__), torch.no_grad(), output_to_stderr():
        try:
            given = tensors_of(target.eval().float()(images))
        except Exception as error:
            raise ArchitectureError(f"the model cannot be run on {'×'.join(map(str, images.shape))}: {describe_error(error)}") from None
    outputs = [tensor.detach() for tensor in given if tensor.is_floating_point() and tensor.numel()]
    # The model may have outputs that were not exported.
    known = distances(theirs, outputs)
    if len(known) < len(theirs):
        raise ArchitectureError("an output of the file has the shape of none of the model's")
    if not any(map(depends_on_input, theirs)):
        raise ArchitectureError("the outputs are the same for different inputs: they show nothing of the layers before")
    if _EQUAL < max(known) < _OTHER:
        told = f"the outputs differ by {max(known):.1g} standard deviations"
        raise ArchitectureError(f"{told}: more than rounding usually leaves, and less than another weight does")
    return Outputs(max(known) <= _EQUAL, len(known), max(known), _EQUAL, (tuple(images.shape),), "float32", (0, 0))
