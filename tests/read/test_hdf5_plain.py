"""The reader of plain HDF5 files against libhdf5: of every file that it accepts it must say what libhdf5 says."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ckptaudit.errors import CkptAuditError
from ckptaudit.read import open_checkpoint
from ckptaudit.read.hdf5 import Content, Dataset, Group, Hdf5, Locate
from ckptaudit.read.hdf5_checksum import checksum
from ckptaudit.read.hdf5_library import open_with_library
from ckptaudit.read.hdf5_plain import read_plain

DATA = Path(__file__).parent.parent / "data" / "keras"
ATTRIBUTES = ("layer_names", "weight_names", "name", "nb_layers", "keras_version", "backend", "model_config", "training_config", "a", "b")
sys.path.insert(0, str(Path(__file__).parent.parent / "fuzz"))


def told(file: Hdf5) -> dict[str, Any]:
    """Everything that readers of Keras' layouts can ask for."""
    found: dict[str, Any] = {}
    todo, seen = [file.root], {id(file.root)}
    while todo:
        group = todo.pop()
        found[group.path] = group.address, {name: file.attribute(group, name) for name in ATTRIBUTES}
        for name, child in group.children.items():
            found[f"{group.path}/{name} in {group.path!r}"] = (child.path, getattr(child, "address", None), getattr(child, "tensor", None))
            if isinstance(child, Group) and id(child) not in seen:
                seen.add(id(child))
                todo.append(child)
            assert isinstance(child, Group | Dataset)
    found["order"] = [list(group.children) for group in [file.root, *file.root.groups().values()]]
    return found


def both(path: Path, data: bytes) -> bool:
    """Whether the plain reader takes it; then libhdf5 must give the same."""
    where = Locate(path, 0, len(data))
    content = Content(data, 0, len(data))
    plain = read_plain(path, content, where, 100 << 20)
    if plain is None:
        return False
    said = told(plain)
    with open_with_library(path, content, where, 100 << 20) as file:
        assert said == told(file)
    return True


@pytest.mark.parametrize("block", [512, 4096])
@pytest.mark.parametrize("cut", [0, 100, -8])
def test_user_blocks_are_stepped_over(tmp_path: Path, block: int, cut: int) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=block) as file:
        file["a/w"] = np.arange(6, dtype="f").reshape(2, 3)
        file["a"].attrs["weight_names"] = [b"w"]
    content = b"MZ".ljust(block, b"x") + path.read_bytes()[block:]
    # Without its last bytes, or without its first ones, it is another file: then libhdf5 has to say what.
    path.write_bytes(content[: cut or None] if cut <= 0 else content[cut:])
    assert both(path, path.read_bytes()) == (cut == 0)
    if not cut:
        assert open_checkpoint(path).read("a/w").tolist() == [[0, 1, 2], [3, 4, 5]]


def keras_files() -> list[Path]:
    return sorted(DATA.glob("*.h5"))


@pytest.mark.parametrize("path", keras_files(), ids=lambda path: path.name)
def test_files_of_keras_are_plain(path: Path) -> None:
    assert both(path, path.read_bytes())


def test_real_files_are_plain(real: Path) -> None:
    for path in (*real.glob("*.h5"), *real.glob("*.hdf5")):
        assert both(path, path.read_bytes()), path.name


def many(file: h5py.File) -> None:
    for number in range(900):
        file.create_group(f"layer_{number}/vars").attrs["name"] = f"layer_{number}"
        file[f"layer_{number}/vars/0"] = np.full((2, 3), number, "float32")


def attributes(file: h5py.File) -> None:
    file.attrs["layer_names"] = [b"a", b"bcd", b""]
    file.attrs["weight_names"] = np.array(["é", "x" * 5000, ""], dtype=h5py.string_dtype())
    file.attrs["name"] = "ünï"
    file.attrs["nb_layers"] = 3
    file.attrs["a"] = np.array([1.5, -2], ">f4")
    file.attrs["b"] = np.array([[1, 2]])
    group = file.create_group("g")
    for number in range(60):
        group.attrs[f"filler{number}"] = "x" * number
    group.attrs["a"] = np.bytes_(b"padded\0\0")
    group.attrs["b"] = np.array([-1, 2**40])
    group.attrs["name"] = np.float16(0.5)
    group.attrs["backend"] = np.array([], "S3")
    file.create_group("h").attrs["b"] = np.array(b"", "S1")


def dtypes(file: h5py.File) -> None:
    for dtype in (
        "f2",
        "f4",
        "f8",
        ">f2",
        ">f4",
        ">f8",
        *(f"{order}{kind}{size}" for order in "<>" for kind in "iu" for size in (1, 2, 4, 8)),
    ):
        file[f"g/{dtype}"] = np.arange(6).reshape(2, 3).astype(dtype)
    file["scalar"] = np.float32(1)
    file.create_dataset("commented", data=np.zeros(3), fillvalue=7.0)


def tied(file: h5py.File) -> None:
    file["a/w"] = np.zeros((2, 2))
    file["b"] = file["a"]
    file["c/w"] = file["a/w"]
    file["c/root"] = file["/"]


def deleted(file: h5py.File) -> None:
    many(file)
    for number in range(0, 900, 3):
        del file[f"layer_{number}"]
    file.move("layer_1", "a name that did not fit into the room that is free" * 4)


