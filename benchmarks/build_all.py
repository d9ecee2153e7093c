"""Build every architecture of a source; report failures, times, the way each was built, and peak memory beyond that of the imports.

Run: python benchmarks/build_all.py [torchvision|timm|keras|smp] [--sample N]

With ``--sample N`` every N-th architecture is built for real too, and names, shapes and dtypes are compared.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from typing import Any

from ckptaudit.arch import Model
from ckptaudit.arch.resolve import build_model
from ckptaudit.arch.sources import built_in
from ckptaudit.errors import ArchitectureError


def main() -> int:
    """Print one line for each failure and a summary; 1 when anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="torchvision", choices=["torchvision", "timm", "keras", "smp"])
    parser.add_argument("--sample", type=int, default=0, metavar="N")
    options = parser.parse_args()
    source = built_in()[options.source]
    names = list(source.names())
    build_model(f"{options.source}:{names[0]}", fresh=True)  # imports what is imported only then
    imported = _peak_mebibytes()
    seconds: dict[str, float] = {}
    largest = (0.0, "")
    failures = compared = 0
    for number, name in enumerate(names):
        start = time.perf_counter()
        try:
            model = build_model(f"{options.source}:{name}", fresh=True)
        except ArchitectureError as error:
            failures += 1
            print(f"FAILED {name}: {error}", flush=True)
            continue
        seconds[name] = time.perf_counter() - start
        largest = max(largest, (model.graph.nbytes / 2**20, name))
        if options.sample and number % options.sample == 0 and model.graph.nbytes < 2**30:
            compared += 1
            if described(model) != real(model):
                failures += 1
                print(f"DIFFERS {name}", flush=True)
    slowest = max(seconds, key=seconds.__getitem__)
    print(f"{len(seconds)} of {len(names)} built, {failures} failures; {compared} compared with a real build")
    print(
        f"median {statistics.median(seconds.values()):.3f} s, slowest {slowest} {seconds[slowest]:.2f} s, all {sum(seconds.values()):.1f} s"
    )
    print(f"largest {largest[1]}: {largest[0]:.0f} MiB of weights")
    print(f"peak memory {_peak_mebibytes():.0f} MiB, after the imports {imported:.0f} MiB")
    return 1 if failures else 0


def described(model: Model) -> list[tuple[str, tuple[int, ...], str]]:
    """Names, shapes and dtypes of a model's tensors."""
    return [(tensor.name, tensor.shape, tensor.dtype) for tensor in model.graph]


def real(model: Model) -> list[tuple[str, tuple[int, ...], str]]:
    """The same of what the call that the model names really builds."""
    import importlib

    namespace: dict[str, Any] = {}
    for library in ("torchvision", "timm", "keras", "segmentation_models_pytorch"):
        if str(model.call).startswith(library):
            namespace[library] = importlib.import_module(library)
            if library == "keras":
                namespace[library].utils.clear_session()
    made = eval(str(model.call), namespace)
    if "keras" in namespace:
        return [(weight.path, tuple(weight.shape), str(weight.dtype)) for weight in made.weights]
    return [(name, tuple(value.shape), str(value.dtype).removeprefix("torch.")) for name, value in made.state_dict().items()]


def _peak_mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    raise SystemExit(main())
