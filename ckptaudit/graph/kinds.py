"""Roles and kinds: what a tensor is to its layer, and what the layer is, judged by names and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ckptaudit.graph.tensors import TensorSpec

#: Spellings of other frameworks, with the role that torch calls it.
_ROLE_SYNONYMS = MappingProxyType(
    {
        "kernel": "weight",
        "kernel:0": "weight",
        "weights": "weight",
        "depthwise_weights": "weight",
        "biases": "bias",
        "bias:0": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
        "moving_mean:0": "running_mean",
        "moving_variance:0": "running_var",
        "gamma:0": "weight",
        "beta:0": "bias",
        "embeddings": "weight",
        "embeddings:0": "weight",
    }
)

#: Roles of state that is carried along but trained by no optimizer.
BUFFER_ROLES = frozenset({"running_mean", "running_var", "num_batches_tracked"})

#: Buffers that a model derives from its configuration; their absence from a file changes nothing.
DERIVED_BUFFERS = frozenset(
    {"num_batches_tracked", "relative_position_index", "relative_coords_table", "position_ids", "token_type_ids", "attn_mask", "inv_freq"}
)


def canonical_roles(names: Mapping[str, TensorSpec], framework: str) -> dict[str, TensorSpec]:
    """Rename the tensors of one layer to the roles that all frameworks share.

    ``gamma`` and ``beta`` become ``weight`` and ``bias`` only where they cannot be a layer-scale parameter:
    in Keras and TensorFlow files, or when both stand together.
    """
    norm_like = framework in ("keras", "tensorflow") or {"gamma", "beta"} <= names.keys()
    roles: dict[str, TensorSpec] = {}
    for word, spec in names.items():
        role = _ROLE_SYNONYMS.get(word, word)
        if norm_like:
            role = {"gamma": "weight", "beta": "bias"}.get(role, role)
        roles[role if role not in roles else word] = spec
    return roles


def infer_kind(roles: Mapping[str, TensorSpec], path: str = "") -> str:
    """Name the kind of a layer from the roles and shapes of its own tensors.

    Returns one of ``conv``, ``depthwise_conv``, ``linear``, ``embedding``, ``batch_norm``, ``norm``,
    ``attention_in_proj``, ``recurrent``, ``scale``, ``counter``, ``parameter``. A bias-free matrix is ``embedding`` only
    when its path says so: shapes cannot tell it from a linear layer.
    """
    if "running_mean" in roles or "running_var" in roles:
        return "batch_norm"
    if any(role.startswith(("weight_ih", "weight_hh", "recurrent_kernel")) for role in roles):
        return "recurrent"
    if "in_proj_weight" in roles or "q_proj_weight" in roles:
        return "attention_in_proj"
    weight = roles.get("weight") or roles.get("weight_v") or roles.get("depthwise_kernel")
    if weight is None:
        return "parameter"
    rank = len(weight.shape)
    if rank >= 3:
        # (out, in / groups, …): one input channel per filter and several filters is a depthwise convolution.
        return "depthwise_conv" if weight.shape[1] == 1 and weight.shape[0] > 1 and "bias" not in roles else "conv"
    if rank == 2:
        word = path.lower().rsplit(".", 1)[-1]
        named_embedding = "emb" in word or word in ("wte", "wpe", "relative_attention_bias")
        return "embedding" if "bias" not in roles and named_embedding else "linear"
    if rank == 1:
        return "norm" if "bias" in roles or "norm" in path.lower() else "scale"
    return "parameter"
