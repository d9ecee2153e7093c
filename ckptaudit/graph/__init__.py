"""What both sides of a comparison become: tensors, layers, and the graph that holds them."""

from ckptaudit.lazily import loaded_when_used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ckptaudit.graph.layers import Layer, LayerGraph, Module, Origin
    from ckptaudit.graph.tensors import DTYPE_BITS, TensorSpec, is_float

__all__ = ["DTYPE_BITS", "Layer", "LayerGraph", "Module", "Origin", "TensorSpec", "is_float"]

__getattr__ = loaded_when_used(
    __name__,
    {
        **dict.fromkeys(("Layer", "LayerGraph", "Module", "Origin"), "layers"),
        **dict.fromkeys(("DTYPE_BITS", "TensorSpec", "is_float"), "tensors"),
    },
)
