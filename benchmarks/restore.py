"""Restore a 3.5 GB file into a built model: time and anonymous memory, beside torch's own mapped load, in turn in one run.

    python benchmarks/restore.py [--runs 5] [--width 4930]

Each restore is a process of its own, that builds the model first (not counted) and then restores once. What a way imports only then
counts for it, but for the rows that say so: these have restored a small file before, and show a program's second checkpoint. Memory is
the anonymous memory (RssAnon) at its highest while restoring, less what it was before: mapped pages of the file are the system's to take
back. A file of ``72 * width² / 2 * 4`` bytes is made in a temporary folder and removed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BUILD = """
import sys, threading, time, json
import torch
from torch import nn

path, width = sys.argv[1], int(sys.argv[2])
torch.manual_seed(0)
with torch.device("meta"):
    model = nn.Module()
    model.blocks = nn.ModuleList(
        nn.ModuleDict({"a": nn.Linear(width, width), "b": nn.Linear(width, width)}) for _ in range(18)
    )
model.to_empty(device="cpu")
with torch.no_grad():
    for p in model.parameters():
        p.fill_(1)
"""

MAKE = (
    BUILD
    + """
with torch.no_grad():
    for p in model.parameters():
        p.normal_(std=0.02)
torch.save(model.state_dict(), path)
"""
)

MEASURE = (
    BUILD
    + """
def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024

def watch():
    while not done.wait(0.002):
        peak[0] = max(peak[0], anonymous())

{prepare}
before = anonymous()
peak, done = [before], threading.Event()
watcher = threading.Thread(target=watch)
if sys.argv[3] == "memory":  # not while time is taken: a thread that looks all the time is in the way of those that read
    watcher.start()
start = time.perf_counter()
{restore}
seconds = time.perf_counter() - start
done.set()
if watcher.is_alive():
    watcher.join()
assert float(next(model.parameters())[0, 0]) != 1
print(json.dumps([seconds, max(peak[0], anonymous()) - before]))
"""
)

TORCH = "model.load_state_dict(torch.load(path, mmap=True), assign=False)"
OURS = "import ckptaudit; ckptaudit.load(model, path)"
SMALL = (
    "large, model, path = (model, path), nn.Linear(2, 2), path + '.small'; torch.save(model.state_dict(), path); {}; model, path = large"
)
#: What is done before time is taken, and what then.
WAYS = {
    "torch.load(mmap=True) + load_state_dict": ("", TORCH),
    "ckptaudit.load": ("", OURS),
    "torch.load(mmap=True) + load_state_dict, the second of a process": (SMALL.format(TORCH), TORCH),
    "ckptaudit.load, the second of a process": (SMALL.format(OURS), OURS),
    "torch.load + load_state_dict": ("", "model.load_state_dict(torch.load(path), assign=False)"),
}


def main() -> None:
    """Make the file, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--width", type=int, default=4930)
    arguments = parser.parse_args()
    width = str(arguments.width)
    samples: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "large.pth")
        subprocess.run([sys.executable, "-c", MAKE, path, width], check=True)
        print(f"{Path(path).stat().st_size / 1e9:.2f} GB, largest tensor {arguments.width**2 * 4 / 2**20:,.0f} MiB")
        for run in range(arguments.runs + 1):  # the first brings the file into the page cache
            for way, (prepare, restore) in WAYS.items():
                command = [sys.executable, "-c", MEASURE.replace("{prepare}", prepare).replace("{restore}", restore), path, width]
                start = time.perf_counter()
                timed = subprocess.run([*command, "time"], check=True, capture_output=True, text=True)
                whole = time.perf_counter() - start
                if run:
                    watched = subprocess.run([*command, "memory"], check=True, capture_output=True, text=True)
                    samples[way].append([json.loads(timed.stdout)[0], json.loads(watched.stdout)[1], whole])
    rows = {way: [statistics.median(column) for column in zip(*found, strict=True)] for way, found in samples.items()}
    base = next(iter(rows.values()))
    print("| way | restore | ratio | anonymous memory added | whole process | ratio |\n|---|---|---|---|---|---|")
    for way, (wall, memory, whole) in rows.items():
        print(f"| {way} | {wall:.2f} s | {wall / base[0]:.2f} | {memory:,.0f} MiB | {whole:.2f} s | {whole / base[2]:.2f} |")


if __name__ == "__main__":
    main()
