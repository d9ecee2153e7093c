"""Blocks that a file lost: what numbers, ends of series and words say of those that are left, and what they do not."""

from __future__ import annotations

from collections import Counter

import pytest

import ckptaudit
from ckptaudit.align.by_structure.crossings import crossed
from ckptaudit.align.by_structure.shifts import shifted_blocks

BLOCK = {"norm.weight": (8,), "norm.bias": (8,), "up.weight": (32, 8), "up.bias": (32,), "down.weight": (8, 32), "down.bias": (8,)}
STEM = {"conv.weight": (8, 3, 4, 4), "conv.bias": (8,), "project.weight": (8, 8), "project.bias": (8,)}
GATE = {"gate.weight": (5, 5)}
STAGE = {"conv1.weight": (8, 8, 3, 3), "conv2.weight": (16, 8, 1, 1), "norm.weight": (16,), "norm.bias": (16,)}
OTHER_WORDS = {
    "norm": "scale",
    "up": "fc1",
    "down": "fc2",
    "conv": "patch",
    "conv1": "filter1",
    "conv2": "filter2",
    "project": "lift",
    "gate": "valve",
}


def in_other_words(part):
    module, _, role = part.rpartition(".")
    return f"{OTHER_WORDS[module]}.{role}"


def side(blocks, *, other=False):
    """Tensors of blocks of given names and parts."""
    return {
        f"{block}.{in_other_words(part) if other else part}": (shape, "float32")
        for block, parts in blocks.items()
        for part, shape in parts.items()
    }


def stack(prefix, numbers, parts=BLOCK):
    return {f"{prefix}{number}": parts for number in numbers}


def shift(steps, source, target):
    """Differences of the block numbers of sure steps between two series."""
    found = [(step.target, name) for step in steps if step.sure and step.target.startswith(target) for name in step.sources]
    numbers = [(int(t[len(target) :].split(".")[0]), int(s[len(source) :].split(".")[0])) for t, s in found if s.startswith(source)]
    assert len(numbers) == len(found)
    return {t - s for t, s in numbers}


ENDS = [
    # A stack that lost blocks; its whole counterpart; what is sure: equal numbers, or nothing.
    ("the last of a list", "blocks.", range(11), "encoder.layer.", range(12), {0}),
    ("the first of a list", "blocks.", range(1, 12), "encoder.layer.", range(12), {0}),
    ("both ends of a list", "blocks.", range(1, 11), "encoder.layer.", range(12), {0}),
    ("the last third of a list", "blocks.", range(8), "encoder.layer.", range(12), {0}),
    ("the last behind a word", "layer_", range(11), "blocks.", range(12), {0}),
    ("one in the middle", "blocks.", [0, 1, 2, 4, 5], "units.unit", range(1, 7), {1}),
    ("one in the middle, below a name with a number", "blocks.", [0, 1, 2, 4, 5], "data2vec.layer.", range(6), {0}),
    ("the first or the last behind a word, which may count from 1", "layer_", range(1, 12), "blocks.", range(12), set()),
    ("the first or the last, where the other side counts from 1", "blocks.", range(1, 12), "units.unit", range(1, 13), set()),
    ("the last, or every other place of a list", "blocks.", [0, 2, 4], "encoder.layer.", range(5), set()),
    ("the only one that is left", "blocks.", [1], "encoder.layer.", range(3), set()),
]


@pytest.mark.parametrize(("source", "numbers", "target", "others", "expected"), [case[1:] for case in ENDS], ids=[case[0] for case in ENDS])
def test_ends_of_series_say_which_block_is_lost(source, numbers, target, others, expected):
    here, there = side({"stem": STEM, **stack(source, numbers)}), side({"embed": STEM, **stack(target, others)}, other=True)
    assert shift(ckptaudit.propose(here, there).steps, source, target) == expected


def test_a_model_of_fewer_blocks_has_lost_none():
    here, there = side({"stem": STEM, **stack("blocks.", range(12))}), side({"embed": STEM, **stack("layer.", range(11))}, other=True)
    assert shift(ckptaudit.propose(here, there).steps, "blocks.", "layer.") == set()


FLAT = [
    # In a flat list a stage begins anywhere: numbers that fit are no evidence, neither those of the list nor those one beside them.
    (
        "a stage behind a stem that lost its last",
        {"features.0": STEM, **stack("features.", [1, 2])},
        {"stem": STEM, **stack("blocks.", range(3))},
    ),
    (
        "a list that is two ahead",
        {**stack("features.", [0, 1], STEM), **stack("features.", [5], STAGE), **stack("features.", [8, 9])},
        {**stack("stem.", [0, 1], STEM), "v2.layer.3": STAGE, **stack("v2.layer.", [6, 7, 8])},
    ),
    (
        "the same below names without other numbers",
        {**stack("features.", [0, 1], STEM), **stack("features.", [5], STAGE), **stack("features.", [8, 9])},
        {**stack("stem.", [0, 1], STEM), "layer.0": GATE, "layer.3": STAGE, **stack("layer.", [6, 7, 8])},
    ),
]


