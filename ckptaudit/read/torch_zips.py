"""What plain and scripted torch zips share: the member that holds the object, and the members that hold storages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ckptaudit.errors import CorruptCheckpointError
from ckptaudit.read.checkpoint import Remark
from ckptaudit.read.pickled import checkpoint_of
from ckptaudit.read.pickles import Refusals
from ckptaudit.read.stored import Storage
from ckptaudit.read.torch_nested import torch_machine
from ckptaudit.read.torch_objects import StorageRef, StorageTable, TensorReader, is_allowed
from ckptaudit.read.torch_streams import nested_storages
from ckptaudit.records import replace
from ckptaudit.text import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ckptaudit.read.checkpoint import Checkpoint
    from ckptaudit.read.source import Source
    from ckptaudit.read.zips import Member, ZipDirectory

_OBJECT = "data.pkl"

#: A compressed ``data.pkl`` is taken into memory. Torch never writes one; packed again by other tools, 100,000 tensors take 10 MB.
_MAX_INFLATED = 16 << 20

_SMALL_MEMBER = 1024

#: What torch writes beside storages, and the folders in which TorchScript and its mobile variant keep things.
_MEMBERS = (
    *(_OBJECT, "version", "byteorder", "traced_inputs.pkl", "constants.pkl", "attributes.pkl", "bytecode.pkl", "mobile_debug_handles.pkl"),
    *("model.json", ".format_version", ".storage_alignment", ".data/serialization_id"),
)
_FOLDERS = ("constants/", "tensors/", "code/", "extra/")

#: Where a file that `ckptaudit apply` wrote says where it comes from, and the bytes that such a record may have.
_PROVENANCE, _MAX_PROVENANCE = "ckptaudit.json", 64 << 10


def archive_of(source: Source) -> ZipDirectory:
    """Give the zip's directory; of a truncated zip, tell how long it should have been.

    Raises
    ------
    CorruptCheckpointError
        It is damaged.
    """
    try:
        return source.zip
    except CorruptCheckpointError:
        if (object_at := source.zip_first_member(_OBJECT)) is None:
            raise
        # The object comes first and declares the storages that should follow, and it may call what must not be hidden by the damage.
        refusals, storages = Refusals(), StorageTable()
        machine = torch_machine(source.data, source.path, refusals, storages, source.size)
        with refusals.told_on_error():
            machine.run(object_at, source.size, _OBJECT)
            whole = machine.position + sum(ref.nbytes for ref in storages.declared.values())
            if whole <= source.size:
                raise
            raise CorruptCheckpointError(source.path, f"a truncated torch zip: {source.size:,} of at least {whole:,} bytes") from None


def root_of(source: Source) -> str | None:
    """The folder within the zip that holds ``data.pkl``, with its slash; None when there is none.

    Raises
    ------
    CorruptCheckpointError
        There are several, and readers would disagree on which of them counts.
    """
    # Torch's reader takes names for equal that differ in case alone.
    objects = [name for name in archive_of(source).members if name.lower() == _OBJECT or name.lower().endswith("/" + _OBJECT)]
    roots = [name[: -len(_OBJECT)] for name in objects]
    shallow = [root for root in roots if root.count("/") <= 1 and not root.startswith("__MACOSX")]
    if len(shallow) > 1:
        names = " and ".join(repr(root + _OBJECT) for root in shallow[:2])
        raise CorruptCheckpointError(source.path, f"a zip with {len(shallow)} objects, {names}: readers disagree on which of them counts")
    return shallow[0] if shallow else None


def is_script(source: Source) -> bool:
    """Whether the zip holds TorchScript: constants or code beside the object."""
    root = root_of(source) or ""
    code = f"{root}code/".lower()
    return source.zip.find(root + "constants.pkl") is not None or any(name.lower().startswith(code) for name in source.zip.members)


def read_object(
    source: Source,
    kind: str,
    own_classes: tuple[str, ...] = (),
    adapt: Callable[[Any, TensorReader], None] = lambda value, tensors: None,
) -> Checkpoint:
    """Read ``data.pkl`` and lay its tensors over the storages.

    Parameters
    ----------
    source:
        The file.
    kind:
        Name of the format.
    own_classes:
        Classes whose name begins so are defined in the archive itself.
    adapt:
        Brings the unpickled object, in place, into the shape that a pickled module has.

    Raises
    ------
    CorruptCheckpointError
        The zip, the pickle or a tensor is damaged or contradicts itself.
    """
    archive, path, root = source.zip, source.path, root_of(source) or ""
    member = cast("Member", archive.find(root + _OBJECT))
    label = member.name
    start = archive.payload(member)
    remarks: list[str] = [*archive.remarks, *_oddities(archive, member)]
    if member.size > source.max_header:
        raise CorruptCheckpointError(path, f"{label} holds {member.size:,} bytes; more than {source.max_header:,} are not read")
    if not member.size:
        raise CorruptCheckpointError(path, f"{label} is empty")
    order = _byte_order(source, root)
    refusals, storages = Refusals(), StorageTable()

    def locate(ref: StorageRef) -> Storage:
        name = f"{root}data/{ref.key}"
        stored = archive.find(name)
        if stored is None:
            raise CorruptCheckpointError(path, f"storage {name!r} is missing from the zip, as after a partial save or a merge")
        if stored.size < ref.nbytes:
            raise CorruptCheckpointError(path, f"storage {name!r} holds {stored.size:,} bytes where {ref.nbytes:,} are declared")
        begin = archive.payload(stored)
        if stored.size > 4 and source.data[begin : begin + 4] == b"PK\x03\x04":
            remarks.append(f"storage {name!r} begins as a zip does, not as numbers do")
        why = "" if stored.stored else "the storage is compressed, and is not inflated"
        return Storage(ref.key, path, begin, ref.nbytes, why, order == "big")

    def allowed(name: str) -> bool:
        return is_allowed(name) or name.startswith(own_classes)

    with refusals.told_on_error():
        if member.stored:
            # Read in place: arrays that lie in the pickle itself then have an offset in the file.
            data: Any = source.data
            machine = torch_machine(data, path, refusals, storages, source.size, allowed)
            value = machine.run(start, start + member.size, label)
            end = start + member.size
        else:
            data = content = archive.content(member, min(_MAX_INFLATED, source.max_header))
            machine = torch_machine(data, path, refusals, storages, source.size, allowed)
            value = machine.run(0, len(content), label)
            end = len(content)
        remarks += _run_others(source, root, refusals, allowed)
        provenance = _provenance(archive, root)
        remarks += _unreferenced(archive, root, storages, (*_MEMBERS, _PROVENANCE) if provenance else _MEMBERS)
        if machine.position < end:
            behind = end - machine.position
            told = f"{plural(behind, 'byte')} {'follows' if behind == 1 else 'follow'} the end of {label}"
            remarks.append(Remark(told, "unreferenced-bytes"))
        tensors = TensorReader(path, locate, inline=member.stored, nested=nested_storages(data, path))
        adapt(value, tensors)
        checkpoint = checkpoint_of(value, path, kind, tensors, refusals, source.size, remarks)
    return replace(checkpoint, metadata={**provenance, **checkpoint.metadata}) if provenance else checkpoint


def _provenance(archive: ZipDirectory, root: str) -> dict[str, str]:
    """What `ckptaudit apply` noted in the file that it wrote; empty where there is no such record, or something else under its name."""
    member = archive.members.get(root + _PROVENANCE)
    if member is None:
        return {}
    from ckptaudit.read.strict_json import parse

    try:
        told = parse(archive.content(member, _MAX_PROVENANCE), lambda words: CorruptCheckpointError(archive.path, words))
    except CorruptCheckpointError:
        return {}
    return told if told.get("tool") == "ckptaudit" and all(isinstance(value, str) for value in told.values()) else {}


def _oddities(archive: ZipDirectory, member: Member) -> Iterator[str]:
    """What the names of members tell of a zip that torch did not write; ``member`` is the object."""
    if not member.name.endswith(_OBJECT):
        yield f"its object is called {member.name!r}: torch takes that for {_OBJECT}, and other readers do not"
    if (spelt := archive.local_name(member)) != member.name:
        yield f"the local header of {member.name!r} calls it {spelt!r}"
    if any(name.startswith("__MACOSX/") for name in archive.members):
        yield Remark("the zip was packed again on a Mac (__MACOSX members); torch itself may refuse it", severity="note")
    odd = [name for name in archive.members if name.startswith(("/", "\\\\")) or ".." in name.split("/") or len(name) > 1000]
    if odd:
        yield f"the zip has members that a checkpoint has not: {', '.join(map(repr, odd[:3]))}"


def refusals_within(source: Source) -> Refusals:
    """What the pickles of a zip without an object would call."""
    refusals = Refusals()
    _run_others(source, None, refusals, is_allowed)
    return refusals


def _run_others(source: Source, root: str | None, refusals: Refusals, allowed: Callable[[str], bool]) -> list[str]:
    """Look through the zip's other pickles (constants, and what torch does not know): somebody may load them, too."""
    left = _MAX_INFLATED
    told = []
    for name, member in source.zip.members.items():
        if root is not None and name.lower() == (root + _OBJECT).lower():
            continue
        try:
            begin = _pickle_in(source, member, anywhere=root is None)
            if begin is None:
                continue
            content, start = source.data, 0
            if begin and member.stored:  # numpy's archives are not packed, and their arrays may be large
                start = source.zip.payload(member)
            elif max(member.size, member.packed) > left:
                told.append(f"{name!r} of {member.size:,} bytes was not looked through for code")
                continue
            else:
                left -= member.size
                content = source.zip.content(member, _MAX_INFLATED)
            machine = torch_machine(content, source.path, refusals, lambda identity: identity, source.size, allowed)
            machine.run(start + begin, start + member.size, name)
        except CorruptCheckpointError:
            continue  # torch does not read it
    return told


