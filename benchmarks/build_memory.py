"""Peak memory of building the largest architecture of each library, against that of importing the library: whole processes.

    python benchmarks/build_memory.py

The largest are taken from the shipped catalogue, by bytes of their weights. Exits with 1 where a build takes over 100 MiB more than the
imports.
"""

from __future__ import annotations

import os
import subprocess
import sys

from ckptaudit.arch.catalogue import shipped

IMPORTS = {"torchvision": "import torch, torchvision", "timm": "import torch, torchvision, timm", "keras": "import keras"}
ALLOWED = 100


def main() -> int:
    """Print one line for each library; 1 when one takes more than is allowed."""
    passed = True
    for source, imports in IMPORTS.items():
        sizes = {}
        for name in shipped().names(source):
            model = shipped().model(source, name, {})
            assert model is not None, name
            sizes[name] = model.graph.nbytes / 2**20
        largest = max(sizes, key=lambda name: sizes[name])
        imported = peak(imports)
        built = peak(f"from ckptaudit.arch import build_model; build_model('{source}:{largest}', fresh=True)")
        passed &= built - imported <= ALLOWED
        print(
            f"{source}:{largest}, {sizes[largest]:,.0f} MiB of weights: {built:,.0f} MiB to build, {imported:,.0f} MiB to import, "
            f"{built - imported:+,.0f} MiB",
            flush=True,
        )
    return 0 if passed else 1


def peak(code: str) -> float:
    """Peak memory of a process that runs ``code``, in MiB."""
    process = subprocess.Popen([sys.executable, "-c", code])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{code} failed")
    return usage.ru_maxrss / 1024


if __name__ == "__main__":
    raise SystemExit(main())
