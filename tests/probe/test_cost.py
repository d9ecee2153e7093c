"""What a probe costs: how many images go through the whole network, whatever else is asked; and moments that cost next to nothing."""

from __future__ import annotations

import numpy
import pytest
import torch
from torch import nn

from ckptaudit.arch.live import model_of_object
from ckptaudit.probe import Question, probe_network
from ckptaudit.prove.running import TorchNetwork, network_of


class _Counted(TorchNetwork):
    """Notes of each run how many images, of how many pixels a side, and whether they went all the way."""

    def __init__(self, module):
        super().__init__(module)
        self.runs = []

    def run(self, batches, *, alone=False, until=None, look=0):
        batches = list(batches)
        self.runs.append((sum(map(len, batches)), batches[0].shape[-1], until is None))
        return super().run(batches, alone=alone, until=until, look=look)


def _deep(pixels):
    """Ten convolutions with statistics of ``pixels``, and a head for four classes."""
    torch.manual_seed(0)
    stages = [nn.Sequential(nn.Conv2d(8 if i else 3, 8, 3, 2 if i < 3 else 1, 1), nn.BatchNorm2d(8), nn.ReLU()) for i in range(10)]
    module = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    for norm in (child for child in module.modules() if isinstance(child, nn.BatchNorm2d)):
        norm.momentum = None
    with torch.no_grad():
        module.train()(pixels)
    return module.eval()


@pytest.mark.parametrize(
    ("preprocess", "budget", "whole", "remarks"),
    [
        ("0..1", 1e-9, 4 + 2 * 6, ["the first 8 BatchNorms"]),
        ("0..255", 1e-9, 4 + 2 * 6 + 4, ["the first 8 BatchNorms", "on 4 crops"]),
        ("0..1", 1e9, 4 + 24 * (6 + 2), []),
    ],
)
def test_images_go_through_the_whole_network_seldom(photographs, preprocess, budget, whole, remarks):
    network = _Counted(_deep(torch.rand(16, 3, 256, 256)))
    question = Question(images=photographs, input_size=(3, 256, 256), crops=24, preprocess=preprocess, budget=budget)
    outcome = probe_network(network, model_of_object(network.module, {}).graph, question)
    run = sum(images for images, side, all_the_way in network.runs if all_the_way and side == 256)
    assert run in (whole, whole - 2)  # where the very first run took long it is not done once more for its time
    few = [remark for remark in outcome.remarks if "crops" in remark]
    assert len(few) == len(remarks)
    assert all(words in remark for words, remark in zip(remarks, few, strict=True))
    assert outcome.output.classes == 4
    assert {h.cause: h.status for h in outcome.hypotheses}["mode"] == "cleared"


class _Whole(nn.Module):
    """Takes one size alone."""

    def __init__(self):
        super().__init__()
        self.body = _deep(torch.rand(4, 3, 256, 256))

    def forward(self, x):
        if x.shape[-1] != 256:
            raise ValueError("another size")
        return torch.nn.functional.dropout(self.body(x), 0.5)


def test_a_network_that_takes_one_size_alone_is_run_on_that(photographs):
    module = _Whole()
    question = Question(images=photographs, input_size=(3, 256, 256), crops=6)
    outcome = probe_network(network_of(module), model_of_object(module, {}).graph, question)
    first = outcome.hypotheses[0]
    assert (first.cause, first.status) == ("mode", "cause")
    assert "another answer each time" in first.message


@pytest.mark.parametrize("shape", [(6, 5, 31, 33), (2, 7, 1, 1), (1, 3, 9, 9), (64, 4)])
@pytest.mark.parametrize(("mean", "spread"), [(0, 1), (1e3, 1e-2), (130, 60), (1e-6, 1e-6), (5, 0)])
def test_moments_are_those_of_double_precision(shape, mean, spread):
    norm = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(shape[1]).eval()
    values = (mean + spread * numpy.random.default_rng(0).standard_normal(shape)).astype(numpy.float32)
    made = TorchNetwork(norm).run([values]).norms[""]
    exact = numpy.moveaxis(values, 1, 0).reshape(shape[1], -1).astype(numpy.float64)
    assert made.count == exact.shape[1]
    numpy.testing.assert_allclose(made.mean, exact.mean(1), rtol=1e-4, atol=1e-5 * (spread + 1e-12) + 1e-6 * abs(mean))
    numpy.testing.assert_allclose(made.var, exact.var(1, ddof=min(1, exact.shape[1] - 1)), rtol=1e-3, atol=1e-14)
