"""The layer graph: kinds, roles, and the three kinds of edges, as other programs see them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import networkx
import pytest

from ckptaudit.arch import build_model
from ckptaudit.graph import LayerGraph, TensorSpec
from ckptaudit.graph.export import to_dot, to_graphml, to_node_link

F = "float32"
KINDS = [
    ({"conv.weight": (8, 3, 3, 3), "conv.bias": (8,)}, "torch", "conv"),
    ({"conv.weight": (8, 3, 5)}, "torch", "conv"),
    ({"dw.weight": (8, 1, 3, 3)}, "torch", "depthwise_conv"),
    ({"grey.weight": (8, 1, 3, 3), "grey.bias": (8,)}, "torch", "conv"),
    ({"fc.weight": (10, 8), "fc.bias": (10,)}, "torch", "linear"),
    ({"token_embedding.weight": (100, 8)}, "torch", "embedding"),
    ({"bn.weight": (8,), "bn.bias": (8,), "bn.running_mean": (8,), "bn.running_var": (8,)}, "torch", "batch_norm"),
    ({"bn/gamma:0": (8,), "bn/beta:0": (8,), "bn/moving_mean:0": (8,), "bn/moving_variance:0": (8,)}, "keras", "batch_norm"),
    ({"ln.weight": (8,), "ln.bias": (8,)}, "torch", "norm"),
    ({"rms_norm.weight": (8,)}, "torch", "norm"),
    ({"prelu.weight": (8,)}, "torch", "scale"),
    ({"block.gamma": (8,)}, "torch", "parameter"),
    ({"attn.in_proj_weight": (24, 8), "attn.in_proj_bias": (24,)}, "torch", "attention_in_proj"),
    ({"rnn.weight_ih_l0": (32, 8), "rnn.weight_hh_l0": (32, 8)}, "torch", "recurrent"),
    ({"cls_token": (1, 1, 8)}, "torch", "parameter"),
]


@pytest.mark.parametrize(("tensors", "framework", "kind"), KINDS)
def test_kinds(tensors, framework, kind):
    graph = LayerGraph.from_tensors([TensorSpec(n, s, F) for n, s in tensors.items()], framework)
    assert [layer.kind for layer in graph.layers] == [kind]


def test_roles_are_the_same_across_frameworks():
    keras = LayerGraph.from_tensors(
        [TensorSpec(f"bn/{n}:0", (8,), F) for n in ("gamma", "beta", "moving_mean", "moving_variance")], "keras"
    )
    assert list(keras.layers[0].tensors) == ["weight", "bias", "running_mean", "running_var"]
    assert keras.layers[0].tensors["weight"].name == "bn/gamma:0"


@pytest.fixture(scope="module")
def resnet() -> LayerGraph:
    return build_model("resnet18", trace=True).graph


def test_networkx_has_three_kinds_of_edges(resnet):
    graph = resnet.to_networkx()
    edges = {(a, b, data["relation"]) for a, b, data in graph.edges(data=True)}
    assert ("layer1.0", "layer1.0.conv1", "contains") in edges
    assert ("conv1", "bn1", "precedes") in edges
    assert ("layer1.0.bn2", "layer1.1.conv1", "feeds") in edges  # past the addition and the ReLU
    assert ("bn1", "layer1.1.conv1", "feeds") in edges  # the shortcut around the first block
    tree = networkx.DiGraph((a, b) for a, b, relation in edges if relation == "contains")
    assert networkx.is_arborescence(tree)
    assert sum(data["parameters"] for _, data in graph.nodes(data=True)) == resnet.parameters == 11_689_512


def test_exports_are_read_back(resnet):
    graph = resnet.to_networkx()
    assert len(networkx.parse_graphml(to_graphml(resnet), force_multigraph=True)) == len(graph)
    assert len(networkx.node_link_graph(json.loads(to_node_link(resnet)), edges="edges").edges) == len(graph.edges)
    assert to_dot(resnet).count("->") == len(graph.edges)


def test_exports_are_safe_for_hostile_names():
    graph = LayerGraph.from_tensors([TensorSpec('a"];b\x1b[31m\x00.<x>&\ud800.weight', (1,), F)])
    ET.fromstring(to_graphml(graph))
    for text in (to_graphml(graph), to_dot(graph), to_node_link(graph)):
        assert "\x1b" not in text
        assert "\x00" not in text
        text.encode()


def test_counts_leave_out_buffers_and_aliases():
    graph = LayerGraph.from_tensors(
        [TensorSpec("a.weight", (4, 4), F), TensorSpec("b.weight", (4, 4), F), TensorSpec("bn.running_mean", (4,), F, buffer=True)],
        tied=(("a.weight", "b.weight"),),
    )
    assert (graph.parameters, graph.nbytes) == (16, 16 * 4 + 4 * 4)
    assert graph.select(["b.weight"]).tied == ()


ROWS = {"conv1.weight": "float32", "bn1.weight": "float32", "bn1.bias": "float32", "bn1.count": "int64", "fc.weight": "float32"}
BY_DTYPE = sorted(ROWS, key=lambda name: (ROWS[name] != "int64", name))


@pytest.mark.parametrize(
    ("names", "alphabetical"),
    [
        (list(ROWS), False),
        (sorted(ROWS), True),
        (BY_DTYPE, True),
        (sorted(ROWS, reverse=True), False),
        (["l2.weight", "l10.weight"], True),
        ([], True),
    ],
)
def test_names_in_the_order_of_the_alphabet(names, alphabetical):
    graph = LayerGraph.from_tensors([TensorSpec(name, (4, 4), ROWS.get(name, "float32")) for name in names])
    assert graph.is_alphabetical is alphabetical


def batch_norm(path, channels=4):
    return {f"{path}.{role}": (channels,) for role in ("weight", "bias", "running_mean", "running_var")}


@pytest.mark.parametrize("in_order_of_definition", [True, False])
@pytest.mark.parametrize(
    ("tensors", "behind", "by_names"),
    [
        ({"f.0.weight": (4, 3, 3, 3), **batch_norm("f.1"), "f.2.weight": (4, 4, 3, 3)}, {"f.0": "f.1"}, {"f.0": "f.1"}),
        ({"f.9.weight": (4, 3, 3, 3), **batch_norm("f.10")}, {"f.9": "f.10"}, {"f.9": "f.10"}),
        ({"a.conv2.weight": (4, 3, 3, 3), **batch_norm("a.bn2"), **batch_norm("b.bn1")}, {"a.conv2": "a.bn2"}, {"a.conv2": "a.bn2"}),
        ({"conv_pw.weight": (4, 3, 1, 1), **batch_norm("bn1")}, {"conv_pw": "bn1"}, {}),
        # Where one of that name has other channels, none of them is known to follow.
        (
            {**batch_norm("a.norm1"), "a.conv1.weight": (4, 4, 1, 1), **batch_norm("b.norm1"), "b.conv1.weight": (8, 4, 1, 1)},
            {"a.conv1": "b.norm1"},
            {},
        ),
    ],
)
def test_which_norm_stands_behind_a_kernel(tensors, behind, by_names, in_order_of_definition):
    names = list(tensors) if in_order_of_definition else sorted(tensors)
    graph = LayerGraph.from_tensors([TensorSpec(name, tensors[name], "float32") for name in names])
    assert {kernel: norm.path for kernel, norm in graph.norms_behind.items()} == (behind if in_order_of_definition else by_names)
