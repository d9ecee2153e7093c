"""Wrapper segments: words that training tools put into names and that say nothing about the network."""

from __future__ import annotations

from types import MappingProxyType

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
_WORDS = frozenset(WRAPPERS)


def unwrap(name: str) -> tuple[str, tuple[str, ...]]:
    """``name`` without wrapper segments, and the segments removed; the tensor's own segment always stays.

    Whole segments only, at every depth, so the result is a fixpoint: ``_orig_mod.module.a.module.weight`` → ``a.weight``.
    """
    if "module" not in name and "_orig_mod" not in name:  # one of them is in every wrapper's word
        return name, ()
    if name.startswith("module.") and "module" not in name[6:] and "/" not in name and "_orig_mod" not in name:
        return name[7:], ("module",)  # nearly always it is this one
    *path, word = name.replace("/", ".").split(".")
    if _WORDS.isdisjoint(path):
        return name, ()
    return ".".join([*(segment for segment in path if segment not in _WORDS), word]), tuple(filter(_WORDS.__contains__, path))
