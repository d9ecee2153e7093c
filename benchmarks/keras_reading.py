"""What it costs to read a Keras file: whole processes beside ``python -c "import h5py"``, in turn, medians.

python benchmarks/keras_reading.py FILE … [--runs N]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

READ = "import sys; from pathlib import Path; from ckptaudit.read import open_checkpoint; open_checkpoint(Path(sys.argv[1])).graph"


def seconds(*command: str) -> float:
    """Wall time of one process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print a row for each file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--runs", type=int, default=9)
    given = parser.parse_args()
    print("| file | size | import h5py | read | ratio | show |\n|---|---|---|---|---|---|")
    for file in given.files:
        commands = [("-c", "import h5py"), ("-c", READ, str(file)), ("-m", "ckptaudit", "show", str(file))]
        for command in commands:
            seconds(*command)  # compiled and cached
        rows = [[seconds(*command) for command in commands] for _ in range(given.runs)]
        base, read, show = (statistics.median(column) for column in zip(*rows, strict=True))
        print(
            f"| {file.name} | {file.stat().st_size / 1e6:.1f} MB | {base:.3f} s | {read:.3f} s | {read / base:.2f} | {show:.3f} s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
