"""A bare pickle: a dictionary of tensors or arrays that someone saved with ``pickle.dump``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckptaudit.errors import CorruptCheckpointError, NotACheckpointError
from ckptaudit.lazily import compiled_when_used

if TYPE_CHECKING:
    from ckptaudit.read.checkpoint import Checkpoint
    from ckptaudit.read.source import Source
    from ckptaudit.read.torch_objects import StorageRef

NAME = "pickle"
_IMPORTABLE = compiled_when_used(r"[\w.\s\x00]*\.[\w.<>]+")


def recognise(source: Source) -> bool:
    """Whether it declares a pickle protocol, or begins with an opcode and looks like nothing else."""
    head = source.head
    if head[0] == 0x80:
        return True
    from ckptaudit.read.pickles import OPENERS
    from ckptaudit.read.sniff import describe

    return (
        head[0] in OPENERS
        and not source.is_zip
        and describe(source) in (None, "a text file, not a checkpoint")
        and _begins_as_pickle(source)
    )


def _begins_as_pickle(source: Source) -> bool:
    """Without a declared protocol, only a pickle that runs, or that names a global before it breaks, is taken for one."""
    from ckptaudit.read.pickles import Machine, Refusals

    refusals = Refusals()
    machine = Machine(
        source.data, source.path, refusals, allowed=lambda name: False, persistent=lambda identity: identity, size=source.size
    )
    try:
        machine.run(0, source.size, "the pickle")
    except CorruptCheckpointError:
        # Of a program or another text that breaks at once: `import torch` would be the name `mport torch.…`.
        return any(_IMPORTABLE.fullmatch(found.name) for found in refusals.globals)
    return True


def read(source: Source) -> Checkpoint:
    """Run the pickle, and whatever pickles follow it: a loader in a loop would run them, too."""
    from ckptaudit.read.checkpoint import Remark
    from ckptaudit.read.pickled import checkpoint_of
    from ckptaudit.read.pickles import Refusals
    from ckptaudit.read.sniff import describe
    from ckptaudit.read.stored import Storage
    from ckptaudit.read.torch_nested import torch_machine
    from ckptaudit.read.torch_objects import StorageTable, TensorReader
    from ckptaudit.read.torch_streams import nested_storages

    path, size = source.path, source.size
    refusals = Refusals()
    storages = StorageTable()
    machine = torch_machine(source.data, path, refusals, storages, source.size)
    remarks: list[str] = []

    def locate(ref: StorageRef) -> Storage:
        return Storage(ref.key, path, 0, ref.nbytes, "the storages of a bare data.pkl lie in other files")

    with refusals.told_on_error():
        value = machine.run(0, size, "the pickle")
        end = machine.position
        if end < size:
            remarks.append(Remark(f"{size - end:,} bytes follow the end of the pickle", "unreferenced-bytes"))
            try:
                while machine.position < size:
                    machine.run(machine.position, size, "a pickle after the first")
            except CorruptCheckpointError:
                pass  # no pickle, or no further one
        if storages.declared:
            remarks.append(Remark("a data.pkl taken out of its archive: names and shapes are here, values are not", "missing-values"))
        tensors = TensorReader(path, locate, inline=True, nested=nested_storages(source.data, path))
        try:
            return checkpoint_of(value, path, NAME, tensors, refusals, size, remarks)
        except NotACheckpointError:
            if source.head[0] != 0x80 and (words := describe(source)):
                raise NotACheckpointError(path, words) from None
            raise
