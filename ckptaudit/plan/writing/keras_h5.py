"""A plan carried out into a ``.weights.h5`` of Keras 3: a copy of the fresh model's own file, with the plan's values in it.

Where Keras keeps a variable depends on the attributes and lists of the model's code, and the fresh model's file shows it. HDF5 stores the
values of a variable in one piece, so that they are exchanged in place.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ckptaudit.errors import OutputError, PlanError
from ckptaudit.files import is_stream, new_file
from ckptaudit.graph import DTYPE_BITS
from ckptaudit.plan.fingerprint import fingerprint
from ckptaudit.plan.plan import Plan
from ckptaudit.plan.writing.entries import entries_of, provenance
from ckptaudit.plan.writing.placing import Placed, write_placed
from ckptaudit.read import open_checkpoint
from ckptaudit.read.hdf5_library import note

if TYPE_CHECKING:
    from ckptaudit.read import Checkpoint
    from ckptaudit.read.stored import StoredTensor


def write_like(
    plan: Plan,
    checkpoint: Checkpoint,
    output: str | os.PathLike[str],
    like: str | os.PathLike[str],
    *,
    force: bool,
    progress: Callable[[int, int], None],
) -> int:
    """Write the file; gives its size. See :func:`ckptaudit.plan.writing.write_restored`.

    Raises
    ------
    PlanError
        ``like`` is not the file of the model that the plan was made for.
    """
    fresh = open_checkpoint(Path(like))
    if fresh.format != "keras-weights":
        raise PlanError(f"{os.fspath(like)}: is no .weights.h5 of Keras 3")
    if plan.target is not None and plan.target.fingerprint != fingerprint(fresh.graph):
        raise PlanError(f"{os.fspath(like)}: the plan was made for another model; make it against this file (--against at the prompt)")
    if is_stream(output):
        raise OutputError(f"{os.fspath(output)}: a .weights.h5 is not written in one go")
    entries = entries_of(plan, checkpoint, DTYPE_BITS, "HDF5")
    for entry in entries:
        there = fresh.branch.tensors.get(entry.step.target)
        if there is None or there.shape != entry.shape or there.dtype != entry.dtype:
            found = "nothing" if there is None else f"{there.shape} {there.dtype}"
            raise PlanError(f"{entry.step.target}: is {entry.shape} {entry.dtype}, and {os.fspath(like)} has {found}")
        if not there.lies_as_it_is:
            raise PlanError(f"{entry.step.target}: does not lie in one piece in {os.fspath(like)}")
    total = sum(entry.nbytes for entry in entries)
    with new_file(output, force=force) as file:
        with Path(like).open("rb") as template:
            shutil.copyfileobj(template, file)
        done = 0
        placed = [Placed(entry, _place(fresh.branch.tensors[entry.step.target])) for entry in entries]
        for count in write_placed(placed, checkpoint, file):
            done += count
            progress(done, total)
        file.flush()
        note(file, "ckptaudit", json.dumps(provenance(plan, checkpoint)))  # Keras looks at its own groups alone
        return file.seek(0, os.SEEK_END)


def _place(there: StoredTensor) -> int:
    return there.storage.offset + there.offset * DTYPE_BITS[there.dtype] // 8
