"""Peak memory and CPU time of the verbs on a safetensors file of a million tensors, as multiples of its header.

    python benchmarks/many_tensors.py [NUMBER] [--verbs "scan show"]

One process for each verb, start-up included (about 20 MiB).
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

_VERBS = {
    "scan": ["scan", "-q"],
    "show": ["show"],
    "show as JSON": ["show", "--format", "json"],
    "diff against itself": ["diff", "-q", "--against"],
}


def write_file(path: Path, number: int) -> int:
    """Write a file of so many tensors of one value, ten to a block, each in a module of its own; the bytes of its header.

    Piece by piece: a child counts the peak of the process that starts it as its own.
    """
    size = 1
    with path.open("wb") as file:
        file.write(bytes(8) + b"{")
        for i in range(number):
            entry = json.dumps({"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]}, separators=(",", ":"))
            size += file.write(f'{"," if i else ""}"model.layers.{i // 10}.block{i % 10}.weight":{entry}'.encode())
        size += file.write(b"}")
        for _ in range(number):
            file.write(struct.pack("<f", 1))
        file.seek(0)
        file.write(struct.pack("<Q", size))
    return size


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--verbs", nargs="*", choices=_VERBS, default=list(_VERBS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.safetensors"
        size = write_file(path, options.number)
        print(f"{options.number:,} tensors, a header of {size / 2**20:.0f} MiB\n")
        print("| verb | CPU time | peak memory | × header |\n|---|---|---|---|")
        for verb in options.verbs:
            command = [sys.executable, "-m", "ckptaudit", *_VERBS[verb], str(path)]
            if verb.startswith("diff"):
                command.append(str(path))
            started = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(started.pid, 0)
            started.returncode = os.waitstatus_to_exitcode(status)
            peak = usage.ru_maxrss * 1024
            print(f"| {verb} | {usage.ru_utime + usage.ru_stime:.0f} s | {peak / 2**20:,.0f} MiB | {peak / size:.1f} |")


if __name__ == "__main__":
    main()
