"""Names folded in order come back name for name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptaudit.errors import PlanError
from ckptaudit.plan.folding import fold_in_order, unfold

TABLE = [
    ([], []),
    (["a"], ["a"]),
    (["bn.weight", "bn.bias"], ["bn.{weight,bias}"]),
    ([f"b.{i}.{w}" for i in range(4) for w in "xy"], ["b.{0..3}.{x,y}"]),
    (["a.0.x", "a.2.x"], ["a.{0,2}.x"]),
    (["a.x", "b.x", "a.y"], ["a.x", "b.x", "a.y"]),
    (["a{0}.x,y", "b\\"], [r"a\{0\}.x\,y", r"b\\"]),
    (["a", "a"], ["a", "a"]),
]


@pytest.mark.parametrize(("names", "patterns"), TABLE)
def test_folding(names, patterns):
    assert fold_in_order(names) == patterns
    assert [name for pattern in patterns for name in unfold(pattern)] == names


@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "0", "1", "2", "{", ",", "\\", "", "0..2", "é"]), min_size=1, max_size=6).map(".".join)),
    st.booleans(),
)
def test_folded_names_come_back_in_order(names, in_order):
    names = sorted(names) if in_order else names
    assert [name for pattern in fold_in_order(names) for name in unfold(pattern)] == names


BAD = ["a{b", "a}b", "{a,{b}", "{0..99999999}", "{0..999}{0..999}{0..999}", "{" * 200 + "a" + "}" * 200]


@pytest.mark.parametrize("pattern", BAD)
def test_bad_patterns_are_told(pattern):
    with pytest.raises(PlanError):
        unfold(pattern)
