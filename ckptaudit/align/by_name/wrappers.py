"""Wrapper segments: words that training tools put into names and that say nothing about the network."""

from __future__ import annotations

from types import MappingProxyType

from ckptaudit.graph.names import split_name

#: Segment → the tool that inserts it. Only words that these tools insert by themselves, at any depth.
WRAPPERS = MappingProxyType(
    {
        "module": "DataParallel or DistributedDataParallel",
        "_orig_mod": "torch.compile",
        "_fsdp_wrapped_module": "FullyShardedDataParallel",
        "_fpw_module": "FairScale's FSDP",
        "_forward_module": "Lightning Fabric",
        "_checkpoint_wrapped_module": "activation checkpointing",
        "_original_module": "a strategy wrapper",
    }
)


def unwrap(name: str) -> tuple[str, tuple[str, ...]]:
    """``name`` without wrapper segments, and the segments removed; the tensor's own segment always stays.

    Whole segments only, at every depth, so the result is a fixpoint: ``_orig_mod.module.a.module.weight`` → ``a.weight``.
    """
    if not any(word in name for word in WRAPPERS):
        return name, ()
    *path, word = split_name(name)
    kept = [segment for segment in path if segment not in WRAPPERS]
    removed = tuple(segment for segment in path if segment in WRAPPERS)
    return (".".join([*kept, word]), removed) if removed else (name, ())
