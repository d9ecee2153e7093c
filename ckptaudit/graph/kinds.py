"""Roles and kinds: what a tensor is to its layer, and what the layer is, judged by names and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from ckptaudit.graph.names import leaf
from ckptaudit.graph.tensors import TensorSpec
from ckptaudit.lazily import compiled_when_used

#: Spellings of other frameworks, with the role that torch calls it.
_ROLE_SYNONYMS = MappingProxyType(
    {
        "kernel": "weight",
        "weights": "weight",
        "depthwise_weights": "weight",
        "biases": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
        "embeddings": "weight",
    }
)

#: Spellings that mean this in Keras and TensorFlow only; ``W``, ``b`` and ``running_std`` (a variance all the same) are Keras 1.
_KERAS_SYNONYMS = MappingProxyType(
    {"gamma": "weight", "beta": "bias", "alpha": "weight", "W": "weight", "b": "bias", "running_std": "running_var"}
)
_KERAS = frozenset({"keras", "tensorflow"})
_KERAS_1 = compiled_when_used(r"(?:.*_)?(W|U|b|gamma|beta|running_mean|running_std|alphas)\Z")
_OUTPUT_OR_COUNTER = compiled_when_used(r"(?::\d+)|(?:(?<=[A-Za-z])_\d+)(?=:\d+\Z|\Z)")

#: Roles of state that is carried along but trained by no optimizer.
BUFFER_ROLES = frozenset({"running_mean", "running_var", "num_batches_tracked"})

#: Buffers that a model derives from its configuration; their absence from a file changes nothing.
DERIVED_BUFFERS = frozenset(
    {"num_batches_tracked", "relative_position_index", "relative_coords_table", "position_ids", "token_type_ids", "attn_mask", "inv_freq"}
)


def role_of(word: str, framework: str = "torch") -> str:
    """The role that all frameworks share for the last segment of a tensor's name.

    TensorFlow adds the number of an operation's output (``kernel:0``), and a counter where a name was taken (``kernel_1:0``).
    """
    if ":" in word or framework in _KERAS:
        bare = _OUTPUT_OR_COUNTER.sub("", word)
        known = bare in _ROLE_SYNONYMS or bare in _KERAS_SYNONYMS or bare in ("bias", "recurrent_kernel")
        word = bare if known or framework in _KERAS else word
    if framework not in _KERAS:
        return _ROLE_SYNONYMS.get(word, word)
    old = _KERAS_1.match(word)
    if old and word not in _ROLE_SYNONYMS:
        word = old[1]
    return _KERAS_SYNONYMS.get(word) or _ROLE_SYNONYMS.get(word, word)


def canonical_roles(names: Mapping[str, TensorSpec], framework: str) -> dict[str, TensorSpec]:
    """Rename the tensors of one layer to the roles that all frameworks share.

    ``gamma`` and ``beta`` become ``weight`` and ``bias`` only where they cannot be a layer-scale parameter:
    in Keras and TensorFlow files, or when both stand together. A kernel that a depthwise convolution alone has is its weight.
    """
    return dict(zip(_canonical(tuple(names), framework), names.values(), strict=True))


@lru_cache(maxsize=4096)  # few layers differ in the words that they have
def _canonical(words: tuple[str, ...], framework: str) -> tuple[str, ...]:
    norm_like = {"gamma", "beta"} <= set(words)
    roles: dict[str, None] = {}
    for word in words:
        role = role_of(word, framework)
        if norm_like:
            role = {"gamma": "weight", "beta": "bias"}.get(role, role)
        taken = role in roles or (role != word and role in words)
        roles[word if taken else role] = None
    if framework in _KERAS and "depthwise_kernel" in roles and not {"pointwise_kernel", "weight"} & roles.keys():
        return tuple("weight" if role == "depthwise_kernel" else role for role in roles)
    return tuple(roles)


@lru_cache(maxsize=4096)
def is_buffer(word: str, framework: str = "torch") -> bool:
    """Whether the last segment of a tensor's name tells that it is a buffer."""
    role = role_of(word, framework)
    return role_of(role) in BUFFER_ROLES or role in DERIVED_BUFFERS


@lru_cache(maxsize=4096)
def _kind_of_roles(roles: tuple[str, ...]) -> str | None:
    """The kind of a layer that its roles alone tell."""
    if "running_mean" in roles or "running_var" in roles:
        return "batch_norm"
    if any(role.startswith(("weight_ih", "weight_hh", "recurrent_kernel")) for role in roles):
        return "recurrent"
    return "attention_in_proj" if "in_proj_weight" in roles or "q_proj_weight" in roles else None


def infer_kind(roles: Mapping[str, TensorSpec], path: str = "", framework: str = "torch", type_name: str = "") -> str:
    """Name the kind of a layer from the roles and shapes of its own tensors.

    Returns one of ``conv``, ``depthwise_conv``, ``linear``, ``embedding``, ``batch_norm``, ``norm``,
    ``attention_in_proj``, ``recurrent``, ``scale``, ``counter``, ``parameter``. A bias-free matrix is ``embedding`` only
    when its path says so: shapes cannot tell it from a linear layer. Kernels of Keras and TensorFlow lie (…, in, out), and what is
    depthwise is told by the tensor's name, the class of the layer, or its path.
    """
    if (kind := _kind_of_roles(tuple(roles))) is not None:
        return kind
    weight = roles.get("weight") or roles.get("weight_v") or roles.get("depthwise_kernel")
    if weight is None:
        return "parameter"
    rank = len(weight.shape)
    if framework in _KERAS:
        if leaf(weight.name).startswith("alpha"):  # PReLU's, one for each element of its input
            return "scale"
        words = f"{leaf(weight.name)} {type_name} {path.rpartition('/')[2]}".lower()
        if rank >= 3:
            # With one input channel to a filter it is a convolution in groups (ConvNeXt's), whatever the author called it; of a real
            # depthwise one with a single channel that says the same.
            depthwise = "depthwise" in words and "pointwise_kernel" not in roles and (weight.shape[-2] != 1 or weight.shape[-1] == 1)
            return "depthwise_conv" if depthwise else "conv"
        if rank == 2 and leaf(weight.name).startswith("embeddings"):
            return "embedding"
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
