"""Folded rows give back the very same rows, in their order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptaudit.lock.folding import fold, unfold

PLAIN = ["0", "1", "2", "3", "10", "01", "a", "b", "weight", "bias"]
WORDS = st.sampled_from([*PLAIN, "", "{0,1}", "0..2", "x,y", "é", " ", "\\", "\ud800", "'''", "\n"])
NAMES = st.lists(st.tuples(WORDS, st.sampled_from([".", "/", ""])), max_size=5).map(lambda parts: "".join(a + b for a, b in parts))


@settings(max_examples=150)
@given(st.lists(st.tuples(NAMES, st.sampled_from(["f32[8]", "f32[4]"])), max_size=30))
def test_any_rows_come_back(rows):
    assert unfold(fold(rows)) == rows


@settings(max_examples=60)
@given(st.permutations([f"{block}.{layer}.{role}" for block in (0, 1) for layer in ("x", "y") for role in ("weight", "bias")]))
def test_any_order_comes_back(names):
    rows = [(name, "f32[8]") for name in names]
    assert unfold(fold(rows)) == rows


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        (["a.weight", "a.bias"], ["a.{weight,bias}"]),
        ([f"l.{i}.{r}" for i in range(3) for r in ("weight", "bias")], ["l.{0..2}.{weight,bias}"]),
        ([f"l.{i}.c{j}.w" for i in range(2) for j in (1, 2)], ["l.{0,1}.{c1,c2}.w"]),
        (["l.0.x", "l.1.x", "l.0.y", "l.1.y"], ["l.{0,1}.x", "l.0.y", "l.1.y"]),
        (["l.0.x", "l.10.x", "l.1.x"], ["l.{0,10,1}.x"]),
        (["l.0.x", "l.0.y", "l.1.x", "l.1.y"], ["l.{0,1}.{x,y}"]),
        (["a.b", "a/b"], ["a.b", "a/b"]),
        (["a b{", "c"], ["{a\\000020b\\00007b,c}"]),
    ],
)
def test_blocks_fold(names, folded):
    rows = fold([(name, "") for name in names])
    assert [name for name, _ in rows] == folded
    assert [name for name, _ in unfold(rows)] == names


def test_a_body_of_several_rows_is_one_loop():
    assert [n for n, _ in unfold([("l.{0,1}.x", "1"), ("l.{0,1}.y", "2")])] == ["l.0.x", "l.0.y", "l.1.x", "l.1.y"]


@pytest.mark.parametrize("name", ["a{", "a.}b", "a\\zz", "x.{0..999999999}.{0..999999999}", "a{0,1}b"])
def test_nonsense_is_refused(name):
    with pytest.raises(ValueError, match=r"rows|pattern|backslash"):
        unfold([(name, "")])
