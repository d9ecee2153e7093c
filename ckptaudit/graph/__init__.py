"""What both sides of a comparison become: tensors, layers, and the graph that holds them."""

from ckptaudit.lazily import loaded_when_used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ckptaudit.graph.facts import Facts, facts_of, stem_layer
    from ckptaudit.graph.heads import Head, auxiliary_scopes, head_scope, in_head, is_auxiliary, main_head, output_axis
    from ckptaudit.graph.layers import Layer, LayerGraph, Module, Origin
    from ckptaudit.graph.tensors import DTYPE_BITS, TensorSpec, is_float

__all__ = [
    "DTYPE_BITS",
    "Facts",
    "Head",
    "Layer",
    "LayerGraph",
    "Module",
    "Origin",
    "TensorSpec",
    "auxiliary_scopes",
    "facts_of",
    "head_scope",
    "in_head",
    "is_auxiliary",
    "is_float",
    "main_head",
    "output_axis",
    "stem_layer",
]

__getattr__ = loaded_when_used(
    __name__,
    {
        **dict.fromkeys(("Facts", "facts_of", "stem_layer"), "facts"),
        **dict.fromkeys(("Head", "auxiliary_scopes", "head_scope", "in_head", "is_auxiliary", "main_head", "output_axis"), "heads"),
        **dict.fromkeys(("Layer", "LayerGraph", "Module", "Origin"), "layers"),
        **dict.fromkeys(("DTYPE_BITS", "TensorSpec", "is_float"), "tensors"),
    },
)
