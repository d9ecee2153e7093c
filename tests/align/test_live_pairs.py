"""A sample of the pairs of ``benchmarks/live_pairs.py``: a plan that calls itself complete and safe gives equal outputs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parent.parent.parent / "benchmarks" / "live_pairs.py"
#: One of each kind of difference: order, names, split projections, flattened maps and transposed kernels.
SAMPLE = [
    "timm resnet18 → torchvision",
    "torchvision mobilenet_v2 → timm",
    "keras ResNet50 → torchvision v1",
    "transformers ResNet-18 → timm",
    "keras DenseNet121 → torchvision",
    "smp encoder resnet18 → timm",
]


def live_pairs():
    spec = importlib.util.spec_from_file_location("live_pairs", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["live_pairs"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAMPLE)
def test_equal_outputs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    benchmark = live_pairs()
    pair = {pair.name: pair for pair in benchmark.pairs()}[name]
    row = benchmark.examine(pair, tmp_path)
    assert row.holds, row
    assert row.complete
    assert row.difference <= row.allowed