def _pickle_in(source: Source, member: Member, *, anywhere: bool) -> int | None:
    """Where in a member's content a pickle begins, by its name; or behind the header of an array of objects, there ``anywhere``."""
    name = member.name.lower()
    if name.endswith((".pkl", ".pickle")):
        return 0
    if not anywhere and not name.endswith(".npy"):
        return None
    from ckptaudit.read import npy  # of use to numpy's own archives alone

    return npy.pickle_in(source.zip.beginning(member, npy.HEADER))


def _unreferenced(archive: ZipDirectory, root: str, storages: StorageTable, members: Iterable[str]) -> list[Remark]:
    """What lies in the zip and is no part of what the object is made of."""
    known = {(root + name).lower() for name in members}
    folders = tuple((root + folder).lower() for folder in _FOLDERS)
    data = f"{root}data/".lower()
    unused, foreign = [], []
    for name, member in archive.members.items():
        spelt = name.lower()
        if not member.size or spelt in known or name.startswith("__MACOSX/"):
            continue
        if spelt.startswith(data):
            ref = storages.declared.get(name[len(data) :])
            if ref is None:
                unused.append(name)
            elif member.size > ref.nbytes:
                unused.append(f"{name} from byte {ref.nbytes:,} on")
        elif not spelt.startswith(folders):
            foreign.append(name)
    told = []
    for names, one, many, words in (
        (unused, "holds", "hold", "bytes that no tensor refers to"),
        (foreign, "is", "are", "no part of a torch file"),
    ):
        if names:
            verb = one if len(names) == 1 else many
            shown = ", ".join(map(repr, names[:3])) + (" …" if names[3:] else "")
            told.append(Remark(f"{plural(len(names), 'member')} of the zip {verb} {words}: {shown}", "unreferenced-bytes"))
    return told


def _byte_order(source: Source, root: str) -> str:
    member = source.zip.find(root + "byteorder")
    if member is None:
        return "little"  # as torch before 2.1 always wrote, and still assumes
    word = source.zip.content(member, _SMALL_MEMBER).strip()
    if word not in (b"little", b"big"):
        raise CorruptCheckpointError(source.path, "its byteorder member says neither little nor big")
    return word.decode()
