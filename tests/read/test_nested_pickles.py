"""Pickles within the bytes that ``torch.storage._load_from_bytes`` is given: run by loaders, and so looked through by the audit."""

from __future__ import annotations

import io
import os
import pickle
from typing import TYPE_CHECKING

import pytest
import torch

from ckptaudit.read import open_checkpoint

if TYPE_CHECKING:
    from pathlib import Path


class Marks:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


class Call:
    """Calls any function when it is unpickled."""

    def __init__(self, function, *args) -> None:
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def _saved(value, *, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def _within(content: bytes) -> Call:
    return Call(torch.storage._load_from_bytes, content)


@pytest.mark.parametrize("wrapped", ["plain", "twice", "applied", "setstate", "text", "in-zip", "in-legacy"])
@pytest.mark.parametrize("zipped", [False, True])
def test_nested_call_is_refused(tmp_path, zipped, wrapped):
    marker, path = tmp_path / "marker", tmp_path / "x.pth"
    content = _saved(Marks(marker), zipped=zipped)
    value = {"w": torch.ones(2), "extra": _within(content)}
    if wrapped == "twice":
        value["extra"] = _within(_saved([_within(content)], zipped=not zipped))
    elif wrapped == "applied":
        value["extra"] = Call(torch._tensor._rebuild_from_type_v2, torch.storage._load_from_bytes, torch.Tensor, (content,), {})
    elif wrapped == "text":
        del value["w"]  # a tensor whose storage is spelt so is refused as a whole
    if wrapped == "setstate":
        # Two BUILDs: the first makes the function a method of the instance, the second calls it.
        call = b"ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__ctorch.storage\n_load_from_bytes\nsbB"
        path.write_bytes(b"\x80\x04" + call + len(content).to_bytes(4, "little") + content + b"b.")
    elif wrapped in ("in-zip", "in-legacy"):
        path.write_bytes(_saved(value, zipped=wrapped == "in-zip"))
    else:
        path.write_bytes(pickle.dumps(value, protocol=2 if wrapped == "text" else 4))
    names = {g.name: g for g in open_checkpoint(path).refused_globals}
    assert not marker.exists()
    assert names["torch.storage._load_from_bytes"]
    if wrapped != "setstate":
        assert names[f"{os.mkdir.__module__}.mkdir"].called
        assert "within the bytes" in names[f"{os.mkdir.__module__}.mkdir"].pickle


@pytest.mark.parametrize("content", [b"", b"abc", b"PK\x03\x04", pickle.dumps(1)])
def test_bytes_that_are_no_storage_are_refused(tmp_path, content):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"w": torch.ones(2), "extra": _within(content)}))
    assert [g.name for g in open_checkpoint(path).refused_globals] == ["torch.storage._load_from_bytes"]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_storages_are_not_refused(tmp_path, protocol):
    path = tmp_path / "x.pkl"
    zipped = _within(_saved(torch.ones(3).untyped_storage(), zipped=True))
    path.write_bytes(pickle.dumps({"w": torch.arange(2.0), "v": torch.zeros(3), "extra": zipped}, protocol=protocol))
    read = open_checkpoint(path)
    assert not read.refused_globals
    assert read.read("w").tolist() == [0, 1]


def test_the_same_bytes_again_and_again_are_read_once(tmp_path):
    path = tmp_path / "x.pkl"
    content = _saved([os.getpid] * 20000, zipped=False)
    extra = [_within(content) for _ in range(20000)]
    path.write_bytes(pickle.dumps({"w": torch.ones(2), "extra": extra}))
    assert len(open_checkpoint(path).refused_globals) == 2
