"""Wall time and peak memory of whole commands, side by side in one run, as medians and ratios.

    python benchmarks/whole_process.py [--runs 5]

Files are made in a temporary folder (about 8 GB) and removed. Compare ratios, not seconds: they hold from machine to machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

#: What people type today to find out whether a file fits: load, build, keep what has the same name and shape, load that.
TODAY = """
import torch, torchvision
state = torch.load({path!r}, map_location="cpu")
model = torchvision.models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None)
own = model.state_dict()
fitting = {{k: v for k, v in state.items() if k in own and own[k].shape == v.shape}}
print(len(fitting), "of", len(own), model.load_state_dict(fitting, strict=False))
"""

MAKE = """
import sys, torch, torchvision
kind, path = sys.argv[1:]
torch.manual_seed(0)
if kind == "deeplab":
    model = torchvision.models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, aux_loss=True)
    state = model.state_dict()
    for name, value in state.items():
        if name.endswith("running_mean"): value.normal_()
        if name.endswith("running_var"): value.uniform_(0.5, 2)
else:
    width = {"large": 4930, "small": 64}[kind]
    state = {f"blocks.{i}.{part}.{role}": torch.randn(width, width) if role == "weight" else torch.randn(width)
             for i in range(18) for part in ("a", "b") for role in ("weight", "bias")}
    state = {name: value * 0.02 for name, value in state.items()}
torch.save(state, path)
"""


@dataclass(frozen=True)
class Figures:
    """Medians over the counted runs: seconds of wall time, MiB of peak memory."""

    wall: float
    memory: float


def measure(commands: dict[str, list[str]], runs: int) -> dict[str, Figures]:
    """Run the commands in turn, one warm-up first, so that a drift of the machine meets all of them alike."""
    samples: dict[str, list[Figures]] = {name: [] for name in commands}
    for count in range(runs + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, _, usage = os.wait4(process.pid, 0)
            if count:
                samples[name].append(Figures(time.perf_counter() - start, usage.ru_maxrss / 1024))
    return {
        name: Figures(statistics.median(f.wall for f in found), statistics.median(f.memory for f in found))
        for name, found in samples.items()
    }


def report(title: str, figures: dict[str, Figures]) -> None:
    """Print one table; ratios are against its first row."""
    base = next(iter(figures.values()))
    print(f"\n{title}\n| command | wall | peak memory | wall, ratio | memory, difference |\n|---|---|---|---|---|")
    for name, f in figures.items():
        print(f"| {name} | {f.wall:.2f} s | {f.memory:,.0f} MiB | {f.wall / base.wall:.2f} | {f.memory - base.memory:+,.0f} MiB |")


def main() -> None:
    """Make the files, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    python = sys.executable
    audit = [python, "-m", "ckptaudit"]
    with tempfile.TemporaryDirectory() as folder:
        paths = {kind: str(Path(folder) / f"{kind}.pth") for kind in ("deeplab", "small", "large")}
        for kind, path in paths.items():
            subprocess.run([python, "-c", MAKE, kind, path], check=True)
            print(f"{kind}: {Path(path).stat().st_size / 1e6:,.0f} MB")
        model = Path(folder) / "blocks.py"
        for kind, width in (("small", 64), ("large", 4930)):
            model.with_name(f"{kind}.py").write_text(
                "from torch import nn\n\n\ndef build():\n    net = nn.Module()\n"
                f"    block = lambda: nn.ModuleDict(dict(a=nn.Linear({width}, {width}), b=nn.Linear({width}, {width})))\n"
                "    net.blocks = nn.ModuleList(block() for _ in range(18))\n"
                "    return net\n"
            )
        report(
            "A 168 MB deeplabv3_resnet50 file against the model",
            measure(
                {
                    "torch.load + build + load_state_dict": [python, "-c", TODAY.format(path=paths["deeplab"])],
                    "ckptaudit diff": [*audit, "diff", paths["deeplab"], "--arch", "deeplabv3_resnet50", "--format", "json"],
                    "ckptaudit diff --fresh": [*audit, "diff", paths["deeplab"], "--arch", "deeplabv3_resnet50", "--fresh"],
                    "import torch, torchvision": [python, "-c", "import torch, torchvision"],
                },
                runs,
            ),
        )
        report(
            "ckptaudit show of a 3.5 GB file",
            measure(
                {
                    "import rich.console": [python, "-c", "import rich.console"],
                    "ckptaudit show, 3.5 GB": [*audit, "show", paths["large"]],
                    "ckptaudit show, 1.2 MB": [*audit, "show", paths["small"]],
                },
                runs,
            ),
        )
        report(
            "ckptaudit diff, the same number of tensors",
            measure(
                {
                    f"{kind}: {Path(paths[kind]).stat().st_size / 1e6:,.0f} MB": [
                        *audit,
                        "diff",
                        paths[kind],
                        "--arch",
                        f"{model.with_name(kind + '.py')}:build",
                    ]
                    for kind in ("small", "large")
                },
                runs,
            ),
        )


if __name__ == "__main__":
    main()
