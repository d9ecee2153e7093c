"""Laws of the alignment: what must hold whatever the names, and when both sides have holes."""

from __future__ import annotations

import random
import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptaudit.align import align
from ckptaudit.align.ops import Split
from ckptaudit.arch import build_model
from ckptaudit.graph import LayerGraph, TensorSpec

NAMES = ("resnet18", "vit_b_16", "mobilenet_v3_small")


@cache
def graph_of(name):
    return build_model(name).graph


def renamed(graph, seed):
    """The graph with every word but the roles replaced by one of its own, and old name → new name."""
    rng = random.Random(seed)
    words: dict[str, str] = {}

    def word_for(match):
        return words.setdefault(match[0], "".join(rng.choice("bdfgklmnprst") + rng.choice("aeiou") for _ in range(3)) + "x" * len(words))

    def new(name):
        *front, role = name.split(".")
        return ".".join([*(re.sub("[a-zA-Z]+", word_for, part) for part in front), role])

    names = {name: new(name) for name in graph.tensors}
    return LayerGraph.from_tensors(TensorSpec(names[t.name], t.shape, t.dtype) for t in graph), names


def without(graph, dropped):
    return LayerGraph.from_tensors(t for t in graph if t.name.rpartition(".")[0] not in dropped)


def content(graph):
    return [(t.name, t.shape, t.dtype) for t in graph]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_renaming_is_given_back(name, seed):
    graph = graph_of(name)
    source, names = renamed(graph, seed)
    before = content(source), content(graph)
    pairs = align(source, graph).pairs
    assert (content(source), content(graph)) == before
    assert {t: p.sources for t, p in pairs.items() if p.sure and p.sources != (names[t],)} == {}
    assert sum(p.sources == (names[t],) for t, p in pairs.items()) >= 0.95 * len(graph)


@pytest.mark.parametrize("share", [0.03, 0.1, 0.3])
@pytest.mark.parametrize("seed", range(10))
def test_with_holes_in_both_sides_nothing_wrong_is_claimed(seed, share):
    graph = graph_of("resnet18")
    rng = random.Random(seed)
    modules = sorted({name.rpartition(".")[0] for name in graph.tensors})
    one, other = ({*rng.sample(modules, max(1, round(share * len(modules))))} for _ in range(2))
    source, names = renamed(without(graph, one), seed)
    target = without(graph, other)
    pairs = align(source, target).pairs
    assert {t: p.sources for t, p in pairs.items() if p.sure and p.sources != (names.get(t),)} == {}
    used = [s for p in pairs.values() for s in p.sources if not any(isinstance(op, Split) for op in p.ops)]
    assert len(used) == len(set(used)), "two targets take one tensor"


def test_an_identical_pair_is_decided_by_its_names():
    for graph in map(graph_of, NAMES):
        alignment = align(graph, graph)
        assert {t: (p.sources, p.ops, p.grade) for t, p in alignment.pairs.items()} == {t: ((t,), (), "decided") for t in graph.tensors}
        assert not alignment.structural


@pytest.mark.parametrize("seed", range(8))
def test_what_has_its_name_on_both_sides_is_not_given_away(seed):
    graph = graph_of("vit_b_16")
    rng = random.Random(seed)
    modules = sorted({name.rpartition(".")[0] for name in graph.tensors})
    one, other = ({*rng.sample(modules, rng.randint(1, 9))} for _ in range(2))
    changed = {*rng.sample(modules, 3)}
    source, target = without(graph, one), without(graph, other)
    wrapped = LayerGraph.from_tensors(
        TensorSpec(f"module.{t.name}", (5, *t.shape) if t.name.rpartition(".")[0] in changed else t.shape, t.dtype) for t in source
    )
    pairs = align(wrapped, target).pairs
    equal = [t.name for t in source if t.name in target.tensors and t.name.rpartition(".")[0] not in changed]
    assert {name: pairs.get(name) for name in equal if name not in pairs or pairs[name].sources != (f"module.{name}",)} == {}
    assert all(pair.sources == (f"module.{name}",) for name, pair in pairs.items() if pair.sure)
