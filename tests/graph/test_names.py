"""Names: what is folded can be unfolded, and nothing is cut inside a segment."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptaudit.graph.names import collapse_modules, common_prefix, fold_names, is_under, leaf, parent, split_name

TORCH = ["layer1", "layer2", "0", "1", "2", "10", "conv", "bn1", "weight", "bias", "a_b", "é", "x{y", "01"]
KERAS = ["conv2d", "conv2d_1", "conv2d_2", "block1_conv1", "block1_conv2", "block2_conv1", "block2_conv2", "block01_conv2", "1x1", "٣"]
SEGMENTS = st.sampled_from([*TORCH, *KERAS])
NAMES = st.lists(SEGMENTS, min_size=1, max_size=5).map(".".join)


def expand(pattern: str) -> list[str]:
    """What a shell would make of a pattern, the innermost braces first; ``a..b`` counts."""
    inner = re.search(r"\{([^{}]+)\}", pattern)
    if inner is None:
        return [pattern]
    found = []
    for item in inner[1].split(","):
        low, dots, high = item.partition("..")
        for value in [str(n) for n in range(int(low), int(high) + 1)] if dots else [item]:
            found += expand(pattern[: inner.start()] + value + pattern[inner.end() :])
    return list(dict.fromkeys(found))


@given(st.lists(NAMES.filter(lambda name: "{" not in name), max_size=30))
def test_folding_loses_and_invents_nothing(names):
    unfolded = [name for pattern in fold_names(names) for name in expand(pattern)]
    assert sorted(unfolded) == sorted(set(names))


@given(st.lists(NAMES, max_size=30))
def test_folding_survives_any_name(names):
    assert len(fold_names(names)) <= len(set(names))


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        ([], []),
        (["conv1.weight"], ["conv1.weight"]),
        (["bn.weight", "bn.bias"], ["bn.{weight,bias}"]),
        ([f"layer4.{i}.conv1.weight" for i in range(3)], ["layer4.{0..2}.conv1.weight"]),
        ([f"layer{i}.0.bn.bias" for i in (1, 2, 4)], ["layer{1,2,4}.0.bn.bias"]),
        (["a.0.w", "a.1.w", "b.0.w"], ["a.{0,1}.w", "b.0.w"]),
        (["block1/conv/kernel:0", "block2/conv/kernel:0"], ["block{1,2}/conv/kernel:0"]),
        (["a{0}.w", "a{1}.w"], ["a{0}.w", "a{1}.w"]),
        (["conv2d/kernel", *(f"conv2d_{i}/kernel" for i in range(1, 30))], ["{conv2d,conv2d_{1..29}}/kernel"]),
        ([f"layers/conv2d_{i}/vars/{j}" for i in (12, 13) for j in (0, 1)], ["layers/conv2d_{12,13}/vars/{0,1}"]),
        (
            [f"block{i}_conv{j}/{role}" for i, last in [(1, 2), (2, 2), (3, 3)] for j in range(1, last + 1) for role in ("kernel", "bias")],
            ["{block{1,2}_conv{1,2},block3_conv{1..3}}/{kernel,bias}"],
        ),
        (["layer1.w", "layer2.w", "fc.w"], ["{layer{1,2},fc}.w"]),
        (["x1.w", "x01.w", "x2.w"], ["{x{1,2},x01}.w"]),
    ],
)
def test_folding(names, folded):
    assert fold_names(names) == folded


@pytest.mark.parametrize(
    ("names", "everything", "collapsed"),
    [
        (["a.x", "a.y"], ["a.x", "a.y", "b.x"], ["a.**"]),
        (["a.x"], ["a.x", "a.y", "b.x"], ["a.x"]),
        (["a.b.x", "a.c.y"], ["a.b.x", "a.b.z", "a.c.y"], ["a.b.x", "a.c.**"]),
        (["x"], ["x", "a.x"], ["x"]),
        ([], ["x"], []),
    ],
)
def test_whole_modules_collapse(names, everything, collapsed):
    assert collapse_modules(names, everything) == collapsed


@pytest.mark.parametrize(
    ("name", "prefix", "under"),
    [("block1.x", "block", False), ("block1.x", "block1", True), ("block1", "block1", True), ("a/b", "a", True), ("x", "", True)],
)
def test_under_is_by_whole_segments(name, prefix, under):
    assert is_under(name, prefix) is under


def test_parts_of_a_name():
    assert split_name("a.b/c:0") == ("a", "b", "c:0")
    assert (parent("a.b.c"), leaf("a.b.c")) == ("a.b", "c")
    assert (parent("c"), leaf("c")) == ("", "c")
    assert common_prefix(["a.b.c", "a.b.d", "a.bc.e"]) == "a"
    assert common_prefix(["a.b.c"]) == "a.b"
    assert common_prefix([]) == ""
