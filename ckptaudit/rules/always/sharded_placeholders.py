"""The file is one rank's shard of a model: flattened parameters, or empty placeholders."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import have, plural

RULE = Rule("sharded-placeholders", "A shard instead of the model", "error", "file")

_FLAT = frozenset({"_flat_param", "flat_param", "_fsdp_flat_param"})
#: Zero-size tensors are rare in models: this many of them, and this share of all, are placeholders.
_MIN_EMPTY, _EMPTY_SHARE = 2, 0.3


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding for flattened parameters (FSDP) and for empty ones (DeepSpeed ZeRO-3); all that does not fit follows from it."""
    graph = comparison.checkpoint.graph
    flat = tuple(name for name in graph.tensors if any(word in name and word in name.split(".") for word in _FLAT))
    if flat:
        yield RULE.finding(
            f"The file holds {plural(len(flat), 'flattened parameter')} of FullyShardedDataParallel (`{flat[0]}`): "
            "names and shapes of the layers are gone.",
            checkpoint=graph.tensors,
            model=(*comparison.missing, *comparison.mismatched),
            fix="save with StateDictType.FULL_STATE_DICT, or consolidate the shards",
            status="incompatible",
            phrase="an FSDP shard",
        )
    if empty := _placeholders(comparison):
        yield RULE.finding(
            f"{len(empty)} of {have(len(graph), 'tensor')} no values of their own (`{empty[0]}` is {list(graph.tensors[empty[0]].shape)}): "
            "placeholders of DeepSpeed ZeRO-3, the values are in the shards of the ranks.",
            checkpoint=(*empty, *comparison.unexpected),
            model=(*comparison.missing, *comparison.mismatched),
            fix="run zero_to_fp32.py on the checkpoint folder",
            status="incompatible",
            phrase="ZeRO-3 placeholders",
        )


def _placeholders(comparison: Comparison) -> tuple[str, ...]:
    """Tensors without elements, or (older releases) with a single one where the model has many."""
    graph = comparison.checkpoint.graph
    empty = [name for name, spec in graph.tensors.items() if spec.shape and not spec.numel]
    single = [source for target, source in comparison.mismatched.items() if comparison.shapes(target)[0] == (1,)]
    return next((tuple(found) for found in (empty, single) if len(found) >= max(_MIN_EMPTY, _EMPTY_SHARE * len(graph))), ())
