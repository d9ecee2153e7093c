"""Plans for tests: a renamed network with a fused projection, transposed kernels, dropped and initial tensors."""

from __future__ import annotations

import torch

from ckptaudit.align import Alignment, Pair
from ckptaudit.align.ops import Concat, Fuse, Inflate, Interpolate, Permute, Reshape, Rows, Slice, Split, Squeeze, Unsqueeze
from ckptaudit.graph import LayerGraph, TensorSpec
from ckptaudit.plan import Plan, make_plan


def graph_of(state: dict[str, torch.Tensor]) -> LayerGraph:
    return LayerGraph.from_tensors(TensorSpec(n, tuple(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in state.items())


def step(target, sources, ops=(), grade="decided", confidence=1.0, evidence=("same name",), runner_up=None) -> Pair:
    return Pair(target, (sources,) if isinstance(sources, str) else tuple(sources), tuple(ops), grade, confidence, evidence, runner_up)


def plan_for(steps: list[Pair], source: dict[str, torch.Tensor], initial: dict[str, torch.Tensor] | None = None) -> Plan:
    """A plan whose target side is just its steps' names and what is left initial."""
    target = {s.target: torch.zeros(1) for s in steps} | (initial or {})
    return make_plan(Alignment({s.target: s for s in steps}, {}, (), ()), graph_of(source), graph_of(target))


def every_kind() -> tuple[Plan, dict[str, torch.Tensor]]:
    """A plan with every operation, and a source for it."""
    torch.manual_seed(0)
    shapes = {
        f"module.blocks.{i}.{name}": shape for i in range(3) for name, shape in {"conv.kernel": (3, 3, 4, 8), "norm.weight": (8,)}.items()
    }
    shapes |= {"module.qkv.weight": (12, 4), "module.q.weight": (4, 4), "module.k.weight": (2, 4), "module.v.weight": (2, 4)}
    shapes |= {
        "module.scale": (1, 8, 1),
        "module.vector": (8,),
        "module.pos": (1, 5, 6),
        "module.stem": (8, 3, 3, 3),
        "module.unused": (2,),
    }
    shapes |= {"module.head.weight": (5, 8), "module.bn.gamma": (8,), "module.bn.var": (8,), "module.bn.beta": (8,), "module.bn.mean": (8,)}
    source = {name: torch.rand(shape) + 0.5 for name, shape in shapes.items()}
    steps = []
    for i in range(3):
        steps.append(
            step(f"h.{i}.conv.weight", f"module.blocks.{i}.conv.kernel", [Permute((3, 2, 0, 1))], "ordered", 0.9, ("order", "tree"))
        )
        steps.append(step(f"h.{i}.norm.weight", f"module.blocks.{i}.norm.weight"))
    steps += [step(f"{name}.weight", "module.qkv.weight", [Split(0, i, 3)]) for i, name in enumerate("qkv")]
    bn = ["module.bn.beta", "module.bn.gamma", "module.bn.mean", "module.bn.var"]
    steps += [
        step("in_proj", ["module.q.weight", "module.k.weight", "module.v.weight"], [Concat(0)], runner_up=("module.qkv.weight",)),
        step("transposed", ["module.k.weight", "module.v.weight"], [Permute((1, 0)), Concat(1)]),
        step("part", "module.qkv.weight", [Slice(0, 2, 9)]),
        step("scale", "module.scale", [Squeeze()]),
        step("vector", "module.vector", [Unsqueeze((0, 2))]),
        step("column", "module.norm" if "module.norm" in source else "module.vector", [Reshape((2, 4))]),
        step("pos", "module.pos", [Interpolate((2, 2), (3, 4), 1)]),
        step("stem", "module.stem", [Inflate(4, "repeat")]),
        step("head", "module.head.weight", [Rows((4, 0, 2))]),
        step("fused.weight", ["module.stem", "module.bn.gamma", "module.bn.var"], [Fuse("weight", 1e-5)]),
        step("fused.bias", bn, [Fuse("bias", 1e-5)]),
        step("alias", "module.blocks.0.norm.weight", evidence=("shares its memory with h.0.norm.weight, «so»",)),
    ]
    return plan_for(steps, source, {"fresh.weight": torch.zeros(2)}), source
