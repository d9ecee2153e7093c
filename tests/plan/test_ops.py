"""Operations against numpy's and torch's own, and the laws that every chain keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptaudit.align.ops import (
    OPS,
    Concat,
    Fill,
    Fuse,
    Inflate,
    Interpolate,
    Merge,
    Permute,
    Reshape,
    Rows,
    Slice,
    Split,
    Squeeze,
    Sum,
    Unsqueeze,
    apply_ops,
    op_from_json,
    ops_between,
    reverse_ops,
    scrambles,
    shape_after,
)
from ckptaudit.errors import PlanError

# op, shapes of its inputs, shape of the result (None: it does not fit)
SHAPES = [
    (Permute((3, 2, 0, 1)), [(3, 3, 16, 32)], (32, 16, 3, 3)),
    (Permute((1, 0)), [(3, 3, 16)], None),
    (Permute((0, 0)), [(3, 3)], None),
    (Permute(()), [()], ()),
    (Reshape((6, 4)), [(2, 3, 4)], (6, 4)),
    (Reshape((50, 1024, 1, 1)), [(50, 1024)], (50, 1024, 1, 1)),
    (Reshape((1, 5, 1)), [(5,)], (1, 5, 1)),
    (Reshape((3, 2)), [(2, 3)], None),
    (Reshape((1, 3, 2)), [(2, 3, 1)], None),
    (Reshape((5,)), [(2, 3)], None),
    (Reshape((-1,)), [(2, 3)], None),
    (Squeeze(), [(1, 5, 1)], (5,)),
    (Squeeze(), [()], ()),
    (Unsqueeze((0, 2)), [(5,)], (1, 5, 1)),
    (Unsqueeze((0, 0)), [(5,)], None),
    (Unsqueeze((4,)), [(5,)], None),
    (Split(0, 2, 3), [(6, 4)], (2, 4)),
    (Split(0, 3, 3), [(6, 4)], None),
    (Split(0, 0, 4), [(6, 4)], None),
    (Split(2, 0, 2), [(6, 4)], None),
    (Slice(1, 1, 3), [(6, 4)], (6, 2)),
    (Slice(1, 3, 5), [(6, 4)], None),
    (Concat(0), [(2, 4), (3, 4)], (5, 4)),
    (Concat(0), [(2, 4), (3, 5)], None),
    (Concat(1), [(2,), (3,)], None),
    (Concat(0), [], None),
    (Rows((2, 0, -1)), [(3, 4)], (3, 4)),
    (Rows((3,)), [(3, 4)], None),
    (Rows((0,)), [()], None),
    (Rows((0, -1)), [(3, 4), (2, 4)], (2, 4)),
    (Rows((0, -1)), [(3, 4), (3, 4)], None),
    (Inflate(1, "sum"), [(64, 3, 7, 7)], (64, 1, 7, 7)),
    (Inflate(4, "sum"), [(64, 3, 7, 7)], None),
    (Inflate(4, "repeat"), [(64, 3, 7, 7)], (64, 4, 7, 7)),
    (Inflate(4, "stretch"), [(64, 3, 7, 7)], None),
    (Inflate(4, "mean"), [(64, 3)], None),
    (Interpolate((2, 2), (3, 3), 1), [(1, 5, 8)], (1, 10, 8)),
    (Interpolate((2, 2), (3, 3)), [(1, 5, 8)], None),
    (Interpolate((2,), (3, 3)), [(1, 2, 8)], None),
    (Interpolate((2, 2), (3, 3), mode="nearest"), [(1, 4, 8)], None),
    (Fuse("weight", 1e-5), [(8, 3, 3, 3), (8,), (8,)], (8, 3, 3, 3)),
    (Fuse("weight", 1e-5), [(8, 3, 3, 3), (8,)], None),
    (Fuse("bias", 1e-5), [(8,), (8,), (8,), (8,), (8,)], (8,)),
    (Fuse("bias", 1e-5), [(8,), (8,), (8,), (3,)], None),
    (Fuse("scale", 1e-5), [(8,), (8,), (8,)], None),
    (Merge("weight", "conv+biased+norm", 1e-5), [(8, 8, 3, 3), (8,), (8,), (8, 8, 1, 1), (8,), (8,), (8,), (8,)], (8, 8, 3, 3)),
    (Merge("weight", "norm+conv", 1e-5), [(8,), (8,), (8, 2, 3, 3), (8,), (8,)], (8, 2, 3, 3)),
    (Merge("weight", "norm+conv", 1e-5), [(8,), (8,), (8, 3, 3, 3), (8,), (8,)], None),
    (Merge("weight", "norm+conv", 1e-5), [(8,), (8,), (8, 2, 2, 2), (8,), (8,)], None),
    (Merge("weight", "conv+conv", 1e-5), [(8, 8, 3, 3), (8,), (8,), (8, 8, 2, 2), (8,), (8,)], None),
    (Merge("weight", "conv+conv", 1e-5), [(8, 8, 3, 3), (8,), (8,), (8, 4, 1, 1), (8,), (8,)], None),
    (Merge("weight", "norm", 1e-5), [(8,), (8,)], None),
    (Merge("weight", "pool", 1e-5), [(8,), (8,)], None),
    (Merge("weight", "conv+conv", 1e-5), [(8, 8, 3, 3), (8,), (8,)], None),
    (Merge("bias", "conv+biased+norm", 1e-5), [(8,)] * 13, (8,)),
    (Merge("bias", "conv+norm", 1e-5), [(8,)] * 4 + [(4,)] * 4, None),
    (Merge("scale", "conv+norm", 1e-5), [(8,)] * 8, None),
    (Sum(), [(8,), (8,)], (8,)),
    (Sum(), [(8,), (4,)], None),
    (Sum(), [], None),
    (Fill(0.5), [(8, 3)], (8, 3)),
    (Fill(0.5), [(8,), (8,)], None),
]


@pytest.mark.parametrize(("op", "shapes", "result"), SHAPES)
def test_shape_agrees_with_apply(op, shapes, result):
    arrays = [np.arange(1, np.prod(shape, dtype=int) + 1, dtype=np.float32).reshape(shape) for shape in shapes]
    if result is None:
        for call in (lambda: op.result_shape(*shapes), lambda: op.apply(*arrays), lambda: op.reverse(*shapes)):
            with pytest.raises(PlanError) as error:
                call()
            assert "\n" not in str(error.value)
        return
    assert op.result_shape(*shapes) == result
    if not (isinstance(op, Rows) and op.needs_initial and len(shapes) == 1):
        before = [array.copy() for array in arrays]
        assert op.apply(*arrays).shape == result
        assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))


def test_every_operation_is_in_the_table():
    assert {type(op) for op, *_ in SHAPES} == set(OPS.values())


@st.composite
def chains(draw):
    """Shapes of sources and a chain without loss that fits them."""
    shape = tuple(draw(st.lists(st.integers(1, 4), max_size=4)))
    count = draw(st.integers(1, 3))
    shapes, ops, current, joined = [shape] * count, [], [shape] * count, count == 1
    for kind in draw(st.lists(st.sampled_from(["permute", "reshape", "squeeze", "unsqueeze", "concat", "rows", "slice"]), max_size=5)):
        first = current[0]
        if kind == "permute":
            op = Permute(tuple(draw(st.permutations(range(len(first))))))
        elif kind == "reshape":
            wanted = draw(st.sampled_from([(int(np.prod(first)),), (*first, 1), (1, *first)]))
            op = Reshape(wanted)
        elif kind == "squeeze":
            op = Squeeze()
        elif kind == "unsqueeze":
            op = Unsqueeze(tuple(sorted(draw(st.sets(st.integers(0, len(first)), max_size=1)))))
        elif kind == "concat" and not joined and first:
            op, joined = Concat(draw(st.integers(0, len(first) - 1))), True
        elif kind == "rows" and first:
            op = Rows(tuple(draw(st.permutations(range(first[0])))))
        elif kind == "slice" and first:
            op = Slice(0, 0, first[0])
        else:
            continue
        ops.append(op)
        current = [op.result_shape(*current)] if op.joins else [op.result_shape(s) for s in current]
    if len(current) > 1:
        if not current[0]:
            ops.append(Unsqueeze((0,)))
        ops.append(Concat(0))
    return shapes, tuple(ops)


@given(chains(), st.sampled_from(["float32", "int64", "float16"]))
def test_reverse_of_apply_is_the_source(chain, dtype):
    shapes, ops = chain
    arrays = [(np.arange(np.prod(shape, dtype=int)) + 100 * i).astype(dtype).reshape(shape) for i, shape in enumerate(shapes)]
    before = [array.copy() for array in arrays]
    result = apply_ops(ops, arrays)
    assert result.shape == shape_after(ops, shapes)
    undone = reverse_ops(ops, shapes)
    assert undone is not None
    for array, back in zip(before, undone, strict=True):
        assert np.array_equal(apply_ops(back, [result]), array)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))


def test_sources_of_other_sizes_come_back_too():
    shapes = [(4, 2), (1, 2), (1, 2)]
    arrays = [np.random.default_rng(i).normal(size=shape) for i, shape in enumerate(shapes)]
    undone = reverse_ops((Concat(0), Permute((1, 0))), shapes)
    result = apply_ops((Concat(0), Permute((1, 0))), arrays)
    assert [op.spelled() for op in undone[1]] == ["transpose:1,0", "slice:0:4-5"]
    assert all(np.array_equal(apply_ops(back, [result]), array) for back, array in zip(undone, arrays, strict=True))


LOSSY = [
    ((Split(0, 1, 2),), [(4, 2)]),
    ((Inflate(1, "sum"),), [(4, 3, 1, 1)]),
    ((Interpolate((2, 2), (3, 3)),), [(4, 2)]),
    ((Fuse("weight", 1e-5),), [(4, 2), (4,), (4,)]),
    ((Merge("bias", "conv+norm", 1e-5),), [(4,)] * 8),
    ((Sum(),), [(4,)] * 2),
    ((Fill(0.5),), [(4,)]),
    ((Rows((0, 2)),), [(3, 2)]),
    ((Permute((1, 0)), Split(0, 1, 2)), [(2, 4)]),
]


@pytest.mark.parametrize(("ops", "shapes"), LOSSY)
def test_what_is_lost_has_no_reverse(ops, shapes):
    assert reverse_ops(ops, shapes) is None


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.data())
def test_a_reshape_never_stands_for_a_permutation(shape, data):
    wanted = tuple(data.draw(st.permutations(shape)))
    if scrambles(tuple(shape), wanted):
        with pytest.raises(PlanError, match="a permutation is meant"):
            Reshape(wanted).result_shape(tuple(shape))
        with pytest.raises(ValueError, match="cannot read"):
            ops_between(tuple(shape), (), wanted, ())
    else:
        assert Reshape(wanted).result_shape(tuple(shape)) == wanted


@pytest.mark.parametrize(
    ("ops", "initial"), [((Rows((1, -1, 0)),), np.full((3, 2), 7.0)), ((Permute((0, 1)), Rows((1, -1, 0))), np.full((3, 2), 7.0))]
)
def test_rows_keep_initial_values(ops, initial):
    array = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert apply_ops(ops, [array], initial).tolist() == [[3, 4], [7, 7], [1, 2]]
    with pytest.raises(PlanError, match="initial values"):
        apply_ops(ops, [array])
    assert initial.tolist() == [[7, 7]] * 3


def test_several_sources_need_an_operation_that_joins_them():
    with pytest.raises(PlanError, match="joins"):
        apply_ops((), [np.zeros(2), np.zeros(2)])
    with pytest.raises(PlanError, match="one dtype"):
        apply_ops((Concat(0),), [np.zeros(2), np.zeros(2, np.float16)])


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from(["sum", "mean", "repeat"]))
def test_inflate_keeps_what_equal_channels_give(old, new, how):
    if how == "sum":
        new = 1
    kernel = torch.randn(4, old, 3, 3, dtype=torch.float64)
    wide = torch.from_numpy(Inflate(new, how).apply(kernel.numpy()))
    grey = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    if how == "repeat":  # timm's adapt_input_conv
        times = -(-new // old)
        torch.testing.assert_close(wide, kernel.repeat(1, times, 1, 1)[:, :new] * (old / new))
        if new % old:
            return
    torch.testing.assert_close(torch.conv2d(grey.expand(1, new, 8, 8), wide), torch.conv2d(grey.expand(1, old, 8, 8), kernel))


@settings(deadline=None, max_examples=150)
@given(
    st.tuples(st.integers(1, 17), st.integers(1, 17)),
    st.tuples(st.integers(1, 17), st.integers(1, 17)),
    st.integers(0, 2),
    st.integers(0, 3),
    st.sampled_from(["bicubic", "bilinear"]),
    st.booleans(),
)
def test_interpolate_as_torch(old, new, prefix, suffix, mode, antialias):
    table = torch.randn(prefix + old[0] * old[1] + suffix, 5)
    ours = Interpolate(old, new, prefix, suffix, mode, antialias).apply(table[None].numpy())[0]
    end = len(table) - suffix
    grid = table[prefix:end].reshape(1, *old, 5).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=new, mode=mode, antialias=antialias, align_corners=False)
    theirs = torch.cat([table[:prefix], grid.permute(0, 2, 3, 1).reshape(-1, 5), table[end:]])
    torch.testing.assert_close(torch.from_numpy(ours), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
def test_fuse_as_torch(bias):
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(3, 8, 3, bias=bias), torch.nn.BatchNorm2d(8, eps=1e-3).eval()
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            tensor.normal_()
        norm.running_var.uniform_(0.5, 2)
    fused = torch.nn.utils.fuse_conv_bn_eval(conv.eval(), norm)
    given = [t.detach().numpy() for t in (norm.weight, norm.running_var)]
    weight = Fuse("weight", 1e-3).apply(conv.weight.detach().numpy(), *given)
    vectors = [t.detach().numpy() for t in (norm.bias, norm.weight, norm.running_mean, norm.running_var, *([conv.bias] if bias else []))]
    torch.testing.assert_close(torch.from_numpy(weight), fused.weight.detach())
    torch.testing.assert_close(torch.from_numpy(Fuse("bias", 1e-3).apply(*vectors)), fused.bias.detach())


@pytest.mark.parametrize("op", [op for op, _, result in SHAPES if result is not None])
def test_operations_are_read_back(op):
    assert op_from_json({"op": op.name, **op.params}) == op


BAD_OPS = [
    ([], "key 'op'"),
    ({}, "key 'op'"),
    ({"op": "shuffle"}, "no operation 'shuffle'"),
    ({"op": "permute"}, "lacks its parameter 'perm'"),
    ({"op": "permute", "perm": [1.0, 0]}, "list of integers"),
    ({"op": "permute", "perm": [True, 0]}, "list of integers"),
    ({"op": "permute", "perm": [0], "by": 1}, "no parameter 'by'"),
    ({"op": "split", "dim": "0", "index": 0, "of": 2}, "type int"),
    ({"op": "fuse", "part": "bias", "eps": True}, "type float"),
]


@pytest.mark.parametrize(("value", "words"), BAD_OPS)
def test_bad_operations_are_told(value, words):
    with pytest.raises(PlanError, match=words):
        op_from_json(value)


def test_half_precision_is_computed_wide_and_given_back():
    import ml_dtypes

    kernel = np.full((1, 3, 1, 1), 0.1, ml_dtypes.bfloat16)
    assert Inflate(1, "sum").apply(kernel).dtype == ml_dtypes.bfloat16
    with pytest.raises(PlanError, match="real numbers"):
        Inflate(1, "sum").apply(kernel.astype(np.int32))
