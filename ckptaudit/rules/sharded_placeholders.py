"""The file is one rank's shard of a model: flattened parameters, or empty placeholders."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.names import leaf
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("sharded-placeholders", "A shard instead of the model", "error", "file")

_FLAT = frozenset({"_flat_param", "flat_param", "_fsdp_flat_param"})
#: Zero-size tensors that no model has: this many of them, and this share, are placeholders.
_MIN_EMPTY, _EMPTY_SHARE = 2, 0.3


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding for flattened parameters (FSDP) and for zero-size ones (DeepSpeed ZeRO-3)."""
    graph = comparison.checkpoint.graph
    flat = tuple(name for name in graph.tensors if any(word == leaf(name) or word in name.split(".") for word in _FLAT))
    if flat:
        yield RULE.finding(
            f"{len(flat)} tensors are flattened parameters of FullyShardedDataParallel (`{flat[0]}`): "
            "names and shapes of the layers are gone.",
            checkpoint=graph.tensors,
            model=comparison.missing,
            fix="save with StateDictType.FULL_STATE_DICT, or consolidate the shards",
            status="incompatible",
            phrase="an FSDP shard",
        )
    empty = tuple(name for name, spec in graph.tensors.items() if spec.shape and not spec.numel)
    if len(empty) >= _MIN_EMPTY and len(empty) >= _EMPTY_SHARE * len(graph):
        targets = tuple(name for name, source in comparison.mismatched.items() if source in set(empty))
        yield RULE.finding(
            f"{len(empty)} of {len(graph)} tensors have no elements (`{empty[0]}`): "
            "placeholders of DeepSpeed ZeRO-3, the values are in the shards of the ranks.",
            checkpoint=empty,
            model=targets,
            fix="run zero_to_fp32.py on the checkpoint folder",
            status="incompatible",
            phrase="ZeRO-3 placeholders",
        )
