"""Time of the aligner against the number of tensors: a mixture-of-experts model and the same one renamed, or wrapped and damaged.

    python benchmarks/align_scale.py [--sizes 1k 10k 100k] [--source renamed|wrapped|damaged] [--memory]

Between two sizes the exponent is printed: 1 is linear, 2 is quadratic. With ``--memory`` the peak of what the alignment allocates is
printed instead of the time, without the two graphs themselves.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ckptaudit.align import align
from ckptaudit.graph import LayerGraph, TensorSpec

WIDTH, HIDDEN, VOCABULARY = 256, 512, 32000

#: Layers and experts in each, by about how many tensors that makes.
SIZES = {"1k": (8, 42), "10k": (16, 208), "100k": (32, 1036)}


@dataclass(frozen=True)
class Spelling:
    """How one library names the parts of the model."""

    embedding: str
    layers: str
    attention: tuple[str, str, str, str]
    norms: tuple[str, str]
    router: str
    experts: str
    matrices: tuple[str, str, str]
    last_norm: str


ONE = Spelling(
    embedding="model.embed_tokens",
    layers="model.layers",
    attention=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    norms=("input_layernorm", "post_attention_layernorm"),
    router="block_sparse_moe.gate",
    experts="block_sparse_moe.experts",
    matrices=("w1", "w2", "w3"),
    last_norm="model.norm",
)
OTHER = Spelling(
    embedding="transformer.wte",
    layers="transformer.h",
    attention=("attention.query", "attention.key", "attention.value", "attention.out"),
    norms=("ln_1", "ln_2"),
    router="moe.router",
    experts="moe.expert_list",
    matrices=("gate_proj", "down_proj", "up_proj"),
    last_norm="transformer.ln_f",
)


def weights(spelling: Spelling, layers: int, experts: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield path and shape of every layer with a weight, in definition order."""
    yield spelling.embedding, (VOCABULARY, WIDTH)
    for layer in range(layers):
        block = f"{spelling.layers}.{layer}"
        for path, rows in zip(spelling.attention, (WIDTH, WIDTH // 4, WIDTH // 4, WIDTH), strict=True):
            yield f"{block}.{path}", (rows, WIDTH)
        for path in spelling.norms:
            yield f"{block}.{path}", (WIDTH,)
        yield f"{block}.{spelling.router}", (experts, WIDTH)
        for expert in range(experts):
            for path, shape in zip(spelling.matrices, ((HIDDEN, WIDTH), (WIDTH, HIDDEN), (HIDDEN, WIDTH)), strict=True):
                yield f"{block}.{spelling.experts}.{expert}.{path}", shape
    yield spelling.last_norm, (WIDTH,)
    yield "lm_head", (VOCABULARY, WIDTH)


def graph(spelling: Spelling, layers: int, experts: int) -> LayerGraph:
    """Build the model's graph in one spelling."""
    return LayerGraph.from_tensors(TensorSpec(f"{path}.weight", shape, "bfloat16") for path, shape in weights(spelling, layers, experts))


def wrapped(graph: LayerGraph, *, damaged: bool) -> LayerGraph:
    """The same graph under ``module.``; damaged, one layer in 20,000 is gone and another has one more dimension."""
    tensors = [TensorSpec(f"module.{spec.name}", spec.shape, spec.dtype) for spec in graph]
    if damaged:
        step = max(2, min(20_000, len(tensors) // 2))
        for i in range(step // 2, len(tensors), step):
            tensors[i] = TensorSpec(tensors[i].name, (3, *tensors[i].shape), tensors[i].dtype)
        del tensors[1::step]
    return LayerGraph.from_tensors(tensors)


def main() -> None:
    """Print time and grades for each size, then the exponents between them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES), help="about how many tensors")
    parser.add_argument("--source", choices=("renamed", "wrapped", "damaged"), default="renamed", help="what is aligned with the model")
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time")
    arguments = parser.parse_args()
    points: list[tuple[int, float]] = []
    for size in arguments.sizes:
        target = graph(OTHER, *SIZES[size])
        source = graph(ONE, *SIZES[size]) if arguments.source == "renamed" else wrapped(target, damaged=arguments.source == "damaged")
        if arguments.memory:
            tracemalloc.start()
            align(source, target)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            print(f"{len(source.tensors)} tensors, at most {peak / len(source.tensors) / 2:.0f} bytes for each and side", flush=True)
            continue
        start = time.perf_counter()
        pairs = align(source, target).pairs
        seconds = time.perf_counter() - start
        grades = Counter(pair.grade for pair in pairs.values())
        count = len(source.tensors)
        print(f"{count} tensors {seconds:.2f} s, {len(pairs)} pairs:", ", ".join(f"{n} {grade}" for grade, n in grades.items()), flush=True)
        points.append((count, seconds))
    for (fewer, faster), (more, slower) in itertools.pairwise(points):
        if fewer != more:
            print(f"exponent {math.log(slower / faster) / math.log(more / fewer):.2f}")


if __name__ == "__main__":
    main()
