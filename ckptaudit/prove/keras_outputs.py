"""A restored model and the Keras model that wrote the file, on the same random images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.prove.keras_running import KerasNetwork
from ckptaudit.prove.outputs import compared_across_libraries

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from ckptaudit.prove.proof import Outputs


def compare_with_keras(source: Any, target: torch.nn.Module, input_size: Sequence[int] | None = None) -> Outputs:
    """Run the Keras model with the file's values, and the model, on two images of noise.

    The last activation is often a part of a Keras model and seldom one of torch: outputs behind a softmax or a
    sigmoid count, too.

    Raises
    ------
    ArchitectureError
        One of them cannot be run, or no output has the shape of another.
    """
    import torch

    network = KerasNetwork(source)
    sizes = tuple(input_size) if input_size is not None else next(network.input_sizes())
    images = torch.randn(2, *sizes, generator=torch.Generator().manual_seed(0))
    theirs = [torch.from_numpy(values) for values in network.results(images.numpy())]
    return compared_across_libraries(theirs, target, images, (lambda logits: logits.softmax(1), torch.sigmoid))
