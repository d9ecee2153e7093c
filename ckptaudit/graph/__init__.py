"""What both sides of a comparison become: tensors, layers, and the graph that holds them."""

from ckptaudit.graph.layers import Layer, LayerGraph, Module, Origin
from ckptaudit.graph.tensors import DTYPE_BITS, TensorSpec, is_float

__all__ = ["DTYPE_BITS", "Layer", "LayerGraph", "Module", "Origin", "TensorSpec", "is_float"]