@pytest.mark.parametrize(("source", "target"), [case[1:] for case in FLAT], ids=[case[0] for case in FLAT])
def test_a_stage_of_a_flat_list_is_not_placed_by_its_numbers(source, target):
    steps = ckptaudit.propose(side(source), side(target, other=True)).steps
    assert steps
    assert [step for step in steps if step.sure and "fc1" in step.target] == []


def projections(size, *names):
    return {f"{name}.{role}": shape for name in names for role, shape in (("weight", (size, size)), ("bias", (size,)))}


def attention(size, *names):
    """A block whose attention has projections of these names; the first is three in one where there are but two."""
    fused = {f"{names[0]}.weight": (3 * size, size), f"{names[0]}.bias": (3 * size,)} if len(names) == 2 else {}
    return fused | projections(size, *names[len(fused) // 2 :]) | {"up.weight": (4 * size, size), "up.bias": (4 * size,)}


APART, UNNAMED, FUSED = ("attn.q", "attn.k", "attn.v", "attn.out"), ("attn.a", "attn.b", "attn.c", "attn.out"), ("attn.qkv", "attn.proj")
FUSIONS = [
    # What the blocks of the file's second stage have left, their numbers, and whether the model's fused projections there are three.
    ("all blocks", APART, [0, 1], True),
    ("one block of two", APART, [1], True),
    ("one block of two, whose words say nothing", UNNAMED, [1], False),
    ("one block of two, which lost its values, too", ("attn.q", "attn.k", "attn.out"), [1], False),
    ("one block of two, fused as in the model", FUSED, [1], False),
]


@pytest.mark.parametrize(("names", "numbers", "split"), [case[1:] for case in FUSIONS], ids=[case[0] for case in FUSIONS])
def test_words_tell_parts_of_fused_projections_where_few_are_left(names, numbers, split):
    first = stack("stages.0.blocks.", range(4), attention(8, *APART))
    source = {"stem": STEM, **first, **stack("stages.1.blocks.", numbers, attention(16, *names))}
    target = {"stem": STEM, **stack("layers.0.", range(4), attention(8, *FUSED)), **stack("layers.1.", [0, 1], attention(16, *FUSED))}
    steps = ckptaudit.propose(side(source), side(target)).steps
    made = {step.target: step for step in steps if "qkv.weight" in step.target}
    expected = [f"stages.1.blocks.1.attn.{part}.weight" for part in "qkv"]
    assert (list(made["layers.1.1.attn.qkv.weight"].sources) == expected if "layers.1.1.attn.qkv.weight" in made else False) is split
    assert all(made[f"layers.0.{number}.attn.qkv.weight"].sure for number in range(4))


SHIFTS = [
    # Atoms of two sides with their shapes, pairs by place in these lists, those whose shapes occur once, and what is refuted.
    ("the same numbers on both sides", ["a.0.x 1", "a.1.x 1", "a.2.x 1"], ["b.0.y 1", "b.1.y 1", "b.2.y 1"], {0: 0, 1: 2}, {1}),
    ("a single shape against another", ["a.1.x 1", "a.2.x 1", "a.5.x 2"], ["b.1.y 1", "b.2.y 1", "b.6.y 2"], {0: 0, 1: 1, 2: 2}, {0, 1}),
    (
        "stages at every other place of a list",
        ["a.1.x 1", "a.1.z 1", "a.2.x 2", "a.3.x 3", "a.3.z 3"],
        ["b.0.y 1", "b.0.z 1", "b.1.y 2", "b.1.z 3", "b.1.u 3"],
        {0: 0, 1: 1, 2: 2, 3: 3, 4: 4},
        set(),
    ),
    (
        "shapes of several blocks, which could be either",
        ["a.1.x 1", "a.2.x 2", "a.3.x 3", "a.4.x 3"],
        ["b.0.y 1", "b.1.y 2", "b.1.z 3", "b.2.y 3"],
        {0: 0, 1: 1, 2: 2, 3: 3},
        {2, 3},
    ),
    (
        "a number that is part of a name",
        ["v2.a.0.x 1", "v2.a.1.x 2", "v2.a.1.z 2"],
        ["b.0.y 1", "b.1.y 2", "b.1.z 2"],
        {0: 0, 1: 1, 2: 2},
        set(),
    ),
]


@pytest.mark.parametrize(("source", "target", "pairs", "refuted"), [case[1:] for case in SHIFTS], ids=[case[0] for case in SHIFTS])
def test_blocks_are_not_shifted_against_what_is_known(source, target, pairs, refuted):
    sides = [[(tuple(path.split(".")), int(shapes)) for path, shapes in map(str.split, rows)] for rows in (source, target)]
    counts = [Counter(shapes for _, shapes in rows) for rows in sides]
    single = {atom for atom in pairs if all(count[sides[0][atom][1]] == 1 for count in counts)}
    assert shifted_blocks(pairs, single, *sides, strict=False) == refuted
    assert shifted_blocks(pairs, single, *sides, strict=True) >= refuted


CROSSINGS = [
    # Pairs of paths with their shapes, and which of them are crosswise.
    ("in order", ["a.0.x b.0.y 1", "a.2.x b.1.y 1", "a.5.x b.7.y 1"], set()),
    ("two of three", ["a.0.x b.1.y 1", "a.1.x b.0.y 1", "a.2.x b.2.y 1"], {0, 1}),
    ("all by one", ["a.0.x b.2.y 1", "a.1.x b.0.y 1", "a.2.x b.1.y 1"], {0, 1, 2}),
    ("other shapes", ["a.0.x b.1.y 1", "a.1.x b.0.y 2", "a.2.x b.2.y 1"], set()),
    ("what else is in such blocks", ["a.0.x b.1.y 1", "a.1.x b.0.y 1", "a.0.z b.1.z 3", "a.1.z b.2.z 3"], {0, 1, 2}),
    ("numbers of layers", ["a.conv1 b.conv2 1", "a.conv2 b.conv1 1"], {0, 1}),
    ("another number differs as well", ["a.0.x1 b.1.y1 1", "a.1.x2 b.0.y2 1"], set()),
    ("two numbers in one word", ["a.s1_b1 b.4 1", "a.s1_b2 b.3 1", "a.s2_b1 b.5 1"], {0, 1}),
    ("a block that is known counts down", ["a.0.x b.1.y 1", "a.1.x b.0.y 1", "a.0.z b.1.z 3 known", "a.1.z b.0.z 4 known"], set()),
    ("one list for stages of blocks", ["a.0.0 b.0 1", "a.0.1 b.1 1", "a.1.0 b.3 1", "a.1.1 b.2 1"], {2, 3}),
]


@pytest.mark.parametrize(("pairs", "expected"), [case[1:] for case in CROSSINGS], ids=[case[0] for case in CROSSINGS])
def test_numbered_equals_that_were_paired_crosswise(pairs, expected):
    paths = [(tuple(here.split(".")), tuple(there.split(".")), int(n), bool(known)) for here, there, n, *known in map(str.split, pairs)]
    is_crossed = crossed(paths)
    assert {i for i, (here, there, *_) in enumerate(paths) if is_crossed(here, there)} == expected
    turned = crossed([(there, here, *rest) for here, there, *rest in reversed(paths)])
    assert {i for i, (here, there, *_) in enumerate(paths) if turned(there, here)} == expected


PROJECTIONS = {f"attention.{word}.{role}": (8, 8) if role == "weight" else (8,) for word in "qkvo" for role in ("weight", "bias")}
SPLIT_BLOCK = {"before.weight": (8,), "before.bias": (8,), **PROJECTIONS, "after.weight": (8,), "after.bias": (8,)}
SPLIT_BLOCK |= {"mlp.fc1.weight": (32, 8), "mlp.fc1.bias": (32,), "mlp.fc2.weight": (8, 32), "mlp.fc2.bias": (8,)}
FUSED_BLOCK = {
    "norm1.weight": (8,),
    "norm1.bias": (8,),
    "attn.in_proj_weight": (24, 8),
    "attn.in_proj_bias": (24,),
    "attn.out_proj.weight": (8, 8),
}
FUSED_BLOCK |= {"attn.out_proj.bias": (8,), "norm2.weight": (8,), "norm2.bias": (8,)}
FUSED_BLOCK |= {"mlp.0.weight": (32, 8), "mlp.0.bias": (32,), "mlp.3.weight": (8, 32), "mlp.3.bias": (8,)}
#: Layers that each side has lost: as they were drawn when a permutation of the blocks left less over than their order.
LOST = {0: "v", 1: "q", 5: "o fc2", 7: "fc2", 8: "v after", 10: "v before", 11: "v"}
LOST_THERE = {1: "in_proj_weight in_proj_bias", 2: "out_proj", 5: "norm1", 6: "out_proj", 9: "out_proj 3", 10: "3", 11: "norm2"}


def test_a_permutation_of_blocks_is_not_sure_because_it_leaves_less_over():
    source, target = (
        side({f"{prefix}{i}": {n: s for n, s in parts.items() if not set(n.split(".")) & set(lost.get(i, "").split())} for i in range(12)})
        for prefix, parts, lost in (("vit.layers.", SPLIT_BLOCK, LOST), ("encoder.layers.encoder_layer_", FUSED_BLOCK, LOST_THERE))
    )
    assert shift(ckptaudit.propose(source, target).steps, "vit.layers.", "encoder.layers.encoder_layer_") == {0}
