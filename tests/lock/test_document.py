"""The lock's text: what is written comes back exactly, and what is not a lock is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckptaudit.errors import LockError
from ckptaudit.graph import DTYPE_BITS, Module
from ckptaudit.lock.document import load_lock, lock_text
from ckptaudit.lock.locked import Locked, batch_norm_layers, stored
from ckptaudit.read import Branch, Checkpoint, RefusedGlobal
from ckptaudit.read.recorded import BatchNormStatistics, Recorded

from .conftest import DEMO

HOSTILE = ["'''", "{x}", "é", " ", "\x7f", "\ud800", ""]
SEGMENTS = st.sampled_from(["0", "1", "2", "a", "bn", "weight", "running_mean", "running_var", *HOSTILE])
NAMES = st.lists(SEGMENTS, min_size=1, max_size=4).map(".".join)
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
TENSORS = st.dictionaries(NAMES, st.tuples(SHAPES, st.sampled_from([*DTYPE_BITS, "my dtype"])), max_size=12)
TEXTS = st.sampled_from(["eps", "'", "a b", "\x7f\n", "é", ""])
LAYOUTS = st.lists(st.sampled_from(["legacy", "numbered", "by_name"]), unique=True)
VALUES = st.one_of(st.booleans(), st.integers(), st.sampled_from([0.1, 1e-5, None, [1, 2]]), TEXTS)
MODULES = st.dictionaries(NAMES, st.builds(lambda t, a: Module(t, None, a), TEXTS, st.dictionaries(TEXTS, VALUES, max_size=3)), max_size=4)


@st.composite
def entries(draw, name):
    tensors = draw(TENSORS)
    names = list(tensors)
    tied = (tuple(names[:2]),) if len(names) > 1 and all(0 not in tensors[n][0] and tensors[n][0] for n in names[:2]) else ()
    tensors |= {n: tensors[names[0]] for group in tied for n in group}
    places = {layout: {n: f"{draw(NAMES)}/{i}" for i, n in enumerate(tensors)} for layout in draw(LAYOUTS)} if tensors else {}
    arrays = draw(st.sets(st.sampled_from(names))) if names else set()
    branch = Branch("model", "model", stored(tensors, tied, Path("x.pth"), arrays), places=places)
    bare = Checkpoint(
        Path("x.pth"), "torch-zip", "torch", branch, "", (branch,), {}, (RefusedGlobal("a.B", 3, True, "p"),), 7, remarks=('\x7f "q"',)
    )
    flags = st.tuples(st.booleans(), st.booleans(), st.booleans())
    statistics = [BatchNormStatistics(path, both, *draw(flags)) for path, both in batch_norm_layers(bare) if draw(st.booleans())]
    recorded = Recorded(tuple(statistics), dict.fromkeys(names[:1], 0.5), tied, draw(MODULES))
    terms = {"checkpoint": "x.pth", "arch": "m:f", "arguments": {"n": 1, "deep": {"a": [1, "é\x7f"]}}, "intent": "eval"}
    return Locked(name, terms, replace(bare, recorded=recorded), {"x.pth": "00"}, {"backbone": "resnet18", "aux_head": False})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries("b"), entries("a"))
def test_what_is_written_comes_back(tmp_path, one, other):
    file = tmp_path / "ckptaudit.lock"
    file.write_text(lock_text([one, other]))
    read = load_lock(file)
    assert list(read) == ["a", "b"]
    for entry in (one, other):
        found = read[entry.name]
        assert (found.terms, found.digests, found.facts) == (entry.terms, entry.digests, entry.facts)
        assert list(found.checkpoint.graph) == list(entry.checkpoint.graph)
        assert [t.is_array for t in found.checkpoint.branch.tensors.values()] == [
            t.is_array for t in entry.checkpoint.branch.tensors.values()
        ]
        assert found.checkpoint.graph.places == entry.checkpoint.graph.places
        assert found.checkpoint.graph.tied == entry.checkpoint.graph.tied
        assert found.checkpoint.recorded == entry.checkpoint.recorded
        assert (found.checkpoint.refused_globals, found.checkpoint.remarks) == (entry.checkpoint.refused_globals, entry.checkpoint.remarks)
    assert lock_text(read.values()) == file.read_text()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("version = 1", "version = 2", "version 2"),
        ("version = 1", "", "version None"),
        ("version = 1", "version = 1\nx = 1", "no key 'x'"),
        ("version = 1", "version = ", "no TOML"),
        ("float32[64,3,7,7]", "float32[64,3,7", "not a dtype and a shape"),
        ("float32[64,3,7,7]", "float32[64,-3]", "not a dtype and a shape"),
        ("backbone.conv1.weight", "backbone.conv1.{weight", "no name or pattern"),
        ("backbone.layer1.{0,1}.{bn1,bn2}", "backbone.layer1.{0..99999999}.{bn1,bn2}", "rows"),
        ("backbone.conv1.weight", "decoder.norm.weight", "there twice"),
        ('{"layers" = 21}', '{"layers" = 20}', "counts 20 layers, and the tensors have 21"),
        ('{"layers" = 21}', '{"layers" = 21, "untrained" = ["x"]}', "names something other"),
        ('name = "small-cityscapes"', 'name = "large-voc"', "is there twice"),
        ('format = "safetensors"', "", "contracts[0].format: is missing"),
        ("ReLU {}", "ReLU {", "not a type and its settings"),
        ('format = "safetensors"', 'format = "safetensors"\nplaces.legacy = "0 0,1"', "holds 2 places for 20 tensors"),
        ('format = "safetensors"', 'format = "safetensors"\narrays = ["x.y"]', "arrays: names something other than tensors"),
        ('format = "safetensors"', 'format = "safetensors"\nplaces.other = "0 0"', "places.other: is no layout"),
        ("bytes = ", "byets = ", "no key 'byets'; did you mean bytes"),
    ],
)
def test_what_is_no_lock_is_refused(old, new, says, tmp_path):
    text = (DEMO / "ckptaudit.lock").read_text()
    assert old in text
    file = tmp_path / "ckptaudit.lock"
    file.write_text(text.replace(old, new))
    with pytest.raises(LockError) as error:
        load_lock(file)
    assert says in str(error.value)


def test_half_a_surrogate_pair_is_refused_in_words():
    branch = Branch("\ud800", "model", {})
    checkpoint = Checkpoint(Path("x"), "torch-zip", "torch", branch, "", (branch,), {}, (), 0)
    with pytest.raises(LockError, match="surrogate"):
        lock_text([Locked("x", {}, checkpoint, {}, {})])
