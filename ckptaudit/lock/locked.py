"""What the lock holds of one contract, and the checkpoint that this becomes for an audit without the file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ckptaudit.graph.tensors import is_float
from ckptaudit.lock.contracts import Contract
from ckptaudit.read import Checkpoint, Storage, StoredTensor
from ckptaudit.read.identity import FileIdentity
from ckptaudit.read.stored import contiguous_strides
from ckptaudit.records import dataclass

#: What must be the same in the contract and in the lock.
TERMS = ("checkpoint", "arch", "arguments", "intent", "branch")

#: Shape and dtype by name, in the file's order.
Tensors = Mapping[str, tuple[tuple[int, ...], str]]

_NOWHERE = FileIdentity(Path(), "", None)


@dataclass(frozen=True, slots=True)
class Locked:
    """A contract's entry in the lock.

    Attributes
    ----------
    name:
        The contract's name.
    terms:
        What the contract said when it was locked, by the keys of :data:`TERMS`; those that it left out or left empty are absent.
    checkpoint:
        The file without its values: ``recorded`` holds what was noted of them and of the model.
    digests:
        File name → its sha256 in hexadecimal digits; empty where none was wanted.
    facts:
        What a reviewer wants to see at a glance; nothing relies on it.
    """

    name: str
    terms: Mapping[str, Any]
    checkpoint: Checkpoint
    digests: Mapping[str, str]
    facts: Mapping[str, Any]

    def changes(self, contract: Contract) -> list[str]:
        """Keys of the contract that are not as they were locked."""
        now = terms_of(contract)
        return [key for key in TERMS if self.terms.get(key) != now.get(key)]


def terms_of(contract: Contract) -> dict[str, Any]:
    """What a lock notes of a contract."""
    terms = {
        "checkpoint": contract.checkpoint,
        "arch": contract.arch,
        "arguments": dict(contract.arguments),
        "intent": contract.intent,
        "branch": contract.branch,
    }
    return {key: value for key, value in terms.items() if value not in (None, {})}


def batch_norm_layers(checkpoint: Checkpoint) -> list[tuple[str, tuple[str, str]]]:
    """Path and names of every layer with running statistics."""
    found = []
    for layer in checkpoint.graph.layers:
        mean, var = layer.tensors.get("running_mean"), layer.tensors.get("running_var")
        if mean is not None and var is not None and is_float(mean.dtype) and is_float(var.dtype) and mean.numel and var.numel:
            found.append((layer.path, (mean.name, var.name)))
    return found


def stored(
    tensors: Tensors, tied: tuple[tuple[str, ...], ...], path: Path, arrays: Collection[str] = frozenset()
) -> dict[str, StoredTensor]:
    """Tensors that are known and cannot be read; tied ones share a storage, and ``arrays`` are those of numpy."""
    keys = {name: group[0] for group in tied for name in group}
    return {
        name: StoredTensor(
            shape,
            contiguous_strides(shape),
            dtype,
            0,
            Storage(keys.get(name, name), path, 0, 0, "the values are not in the lock", file=_NOWHERE),
            is_array=name in arrays,
        )
        for name, (shape, dtype) in tensors.items()
    }
