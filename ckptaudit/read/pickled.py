"""From an unpickled object to a checkpoint: what all formats built on pickles share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.errors import NotACheckpointError
from ckptaudit.read.checkpoint import Checkpoint
from ckptaudit.read.metadata import Metadata
from ckptaudit.read.pickles import Instance, Refusals
from ckptaudit.read.unwrap import Unwrapper, choose

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ckptaudit.read.torch_objects import TensorReader


def checkpoint_of(
    root: Any, path: Path, kind: str, tensors: TensorReader, refusals: Refusals, nbytes: int, remarks: Iterable[str] = ()
) -> Checkpoint:
    """Lay out what a pickle holds as branches and metadata.

    Raises
    ------
    NotACheckpointError
        It is a bare number or text, which no one saves as a checkpoint.
    CorruptCheckpointError
        A tensor contradicts itself.
    """
    if not isinstance(root, (dict, list, tuple, Instance)) and not refusals.globals:
        raise NotACheckpointError(path, f"a pickle of nothing but a {type(root).__name__}, not a checkpoint")
    unwrapper = Unwrapper(path, tensors)
    branches = unwrapper.branches(root)
    chosen, reason = choose(branches)
    return Checkpoint(
        path=path,
        format=kind,
        framework="torch",
        branch=chosen,
        branch_reason=reason,
        branches=branches or (chosen,),
        metadata=Metadata(tensors).of(root),
        refused_globals=refusals.globals,
        nbytes=nbytes,
        remarks=(*remarks, *unwrapper.remarks),
    )
