"""Emitted code, executed: it gives what Plan.apply gives, with nothing of ours imported."""

from __future__ import annotations

import re
from collections import OrderedDict

import pytest
import torch

from ckptaudit.cli.remap import FORMS
from ckptaudit.errors import PlanError
from ckptaudit.plan.emit import emit, forms
from tests.plan.helpers import every_kind, plan_for, step


def executed(code: str) -> dict:
    assert "ckptaudit" not in re.sub(r"#.*", "", code)
    scope: dict = {}
    exec(compile(code, "emitted", "exec"), scope)
    return scope


def same(given, wanted):
    assert given.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(given[name], tensor, rtol=1e-5, atol=1e-5)


def renaming_plan():
    shapes = {f"module.layer{i}.{j}.{name}": (i, j + 1) for i in (1, 2) for j in range(3) for name in ("conv.weight", "bn.bias")}
    source = {name: torch.randn(shape) for name, shape in {**shapes, "module.head.weight": (7,), "odd 'name'\n\\": (2,)}.items()}
    steps = [step(re.sub(r"module\.layer(\d)\.(\d)\.conv", r"stages.\1.blocks.\2.c", n).removeprefix("module."), n) for n in shapes]
    return plan_for([*steps, step("o'dd\\", "odd 'name'\n\\")], source), source


def test_forms_of_the_command_line():
    assert forms() == FORMS


@pytest.mark.parametrize("make", [every_kind, renaming_plan])
@pytest.mark.parametrize(("form", "function"), [("python", "remap"), ("timm", "checkpoint_filter_fn")])
def test_functions(make, form, function):
    plan, source = make()
    before = {name: tensor.clone() for name, tensor in source.items()}
    remap = executed(emit(plan, form))[function]
    same(remap(source), plan.apply(source))
    same(source, before)


@pytest.mark.parametrize("inside", [False, True])
def test_pre_hook(inside):
    """A model takes the old file by itself, alone or as a part of another, and its own new files as before."""
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"conv": torch.nn.Conv2d(3, 4, 1), "norm": torch.nn.BatchNorm2d(4), "head": torch.nn.Linear(4, 2)})
    source = {f"module.{n.replace('conv', 'stem')}": torch.randn(t.shape) if t.dim() else t for n, t in model.state_dict().items()}
    source["module.aux.weight"] = torch.randn(3)
    plan = plan_for([step(n, f"module.{n.replace('conv', 'stem')}") for n in model.state_dict()], source)
    model.register_load_state_dict_pre_hook(executed(emit(plan, "pre-hook"))["remap_before_loading"])
    whole = torch.nn.ModuleDict({"net": model}) if inside else model
    prefix = "net." if inside else ""
    given = {prefix + name: tensor for name, tensor in source.items()}
    whole.load_state_dict(given)
    same(model.state_dict(), plan.apply(source))
    assert len(given) == len(source)
    whole.load_state_dict(whole.state_dict())


def mmengine(state, revise_keys):
    """As mmengine's load_checkpoint goes through them."""
    for pattern, replacement in revise_keys:
        state = OrderedDict({re.sub(pattern, replacement, name): tensor for name, tensor in state.items()})
    return state


def transformers(state, key_mapping):
    """As transformers 4.5x renames keys: the first pattern that matches."""
    renamed = {}
    for name, tensor in state.items():
        new = name
        for pattern, replacement in key_mapping.items():
            new, count = re.subn(pattern, replacement, name)
            if count:
                break
        renamed[new] = tensor
    return renamed


@pytest.mark.parametrize(
    ("form", "variable", "load"), [("mmengine", "revise_keys", mmengine), ("transformers", "key_mapping", transformers)]
)
def test_key_patterns(form, variable, load):
    plan, source = renaming_plan()
    result = load(source, executed(emit(plan, form))[variable])
    assert {name for name in result if name not in plan.apply(source)} == set(plan.dropped)
    same({name: result[name] for name in plan.apply(source)}, plan.apply(source))


REFUSED = [
    ([step("x", "a", every_kind()[0].steps[0].ops[:0]), step("y", "a")], "a second use of one tensor"),
    ([step("b", "a")], "drops no keys, and b of the file"),
    ([step("b", "a"), step("a", "b")], "change places"),
]


@pytest.mark.parametrize("form", ["mmengine", "transformers"])
def test_what_a_form_cannot_say_is_refused(form):
    plan, _ = every_kind()
    with pytest.raises(PlanError, match=r"renames keys and nothing else, and .* needs transpose:3,2,0,1"):
        emit(plan, form)
    for steps, words in REFUSED:
        with pytest.raises(PlanError, match=words):
            emit(plan_for(steps, {"a": torch.ones(1), "b": torch.ones(1)}), form)


@pytest.mark.parametrize("form", FORMS)
def test_ambiguous_plans_and_empty_ones(form):
    source = {"a": torch.ones(1)}
    with pytest.raises(PlanError, match="ambiguous"):
        emit(plan_for([step("b", "a", grade="ambiguous")], source), form)
    executed(emit(plan_for([step("a", "a")], source), form))
