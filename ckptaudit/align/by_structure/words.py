"""Words in names: how a segment falls into words and numbers, and which words say the same thing.

The table holds roles that every library has (a shortcut, a query, a norm), never the words of one architecture.
"""

from __future__ import annotations

from functools import lru_cache

from ckptaudit.lazily import compiled_when_used

__all__ = ["FUSED", "NUMBER", "POSITIONS", "PROJECTIONS", "masked", "numbers_in", "tokens"]

#: Stands for a number in a list of words.
NUMBER = "#"

_TOKEN = compiled_when_used(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_DIGITS = compiled_when_used(r"\d+")

_GROUPS = (
    "shortcut downsample downsampling skip identity residual sc",
    "norm ln bn gn layernorm batchnorm groupnorm instancenorm rmsnorm normalization normalize normalisation",
    "head fc classifier logits prediction predictions preds classification linear dense",
    "query q",
    "key k",
    "value v",
    "out output o",
    "attention attn mha msa selfattention",
    "mlp ffn feedforward",
    "conv convolution conv1d conv2d conv3d cnn",
    "embed embedding embeddings embedder emb embeds",
    "position positional pos",
    "class cls",
    "before pre input",
    "after post",
    "scale gamma lambda",
    "depthwise dw dwconv",
    "pointwise pw pwconv",
    "expand expansion exp increase",
    "reduce reduction squeeze",
    "project proj projection",
    "block blocks layer layers stage stages unit units level levels resblocks resblock module modules",
    "branch branches",
    "token tokens",
    "relative rel",
    "auxiliary aux",
    "average avg",
    "maximum max",
    "se",
)
_MEANING = {word: group.split()[0] for group in _GROUPS for word in group.split()}

#: Words that say where in a sequence of two a member stands.
POSITIONS = {"before": 0, "after": 1}

#: Words of what an attention layer projects to, in the order in which those who fuse them do.
PROJECTIONS = {"query": 0, "key": 1, "value": 2}

#: Names of projections that hold several in one, with the labels of their parts.
FUSED = {
    "qkv": ("q", "k", "v"),
    "to_qkv": ("q", "k", "v"),
    "in_proj": ("q", "k", "v"),
    "c_attn": ("q", "k", "v"),
    "kv": ("k", "v"),
    "to_kv": ("k", "v"),
}


@lru_cache(maxsize=65536)
def tokens(segment: str) -> tuple[str, ...]:
    """Words of a segment by their meaning, in order; numbers as they stand.

    >>> tokens("layernorm_before"), tokens("conv3"), tokens("blocks")
    (('norm', 'before'), ('conv', '3'), ('block',))
    """
    found = (token.lower() for token in _TOKEN.findall(segment))
    return tuple(token if token.isdecimal() else _MEANING.get(token, token) for token in found)


@lru_cache(maxsize=65536)
def masked(segment: str) -> str:
    """The segment with each number replaced by ``#``."""
    return _DIGITS.sub(NUMBER, segment)


@lru_cache(maxsize=65536)
def numbers_in(segment: str) -> tuple[int, ...]:
    """The numbers in a segment, in order."""
    return tuple(map(int, _DIGITS.findall(segment)))
