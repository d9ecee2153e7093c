"""Values without numpy are the values with it, wherever they are given."""

import subprocess
import sys

import numpy
import pytest
import torch
import torchvision

from ckptaudit.read import open_checkpoint
from ckptaudit.read.ahead import reading_ahead

TENSORS = {
    "plain": torch.randn(7, 5),
    "double": torch.randn(3, dtype=torch.float64),
    "within": torch.randn(40)[10:22].reshape(3, 4),
    "not finite": torch.tensor([1.0, float("nan"), float("-inf")]),
    "transposed": torch.randn(4, 6).t(),
    "half": torch.randn(4).half(),
    "brain": torch.randn(4).bfloat16(),
    "whole": torch.arange(4),
    "scalar": torch.tensor(1.5),
    "empty": torch.empty(0, 3),
    "expanded": torch.tensor([2.5]).expand(3, 4),
}


@pytest.mark.parametrize("name", TENSORS)
def test_numbers_are_the_values(tmp_path, name):
    path = tmp_path / "a.pth"
    torch.save({name: TENSORS[name], "other.weight": torch.zeros(2)}, path)
    checkpoint = open_checkpoint(path)
    for elements in (None, 1, 6, 100):
        found = checkpoint.numbers(name, elements)
        assert (found is None) == (name in ("transposed", "whole", "empty", "expanded"))
        if found is not None:
            expected = checkpoint.read(name).reshape(-1) if elements is None else checkpoint.sample(name, elements)
            assert repr(found.tolist()) == repr(expected.tolist())


@pytest.mark.parametrize("elements", [None, 1, 6, 1024])
def test_numbers_of_neighbours_are_the_numbers_of_each(tmp_path, elements):
    """Also out of order, one twice, far apart, of other dtypes, and some that numpy has to read."""
    tensors = {**TENSORS, "large": torch.randn(300, 200), **{f"small.{i}": torch.randn(3, i) for i in range(9)}}
    torch.save(tensors, tmp_path / "a.pth")
    checkpoint = open_checkpoint(tmp_path / "a.pth")
    for names in ([*tensors], [*reversed(tensors)], ["small.3", "large", "small.4", "small.4", "half", "small.1"], []):
        with reading_ahead():
            together = [checkpoint.numbers(name, elements) for name in names]
        alone = [checkpoint.numbers(name, elements) for name in names]
        assert repr(together) == repr(alone)


def test_tensors_are_read_into_memory_as_they_lie(tmp_path):
    torch.save(TENSORS, tmp_path / "a.pth")
    stored = open_checkpoint(tmp_path / "a.pth").branch.tensors
    dense = {name for name, tensor in stored.items() if tensor.lies_as_it_is}
    assert dense == set(TENSORS) - {"transposed", "expanded"}
    for name in dense:
        into = torch.empty_like(TENSORS[name])
        memory = memoryview(into.reshape(-1).view(torch.uint8).numpy())
        stored[name].read_into(memory)
        assert torch.equal(into.nan_to_num(), TENSORS[name].nan_to_num())
        for first in {0, min(1, len(memory)), len(memory) // 2, len(memory)}:
            part = bytearray(len(memory) - first)
            stored[name].read_into(memoryview(part), first)
            assert part == memory[first:]
        for size, first in ((len(memory) + 1, 0), (1, len(memory)), (len(memory), 1), (1, -1)):
            with pytest.raises(ValueError, match="of a tensor of"):
                stored[name].read_into(memoryview(bytearray(size)), first)


def test_what_is_surely_finite(tmp_path):
    """Only what numpy would find finite too; what lies between the values of a view makes it unsure at most."""
    wide, gap = torch.zeros(4, 4096), torch.zeros(6)
    gap[1] = float("inf")
    tensors = {**TENSORS, "wide": wide.t()[:, :2], "largest": torch.full((8,), 3e38), "gap": gap[::2]}
    torch.save(tensors, tmp_path / "a.pth")
    checkpoint = open_checkpoint(tmp_path / "a.pth")
    sure = {name for name, tensor in checkpoint.branch.tensors.items() if tensor.surely_finite(100)}
    assert sure == set(tensors) - {"not finite", "whole", "empty", "wide", "gap"}
    assert all(numpy.isfinite(checkpoint.sample(name, 100).astype("float64")).all() for name in sure)


def test_an_audit_of_float32_takes_no_numpy(tmp_path):
    torch.save(torchvision.models.mobilenet_v3_small(weights=None).state_dict(), tmp_path / "a.pth")
    code = (
        f"import sys, ckptaudit; a = ckptaudit.audit({str(tmp_path / 'a.pth')!r}, 'mobilenet_v3_small');"
        "print({f.rule for f in a.findings} >= {'bn-untrained'}, 'numpy' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "True False\n"


@pytest.mark.parametrize("elements", [1, 3, 7, 20, 30, 100, 360, 1000])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_samples_are_the_first_and_the_last_rows(elements, order, tmp_path):
    values = torch.arange(3 * 4 * 5 * 6.0).reshape(3, 4, 5, 6).permute(order)
    torch.save({"a": values}, tmp_path / "a.pth")
    checkpoint, flat = open_checkpoint(tmp_path / "a.pth"), values.reshape(-1).numpy()
    first, last = checkpoint.sample("a", elements), checkpoint.sample("a", elements, last=True)
    assert 0 < len(first) == len(last) <= max(elements, 6)
    assert (first == flat[: len(first)]).all()
    assert (last == flat[-len(last) :]).all()
