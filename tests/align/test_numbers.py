"""Numbers in names are evidence while they count something: names such as ``m37`` may have been given at random."""

from __future__ import annotations

import random

import pytest

import ckptaudit
from ckptaudit.arch import build_model

NAMES = ["torchvision:resnet18", "torchvision:vgg11", "torchvision:densenet121", "torchvision:mobilenet_v2", "timm:vit_tiny_patch16_224"]


def side(graph, new_name):
    return {new_name(spec.name): (spec.shape, spec.dtype) for spec in graph}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("change", ["numbers alone", "shuffled", "shuffled, with more in every normalisation"])
def test_numbers_given_at_random_make_nothing_sure(name, seed, change):
    graph = build_model(name).graph
    modules = list(dict.fromkeys(spec.name.rpartition(".")[0] for spec in graph))
    numbers = random.Random(seed).sample(range(len(modules)), len(modules))
    new = {module: f"m{number}" for module, number in zip(modules, numbers, strict=True)}
    old_names = {spec.name: f"{new[spec.name.rpartition('.')[0]]}.{spec.name.rpartition('.')[2]}" for spec in graph}
    source = side(graph, old_names.__getitem__)
    if change != "numbers alone":
        random.Random(seed).shuffle(modules)
        source = {name: spec for module in modules for name, spec in source.items() if name.startswith(f"{new[module]}.")}
    if "more" in change:  # as synchronised BatchNorm of several libraries keeps it
        more = {name.replace(".running", "._tmp_running"): spec for name, spec in source.items() if ".running" in name}
        at = {name: number for number, name in enumerate(source)}
        source = dict(sorted((source | more).items(), key=lambda item: at[item[0].replace("_tmp_", "")]))
    plan = ckptaudit.propose(source, side(graph, lambda name: name))
    assert plan.steps
    assert [step for step in plan.steps if step.sure and step.sources != (old_names[step.target],)] == []


@pytest.mark.parametrize("name", NAMES)
def test_numbers_that_count_are_believed_in_any_order(name):
    """Other words, the same numbers, tensors in the alphabet's order or any other."""
    graph = build_model(name).graph
    words = {"features": "trunk", "layer": "stage", "conv": "filter", "blocks": "parts", "denselayer": "inner", "norm": "scale"}

    def renamed(name):
        for word, other in words.items():
            name = name.replace(word, other)
        return name

    mixed = list(graph)
    random.Random(0).shuffle(mixed)
    for specs in (sorted(graph, key=lambda spec: renamed(spec.name)), mixed):
        plan = ckptaudit.propose({renamed(s.name): (s.shape, s.dtype) for s in specs}, side(graph, lambda name: name))
        sure = [step for step in plan.steps if step.sure]
        assert len(sure) > 0.8 * len(graph)
        assert [step for step in sure if step.sources != (renamed(step.target),)] == []
