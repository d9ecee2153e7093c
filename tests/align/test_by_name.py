"""Alignment by names: wrappers at any place, prefixes exchanged, and nothing claimed that is not known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptaudit.align import align, align_by_name
from ckptaudit.align.by_name.wrappers import WRAPPERS, unwrap
from ckptaudit.arch import build_model
from ckptaudit.graph import LayerGraph, TensorSpec


@pytest.fixture(scope="module")
def resnet() -> LayerGraph:
    return build_model("resnet18").graph


def renamed(graph: LayerGraph, rename, keep=lambda name: True) -> LayerGraph:
    return LayerGraph.from_tensors([TensorSpec(rename(s.name), s.shape, s.dtype, s.buffer) for s in graph if keep(s.name)])


def mapping(alignment) -> dict[str, str]:
    return {target: pair.sources[0] for target, pair in alignment.pairs.items()}


# what was done to every name → how the file's name is found again, and what the alignment says of it
WHOLE = [
    ("nothing", lambda n: n, set(), []),
    ("data parallel", lambda n: f"module.{n}", {"module"}, []),
    ("compiled and parallel", lambda n: f"_orig_mod.module.{n}", {"module", "_orig_mod"}, []),
    ("twice parallel", lambda n: f"module.module.{n}", {"module"}, []),
    ("in the middle", lambda n: n.replace("layer2.", "layer2._checkpoint_wrapped_module."), {"_checkpoint_wrapped_module"}, []),
    ("Lightning", lambda n: f"model.{n}", set(), [("model", "")]),
    ("Lightning around parallel", lambda n: f"model.module.{n}", {"module"}, [("model", "")]),
    ("inside a detector", lambda n: f"detector.backbone.{n}", set(), [("detector.backbone", "")]),
]


@pytest.mark.parametrize(("what", "rename", "wrappers", "scopes"), WHOLE, ids=[row[0] for row in WHOLE])
def test_whole_networks_are_found(resnet, what, rename, wrappers, scopes):
    alignment = align_by_name(renamed(resnet, rename), resnet)
    assert mapping(alignment) == {name: rename(name) for name in resnet.tensors}
    assert all(pair.grade == "decided" and not pair.ops for pair in alignment.pairs.values())
    assert set(alignment.wrappers) == wrappers
    assert [(scope.source, scope.target) for scope in alignment.scopes] == scopes
    assert not alignment.unmatched_source
    assert not alignment.unmatched_target


def test_a_wrapped_model_takes_a_bare_file(resnet):
    wrapped = renamed(resnet, lambda n: f"module.{n}")
    assert mapping(align_by_name(resnet, wrapped)) == {f"module.{name}": name for name in resnet.tensors}


def test_backbone_into_a_larger_model(resnet):
    model = renamed(resnet, lambda n: f"backbone.{n}", keep=lambda n: not n.startswith("fc"))
    alignment = align_by_name(resnet, model)
    assert mapping(alignment) == {name: name.removeprefix("backbone.") for name in model.tensors}
    assert alignment.unmatched_source == ("fc.weight", "fc.bias")


def test_two_towers_are_not_told_apart(resnet):
    both = [*renamed(resnet, lambda n: f"encoder_q.{n}"), *renamed(resnet, lambda n: f"encoder_k.{n}")]
    alignment = align_by_name(LayerGraph.from_tensors(both), resnet)
    assert {pair.grade for pair in alignment.pairs.values()} == {"ambiguous"}
    assert all(pair.runner_up for pair in alignment.pairs.values())
    assert set(alignment.scopes[0].rivals) | {alignment.scopes[0].source} == {"encoder_q", "encoder_k"}


def test_other_shapes_are_not_pairs(resnet):
    other = build_model("resnet18", {"num_classes": 10}).graph
    alignment = align_by_name(other, resnet)
    assert dict(alignment.mismatched) == {"fc.weight": "fc.weight", "fc.bias": "fc.bias"}
    assert len(alignment.pairs) == len(resnet) - 2


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("resnet18", "vgg11"),
        ("vgg11_bn", "densenet121"),
        ("mobilenet_v2", "vit_b_16"),
        ("squeezenet1_0", "alexnet"),
    ],
)
def test_other_networks_are_not_claimed(source, target):
    source_graph, target_graph = build_model(source).graph, build_model(target).graph
    alignment = align_by_name(source_graph, target_graph)
    assert len(alignment.pairs) <= 0.02 * len(target_graph)


def test_a_name_that_two_tensors_would_take_is_left_alone(resnet):
    twice = LayerGraph.from_tensors([*renamed(resnet, lambda n: f"module.{n}"), *renamed(resnet, lambda n: f"_orig_mod.{n}")])
    assert not any(pair.sure for pair in align_by_name(twice, resnet).pairs.values())


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("module.a.weight", "a.weight"),
        ("a.module.weight", "a.weight"),
        ("module_act.weight", "module_act.weight"),
        ("submodule.module", "submodule.module"),
        ("module", "module"),
        ("_orig_mod.module.a._fsdp_wrapped_module.module.b", "a.b"),
    ],
)
def test_unwrapping_is_by_whole_segments(name, bare):
    assert unwrap(name)[0] == bare


@given(st.lists(st.sampled_from([*WRAPPERS, "conv", "module_list", "0", "x"]), min_size=1, max_size=8).map(".".join))
def test_unwrapping_is_a_fixpoint(name):
    once = unwrap(name)[0]
    assert unwrap(once) == (once, ())


@pytest.mark.parametrize(
    ("part", "renames"),
    [
        ("neck.", {"norm": "bn"}),  # a module of which one layer alone is known
        ("neck.", {"conv": "proj", "norm": "bn"}),  # and one of which nothing is
    ],
)
def test_a_layer_renamed_where_it_stands_is_sure_among_equal_names(resnet, part, renames):
    neck = [TensorSpec("neck.conv.weight", (32, 512, 3, 3), "float32")]
    neck += [
        TensorSpec(f"neck.norm.{role}", (32,), "float32", role.startswith("run"))
        for role in ("weight", "bias", "running_mean", "running_var")
    ]
    source = LayerGraph.from_tensors([*resnet, *neck])

    def rename(name):
        below = name.removeprefix(part)
        layer, dot, role = below.partition(".")
        return name if below == name else part + renames.get(layer, layer) + dot + role

    target = renamed(source, rename)
    alignment = align(source, target)
    assert mapping(alignment) == {rename(spec.name): spec.name for spec in source}
    assert all(pair.sure for pair in alignment.pairs.values())
