"""Bytes read by position are those of the file, however small the parts in which they are read."""

from __future__ import annotations

import os
import random

import pytest

from ckptaudit.errors import CheckpointError, CorruptCheckpointError
from ckptaudit.read import file_bytes, pickles, source
from ckptaudit.read.file_bytes import FileBytes
from ckptaudit.scanning.scan import scan
from tests.hostile import constructions_keras, constructions_pickle, constructions_protobuf, constructions_zip

PAGE = file_bytes._PAGE


@pytest.fixture
def opened(tmp_path):
    content = random.Random(0).randbytes(3 * PAGE + 77)
    path = tmp_path / "file"
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    yield path, content, FileBytes(path, descriptor, os.fstat(descriptor))
    os.close(descriptor)


def test_every_way_to_ask_gives_what_bytes_give(opened):
    _, content, data = opened
    places = [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 1024, 3 * PAGE, len(content) - 1, len(content), len(content) + 9]
    assert len(data) == len(content)
    for start in places:
        for stop in places:
            assert data[start:stop] == content[start:stop]
        assert data[-start:] == content[-start:]
        assert data[:start] == content[:start]
        for index in (start, -start):
            if -len(content) <= index < len(content):
                assert data[index] == content[index]
            else:
                with pytest.raises(IndexError):
                    data[index]
        near, first, last = data.near(min(start, len(content) - 1))
        assert content[first : first + len(near)] == near
        assert first <= min(start, len(content) - 1) < last
        for length in (1, 9):
            assert data.find(content[start : start + length] or b"none", 0) == content.find(content[start : start + length] or b"none")
    assert data.find(content[50:60], 51) == -1
    assert data.find(content[50:60], 0, 59) == -1


def test_a_shorter_file_is_told_of(opened):
    path, _, data = opened
    os.truncate(path, PAGE)
    assert data.changed()
    with pytest.raises(CorruptCheckpointError, match="changed while it was audited"):
        data[PAGE - 9 : PAGE + 9]
    with pytest.raises(CheckpointError):
        data.find(b"none", 0)


@pytest.mark.parametrize("module", [constructions_pickle, constructions_zip, constructions_protobuf, constructions_keras])
def test_readers_say_the_same_of_a_file_that_they_read_piece_by_piece(module, tmp_path, monkeypatch):
    cases = [case for kind, listed in module.cases().items() if kind != "pickle-called" for case in listed][::40]
    paths = [case.make(tmp_path / str(number)) for number, case in enumerate(cases)]

    def told():
        return [(file.reason, file.findings, file.tensors, file.refused_globals) for path in paths for file in scan([path]).files]

    whole = told()
    monkeypatch.setattr(source, "_SMALL", 0)
    for name, value in (("_PAGE", 64), ("_WITHIN", 63), ("LAP", 32), ("_KEPT", 3), ("_AHEAD", 128), ("_SEARCHED", 100)):
        monkeypatch.setattr(file_bytes, name, value)
    monkeypatch.setattr(pickles, "_AHEAD", 40)
    monkeypatch.setattr(pickles, "_AHEAD_AT_MOST", 120)
    assert told() == whole
