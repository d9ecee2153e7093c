"""The sample checkpoints are what their script makes, and small."""

from __future__ import annotations

import subprocess
import sys

import numpy

from ckptaudit import open_checkpoint

FILES = (
    "deeplabv3_voc.pth",
    "dataparallel_10classes.pth",
    "resnet101_backbone.pth",
    "lightning_ema.ckpt",
    "untrained_head_bn.pth",
    "resnet50_imagenet.pth",
    "tiny_unet_sharded",
)


def test_the_script_makes_exactly_these_files(samples, tmp_path):
    subprocess.run([sys.executable, samples / "make_samples.py", tmp_path], check=True)
    assert (tmp_path / "not_a_checkpoint.pth").read_bytes() == (samples / "not_a_checkpoint.pth").read_bytes()
    for name in FILES:
        made, kept = open_checkpoint(tmp_path / name), open_checkpoint(samples / name)
        assert made.metadata == kept.metadata
        assert [branch.name for branch in made.branches] == [branch.name for branch in kept.branches]
        assert list(made.graph) == list(kept.graph)
        # Processors differ in the last bit of exp().
        assert all(numpy.allclose(made.read(spec.name), kept.read(spec.name), 1e-6, 0) for spec in kept.graph if len(spec.shape) == 1)


def test_they_stay_small(samples):
    assert sum(path.stat().st_size for path in samples.rglob("*") if path.is_file() and "__pycache__" not in path.parts) < 6e6
