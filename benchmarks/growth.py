"""How `ckptaudit diff` grows with the number of tensors: 1,000, 10,000 and 100,000 of a mixture of experts, whole processes.

    python benchmarks/growth.py [--runs 3]

The file is the model's state dict as DataParallel saves it, or with the words of its names renamed as well. Prints medians, and the
exponent from each size to the next; exits with 1 where one exceeds 1.1, or where 100,000 wrapped tensors take 10 s or more.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

SIZES = (1_000, 10_000, 100_000)
WIDTH = 4
ALLOWED, SECONDS = 1.1, 10.0
#: Words as another library has them.
WORDS = {"layers": "blocks", "experts": "mlp_experts", "gate_proj": "w1", "up_proj": "w3", "down_proj": "w2", "self_attn": "attention"}


def main() -> int:
    """Print one table for each kind of file; 1 when something grows too fast."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        for kind, rename in (("wrapped", lambda name: f"module.{name}"), ("words renamed", renamed)):
            print(f"\n{kind}\n| tensors | wall | CPU | peak memory | exponent |\n|---|---|---|---|---|")
            before = None
            for size in SIZES:
                model, file = Path(folder, f"model{size}.safetensors"), Path(folder, f"file{size}.safetensors")
                names = list(mixture(size))
                write(model, names)
                write(file, [(rename(name), shape) for name, shape in names])
                command = [sys.executable, "-m", "ckptaudit", "diff", str(file), "--against", str(model), "--format", "json"]
                wall, cpu, memory = (statistics.median(figures) for figures in zip(*(measure(command) for _ in range(runs)), strict=True))
                exponent = math.log10(cpu / before) if before else 0.0
                print(f"| {size:,} | {wall:.2f} s | {cpu:.2f} s | {memory:,.0f} MiB | {f'{exponent:.2f}' if before else ''} |", flush=True)
                passed &= exponent <= ALLOWED and (size < SIZES[-1] or kind != "wrapped" or cpu < SECONDS)
                before = cpu
    return 0 if passed else 1


def mixture(size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a transformer whose layers have 64 experts each, cut after ``size`` tensors."""
    names = (
        (f"model.layers.{layer}.{name}", shape)
        for layer in range(1 + size // 190)
        for name, shape in (
            *((f"self_attn.{part}_proj.weight", (WIDTH, WIDTH)) for part in "qkvo"),
            ("input_layernorm.weight", (WIDTH,)),
            ("mlp.gate.weight", (64, WIDTH)),
            *(
                (f"mlp.experts.{expert}.{part}_proj.weight", (2 * WIDTH, WIDTH) if part != "down" else (WIDTH, 2 * WIDTH))
                for expert in range(64)
                for part in ("gate", "up", "down")
            ),
        )
    )
    yield from (found for _, found in zip(range(size), names, strict=False))


def renamed(name: str) -> str:
    """The same name with other words."""
    return ".".join(WORDS.get(word, word) for word in name.split("."))


def write(path: Path, tensors: list[tuple[str, tuple[int, ...]]]) -> None:
    """A safetensors file of these tensors, their values a ramp from 0 to 1 again and again."""
    header, end = {}, 0
    for name, shape in tensors:
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    packed = json.dumps(header).encode()
    values = array("f", (step % 997 / 997 for step in range(end // 4)))
    path.write_bytes(len(packed).to_bytes(8, "little") + packed + values.tobytes())


def measure(command: list[str]) -> tuple[float, float, float]:
    """Seconds of wall time and of CPU, and MiB of peak memory, of one process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) > 1:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    raise SystemExit(main())