@pytest.mark.parametrize("fill", [many, attributes, dtypes, tied, deleted])
def test_plain_files_are_told_as_libhdf5_tells_them(tmp_path: Path, fill: Callable[[h5py.File], None]) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        fill(file)
    assert both(path, path.read_bytes())


def few(file: h5py.File) -> None:
    for layer in ("b", "a", "é", "c" * 300):
        group = file.create_group(f"model_weights/{layer}/{layer}")
        group["kernel:0"] = np.arange(6, dtype="float32").reshape(2, 3)
        group["bias:0"] = np.arange(3, dtype=">f8")
        file[f"model_weights/{layer}"].attrs["weight_names"] = [f"{layer}/kernel:0".encode(), b"bias"]
    file["model_weights"].attrs["layer_names"] = [b"a", b"b"]
    file.attrs["keras_version"] = "2.11.0"
    file.attrs["a"] = np.array([1, -2])
    file.attrs["model_config"] = "x" * 60_000
    file["again"] = file["model_weights/a"]
    file["again/root"] = file["/"]


NEWER = [{"libver": "latest"}, {"libver": "v108"}, {"libver": ("v110", "v112")}, {"libver": "latest", "track_order": True}]


@pytest.mark.parametrize("options", NEWER, ids=str)
def test_small_files_of_newer_versions_are_told_as_libhdf5_tells_them(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", **options) as file:
        few(file)
    assert both(path, path.read_bytes())


def mended(data: bytes) -> bytes:
    """The file with the checksums of its headers right again, as far as their lengths tell where they stand."""
    changed = bytearray(data)
    for start in (match.start() for match in re.finditer(b"OHDR", data)):
        flags = data[start + 5]
        at = start + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        end = at + (1 << (flags & 3)) + int.from_bytes(data[at : at + (1 << (flags & 3))], "little")
        changed[end : end + 4] = checksum(bytes(changed[start:end])).to_bytes(4, "little")
    return bytes(changed[: len(data)])


def test_damaged_files_of_newer_versions_are_left_to_libhdf5_or_told_alike(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver="latest") as file:
        few(file)
        del file.attrs["model_config"]
    whole, chance = path.read_bytes(), random.Random(0)
    assert mended(whole) == whole
    headers = [match.start() for match in re.finditer(b"OHDR", whole)]
    taken = differing = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2))):
            data[chance.choice(headers) + chance.randrange(4, 90)] = chance.choice((0, 1, 2, 8, 0xFF, chance.randrange(256)))
        try:
            taken += both(path, mended(bytes(data)))
        except CkptAuditError:
            differing += 1  # libhdf5 refuses what the plain reader took
    assert differing == 0
    assert taken > 30


NOT_PLAIN: dict[str, tuple[dict[str, Any], Callable[[h5py.File], object]]] = {
    "many new links": ({"libver": "latest"}, lambda file: [file.create_dataset(f"w{n}", data=np.zeros(3)) for n in range(9)]),
    "many new attributes": ({"libver": "latest"}, lambda file: [file.attrs.__setitem__(f"a{n}", n) for n in range(9)]),
    "new soft link": ({"libver": "latest"}, lambda file: file.__setitem__("w", h5py.SoftLink("/elsewhere"))),
    "new external link": ({"libver": "latest"}, lambda file: file.__setitem__("w", h5py.ExternalLink("/etc/passwd", "/w"))),
    "new chunks": ({"libver": "latest"}, lambda file: file.create_dataset("w", data=np.zeros(3), chunks=(2,))),
    "ordered": ({"track_order": True}, lambda file: file.create_dataset("w", data=np.zeros(3))),
    "chunks": ({}, lambda file: file.create_dataset("w", data=np.zeros(3), chunks=(2,))),
    "nothing written": ({}, lambda file: file.create_dataset("w", (3,), "f4")),
    "text": ({}, lambda file: file.create_dataset("w", data=["a"])),
    "soft link": ({}, lambda file: file.__setitem__("w", h5py.SoftLink("/elsewhere"))),
    "external link": ({}, lambda file: file.__setitem__("w", h5py.ExternalLink("/etc/passwd", "/w"))),
    "external values": ({}, lambda file: file.create_dataset("w", (4,), "f4", external=[("/etc/passwd", 0, 16)])),
    "empty attribute": ({}, lambda file: file.attrs.__setitem__("a", h5py.Empty("f4"))),
    "truth value": ({}, lambda file: file.attrs.__setitem__("a", True)),
    "compound attribute": ({}, lambda file: file.attrs.__setitem__("a", np.array([(1, 2.0)], "i4,f4"))),
    "named type": ({}, lambda file: file.__setitem__("w", np.dtype("f4"))),
}


@pytest.mark.parametrize("case", NOT_PLAIN)
def test_anything_else_is_left_to_libhdf5(tmp_path: Path, case: str) -> None:
    options, fill = NOT_PLAIN[case]
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", **options) as file:
        fill(file)
    assert not both(path, path.read_bytes())


def test_damaged_files_are_left_to_libhdf5_or_told_alike(tmp_path: Path) -> None:
    """Bytes of headers, tables, heaps and trees changed at random."""
    import mutators

    seeds = [path.read_bytes() for path in keras_files()]
    chance = random.Random(0)
    taken = differing = 0
    for _ in range(250):
        data = mutators.hdf5(chance.choice(seeds), chance)
        try:
            taken += both(tmp_path / "x", data)
        except CkptAuditError:
            differing += 1  # libhdf5 refuses what the plain reader took
    assert differing == 0
    assert taken > 30
