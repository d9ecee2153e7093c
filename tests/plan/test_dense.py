"""Transposed arrays are laid out anew box by box: every element in its place, whatever the shape."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptaudit.align.ops import dense

#: Sizes on both sides of a box's, and shapes that are copied by boxes in each order of their axes, remainders included.
_SHAPES = [
    (3, 3, 300, 130),
    (7, 129, 257),
    (1031, 257),
    (5, 1, 1, 33001),
    (2, 3, 4, 5, 2000),
    (16, 16, 16, 65),
    (130, 2, 2, 2, 200),
    (140000, 2),
    (900, 911),
]


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(_SHAPES), st.sampled_from(["f4", "f8", "i1", "c16", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn]), st.data())
def test_same_values_in_c_order(shape, dtype, data):
    array = (np.arange(np.prod(shape)) % 101).astype(dtype).reshape(shape).transpose(data.draw(st.permutations(range(len(shape)))))
    if data.draw(st.booleans()):
        array = array[tuple(slice(None, None, data.draw(st.sampled_from([1, 1, 2, -1]))) for _ in shape)]
    before = array.copy(order="K")
    result = dense(array)
    assert result.flags.c_contiguous
    assert result.dtype == array.dtype
    np.testing.assert_array_equal(result.view("u1"), np.ascontiguousarray(array).view("u1"))
    np.testing.assert_array_equal(array, before, strict=True)


@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (2, 0, 5)])
def test_nothing_to_lay_out(shape):
    np.testing.assert_array_equal(dense(np.ones(shape).T), np.ones(shape).T, strict=True)


def test_an_expanded_array_becomes_whole():
    array = np.broadcast_to(np.arange(70000.0), (3, 70000)).T
    np.testing.assert_array_equal(dense(array), array, strict=True)
