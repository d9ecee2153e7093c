"""``ckptaudit check`` on ten contracts, beside what the imports of their models take: the limit is one second more.

python benchmarks/check_contracts.py [REPETITIONS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import save_file

ARCHITECTURES = [
    *("resnet18", "resnet34", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1", "alexnet", "vgg11"),
    *("fcn_resnet50", "deeplabv3_resnet50"),
]


def make_project(folder: Path) -> None:
    """Ten contracts with their lock; the weights are expanded scalars, written and removed again."""
    import torchvision

    lines = []
    for name in ARCHITECTURES:
        builder = torchvision.models.get_model_builder(name)
        arguments = {"weights": None, "weights_backbone": None} if "resnet50" in name and "_" in name else {"weights": None}
        state = builder(**arguments).state_dict()
        save_file(state, folder / f"{name}.safetensors")
        lines.append(
            f'[[tool.ckptaudit.contracts]]\nname = "{name}"\ncheckpoint = "{name}.safetensors"\narch = "torchvision:{name}"\n'
            'allow = [{ rule = "bn-untrained", reason = "random weights" }]\n'
        )
    (folder / "pyproject.toml").write_text("\n".join(lines))
    subprocess.run([sys.executable, "-m", "ckptaudit", "lock", "--no-digest"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    for file in folder.glob("*.safetensors"):
        file.unlink()


def seconds(command: list[str], folder: Path) -> float:
    """Wall time of one process."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main(repetitions: int) -> None:
    """Print the medians of both, taken in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_project(folder)
        commands = {
            "imports": [sys.executable, "-c", "import torch, torchvision"],
            "check": [sys.executable, "-m", "ckptaudit", "check", "-q"],
        }
        times: dict[str, list[float]] = {what: [] for what in commands}
        for _ in range(repetitions):
            for what, command in commands.items():
                times[what].append(seconds(command, folder))
        imports, check = (statistics.median(times[what]) for what in ("imports", "check"))
        print(f"imports {imports:.2f} s, check of {len(ARCHITECTURES)} contracts {check:.2f} s: {check - imports:+.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
