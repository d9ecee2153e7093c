"""``python tests/fuzz [TARGET…] --minutes N --out FOLDER``: fuzz in child processes, keep every input that crashes, hangs or grows.

A child works through inputs and notes how many; the parent restarts it when it dies, takes too long or takes too much memory, and keeps the
input that it was at.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent))
from harness import TARGETS, audit, companions, fuzz, report, seeds, within

_ROUND = 60  # seconds of one child
_SLOW = 20  # seconds that one input may take
_MEMORY = 2 << 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("crashes"))
    parser.add_argument("--replay", type=Path, help="Audit one input and say what happens.")
    options = parser.parse_args()
    if options.replay:
        audit(options.replay)
        return
    options.out.mkdir(exist_ok=True)
    made = seeds()
    targets = options.targets or list(TARGETS)
    totals = dict.fromkeys(targets, 0)
    crashes: dict[str, str] = {}
    end, turn = time.monotonic() + 60 * options.minutes, 0
    while time.monotonic() < end:
        target = targets[turn % len(targets)]
        turn += 1
        seconds = min(_ROUND, 60 * options.minutes / len(targets), max(1, end - time.monotonic()))
        with TemporaryDirectory() as name:
            folder = Path(name)
            companions(folder)
            done, why = _child(target, folder, made[target], options.seed * 100_000 + turn, seconds, options.out)
            totals[target] += done
            if why:
                data = (folder / TARGETS[target][1]).read_bytes()
                crashes[_kept(options.out, target, data, why)] = why
        report({"turn": turn, "target": target, "executions": done, "total": sum(totals.values()), "died": why})
    kept = sorted(options.out.glob("*.txt"))
    report({"totals": totals, "executions": sum(totals.values()), "crashes": len(kept), "died": crashes})


def _kept(out: Path, target: str, data: bytes, why: str) -> str:
    name = f"{target}-{hashlib.sha256(data).hexdigest()[:12]}"
    (out / f"{name}.bin").write_bytes(data)
    (out / f"{name}.txt").write_text(why + "\n")
    return name


def _child(target: str, folder: Path, inputs: list[bytes], seed: int, seconds: float, out: Path) -> tuple[int, str]:
    """Executions, and how the child died or ``""``."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            _work(target, folder, inputs, seed, seconds, out, lambda n: os.write(write, b"."))
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(write)
    os.set_blocking(read, False)
    executions, last = 0, time.monotonic()
    why = ""
    while True:
        gone, status = os.waitpid(child, os.WNOHANG)
        try:
            count = len(os.read(read, 1 << 16))
        except BlockingIOError:
            count = 0
        if count:
            executions, last = executions + count, time.monotonic()
        if gone:
            os.close(read)
            return executions, "" if status == 0 else f"status {status} (signal {status & 0x7F})"
        if time.monotonic() - last > _SLOW:
            why = f"hangs for more than {_SLOW} s"
        elif _resident(child) > _MEMORY:
            why = f"takes more than {_MEMORY >> 20} MiB"
        if why:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(read)
            return executions, why
        time.sleep(0.05)


def _work(target: str, folder: Path, inputs: list[bytes], seed: int, seconds: float, out: Path, before: Callable[[int], object]) -> None:
    seen: set[str] = set()
    for data, why in fuzz(target, folder, inputs, seed, within(seconds), before):
        if why[:80] not in seen:
            seen.add(why[:80])
            _kept(out, target, data, why)


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


if __name__ == "__main__":
    main()
