"""Apply a plan to a large file, with renames alone and with kernels to transpose, beside a copy of the file, in turn in one run.

    python benchmarks/apply.py [--gigabytes 3.5] [--runs 3]

Both ends with the file on the disk (fsync): ``ckptaudit apply`` does so before the output gets its name. Each is a process of its own,
whose start counts. Memory is the anonymous memory (RssAnon) at its highest. The files lie in a temporary folder and are removed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy
from safetensors.numpy import save_file

from ckptaudit.align import Pair
from ckptaudit.align.ops import Op, Permute
from ckptaudit.plan.fingerprint import Side, fingerprint
from ckptaudit.plan.plan import Plan
from ckptaudit.plan.rename_rules import rename_rules
from ckptaudit.read import open_checkpoint

#: Kernels as Keras has them: height, width, input and output channels, or inputs and outputs.
_SHAPES = ((3, 3, 512, 512), (1, 1, 2048, 512), (3, 3, 256, 256), (1, 1, 512, 2048), (4096, 1024), (512,), (7, 7, 512, 1024))
_COPY = "import os, shutil, sys; shutil.copyfile(*sys.argv[1:]); d = os.open(sys.argv[2], os.O_RDWR); os.fsync(d)"


def main() -> None:
    """Make the file and the plans, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=3.5)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "source.safetensors"
        _make(source, arguments.gigabytes)
        ways = {"copy": [sys.executable, "-c", _COPY, str(source)]}
        for label, transposed in (("renamed", False), ("renamed and transposed", True)):
            plan = folder / f"{label}.yaml"
            _plan(source, transposed=transposed).save(plan)
            for suffix in (".safetensors", ".pth"):
                ways[f"apply, {label}, {suffix}"] = [sys.executable, "-m", "ckptaudit", "apply", str(plan), str(source), "-o", suffix]
        found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
        for run in range(arguments.runs + 1):  # the first brings the file into the page cache
            for way, command in ways.items():
                output = folder / ("out" + (".safetensors" if way == "copy" else command[-1]))
                os.sync()
                measured = _run([*(command if way == "copy" else command[:-1]), str(output)])
                output.unlink()
                if run:
                    found[way].append(measured)
        print(f"{source.stat().st_size / 1e9:.2f} GB\n| way | wall | ratio | CPU | memory |\n|---|---|---|---|---|")
        base = statistics.median(wall for wall, _, _ in found["copy"])
        for way, runs in found.items():
            wall, cpu, memory = (statistics.median(column) for column in zip(*runs, strict=True))
            print(f"| {way} | {wall:.2f} s | {wall / base:.2f} | {cpu:.2f} s | {memory:,.0f} MiB |")


def _make(path: Path, gigabytes: float) -> None:
    random = numpy.random.default_rng(0)
    tensors: dict[str, numpy.ndarray] = {}
    while sum(tensor.nbytes for tensor in tensors.values()) < gigabytes * 1e9:
        shape = _SHAPES[len(tensors) % len(_SHAPES)]
        tensors[f"layers/layer_{len(tensors)}/kernel"] = random.random(shape, numpy.float32)
    save_file(tensors, path)


def _plan(source: Path, *, transposed: bool) -> Plan:
    tensors = open_checkpoint(source).graph
    steps = []
    for spec in tensors:
        rank = len(spec.shape)
        ops: tuple[Op, ...] = (Permute((3, 2, 0, 1) if rank == 4 else (1, 0)),) if transposed and rank > 1 else ()
        target = spec.name.replace("/", ".")
        steps.append(Pair(target=target, sources=(spec.name,), ops=ops, grade="decided", confidence=1.0, evidence=("made",)))
    plan = Plan(tuple(steps), (), (), complete=True, rules=(), source=Side(fingerprint(tensors)))
    return Plan(**{**{field: getattr(plan, field) for field in plan.__slots__}, "rules": rename_rules(plan.renames, tensors.tensors)})


def _run(command: list[str]) -> tuple[float, float, float]:
    """Seconds, seconds of CPU, MiB."""
    start, before = time.perf_counter(), os.times()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = [0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            try:
                text = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                return
            peak[0] = max([peak[0], *(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("RssAnon"))])

    watcher = threading.Thread(target=watch)
    watcher.start()
    if process.wait():
        raise SystemExit(f"failed: {json.dumps(command)}")
    wall, after = time.perf_counter() - start, os.times()
    done.set()
    watcher.join()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system, peak[0]


if __name__ == "__main__":
    main()
