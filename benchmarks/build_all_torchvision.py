"""Build every architecture that torchvision registers; report failures, the way each was built, times and peak memory.

Run: python benchmarks/build_all_torchvision.py
"""

from __future__ import annotations

import resource
import statistics
import time

from ckptaudit.arch.resolve import build_model
from ckptaudit.arch.sources import torchvision
from ckptaudit.errors import ArchitectureError


def main() -> int:
    """Print one line for each failure and a summary; 1 when anything failed."""
    names = torchvision.names()
    imported = _peak_mebibytes()
    seconds: dict[str, float] = {}
    failures = 0
    for name in names:
        start = time.perf_counter()
        try:
            model = build_model(f"torchvision:{name}")
        except ArchitectureError as error:
            failures += 1
            print(f"FAILED {name}: {error}")
            continue
        seconds[name] = time.perf_counter() - start
        if list(model.graph.tensors) != list(model.module.state_dict()):
            failures += 1
            print(f"DIFFERS {name}: not the names of its state dict")
    slowest = max(seconds, key=seconds.__getitem__)
    print(f"{len(seconds)} of {len(names)} built, {failures} failures")
    print(
        f"median {statistics.median(seconds.values()):.3f} s, slowest {slowest} {seconds[slowest]:.2f} s, all {sum(seconds.values()):.1f} s"
    )
    print(f"peak memory {_peak_mebibytes():.0f} MiB, of which import torch, torchvision {imported:.0f} MiB")
    return 1 if failures else 0


def _peak_mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    raise SystemExit(main())
