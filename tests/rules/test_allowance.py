"""What a project allows is found all the same, and stands in the way of nothing."""

import pytest

from ckptaudit.arch import Model
from ckptaudit.graph import LayerGraph, TensorSpec
from ckptaudit.pipeline import compare
from ckptaudit.read import Branch, Checkpoint
from ckptaudit.read.stored import Storage, StoredTensor, contiguous_strides
from ckptaudit.rules.allowance import Allowance

FILE = {"body.weight": (8, 8), "body.bias": (8,), "neck.weight": (9, 8), "neck.bias": (9,), "head.weight": (3, 9), "head.bias": (3,)}
MODEL = {**FILE, "extra.weight": (4, 4), "extra.bias": (4,)}


def checkpoint(tensors, tmp_path):
    stored = {
        name: StoredTensor(shape, contiguous_strides(shape), "float32", 0, Storage(name, tmp_path, 0, 0, "not at hand"))
        for name, shape in tensors.items()
    }
    branch = Branch("", "model", stored)
    return Checkpoint(tmp_path, "test", "torch", branch, "", (branch,), {}, (), 0)


def model(tensors):
    return Model("model", "object", LayerGraph.from_tensors(TensorSpec(name, shape, "float32") for name, shape in tensors.items()))


@pytest.mark.parametrize(
    ("allow", "status", "fit"),
    [
        ([], "incompatible", False),
        ([Allowance("missing-layers", "new since 1.0")], "compatible", True),
        ([Allowance("missing-layers", "new since 1.0", ("extra.*",))], "compatible", True),
        ([Allowance("missing-layers", "new since 1.0", ("extra.weight",))], "incompatible", False),
        ([Allowance("unexpected-layers", "not this one")], "incompatible", False),
    ],
)
def test_an_allowed_gap_is_no_gap(allow, status, fit, tmp_path):
    audit = compare(checkpoint(FILE, tmp_path), model(MODEL), allow=allow)
    (finding,) = audit.findings
    assert finding.rule == "missing-layers"
    assert (audit.verdict.status, audit.verdict.fit) == (status, fit)
    assert (finding.severity, finding.allowed) == (("note", "new since 1.0") if fit else ("error", ""))
    assert ("missing-layers allowed" in audit.verdict.summary.lower()) == fit


def test_what_is_allowed_hides_nothing_else(tmp_path):
    other = {**MODEL, "head.weight": (7, 9), "head.bias": (7,)}
    audit = compare(checkpoint(FILE, tmp_path), model(other), allow=[Allowance("missing-layers", "new since 1.0")])
    assert [f.rule for f in audit.findings if not f.allowed] == ["num-classes"]
    assert not audit.verdict.fit
