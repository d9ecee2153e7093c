"""Compare ``ckptaudit scan`` with picklescan, fickling and modelscan on a corpus of hostile and benign files.

    python benchmarks/scanners.py CORPUS_FOLDER CASES.json [--venv FOLDER]

CASES.json lists the files with their class and whether they hold code (``payload``). The rivals run from a virtual environment of their
own (``pip install picklescan fickling modelscan``). Each tool gets one process per file, whose time is reported, start-up included; then
one process for a folder of all these files, three times in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_TIMEOUT = 20

#: What each tool's exit code means: flagged, clean; any other is no verdict.
_TOOLS: dict[str, tuple[tuple[str, ...], set[int], set[int]]] = {
    "ckptaudit": (("ckptaudit", "scan", "-q", "--"), {1}, {0}),
    "picklescan": (("picklescan", "-p"), {1}, {0}),
    "fickling": (("fickling", "--check-safety"), {1}, {0}),
    "modelscan": (("modelscan", "scan", "-p"), {1}, {0}),
}


def _run(tool: str, programs: Path, path: Path) -> tuple[str, float]:
    arguments, flagged, clean = _TOOLS[tool]
    start = time.perf_counter()
    try:
        ended = subprocess.run([programs / arguments[0], *arguments[1:], str(path)], capture_output=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return "hung", time.perf_counter() - start
    seconds = time.perf_counter() - start
    if b"Traceback" in ended.stderr:
        return "traceback", seconds
    code = ended.returncode
    if tool == "ckptaudit" and code == 3:
        # A refused file is not loaded; it counts as flagged only where the line names what the pickle would call.
        return "flagged" if b"its pickle" in ended.stderr else "refused", seconds
    return ("flagged" if code in flagged else "clean" if code in clean else "no verdict"), seconds


def _folder_times(paths: list[Path], own: Path, rivals: Path) -> None:
    """Print the seconds that each tool takes over one folder of all files; fickling takes no folder."""
    tools = ("ckptaudit", "picklescan", "modelscan")
    taken: dict[str, list[float]] = {tool: [] for tool in tools}
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(paths):
            shutil.copyfile(path, Path(folder) / f"{number}{path.suffix}")
        for _ in range(3):
            for tool in tools:
                taken[tool].append(_run(tool, own if tool == "ckptaudit" else rivals, Path(folder))[1])
    print(f"\na folder of {len(paths)} files: " + ", ".join(f"{tool} {sorted(taken[tool])[1]:.2f} s" for tool in tools))


def main() -> None:
    """Print one table of all tools."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--venv", type=Path, help="where the rivals are installed")
    parser.add_argument("--every", type=int, default=1, help="take every n-th file only")
    options = parser.parse_args()
    cases: list[dict[str, Any]] = json.loads(options.cases.read_text())
    cases = [case for case in cases if not case.get("special") and (case.get("payload") or case["class"] == "benign")]
    own = Path(sys.executable).parent
    rivals = options.venv / "bin" if options.venv else own
    os.environ.pop("CKPT_HOSTILE_MARKER", None)
    print("| scanner | code found | refused | called clean | no verdict | failed | benign flagged | median |")
    print("|---|---|---|---|---|---|---|---|")
    for tool in _TOOLS:
        programs = own if tool == "ckptaudit" else rivals
        outcomes = [(case, *_run(tool, programs, options.corpus / case["file"])) for case in cases[:: options.every]]
        hostile = [outcome for case, outcome, _ in outcomes if case.get("payload")]
        benign = [outcome for case, outcome, _ in outcomes if not case.get("payload")]
        counts = [hostile.count(word) for word in ("flagged", "refused", "clean", "no verdict")]
        failed = hostile.count("traceback") + hostile.count("hung")
        alarms = sum(outcome not in ("clean", "no verdict") for outcome in benign)
        median = sorted(seconds for *_, seconds in outcomes)[len(outcomes) // 2]
        print(
            f"| {tool} | {counts[0]} of {len(hostile)} | {counts[1]} | {counts[2]} | {counts[3]} | {failed} "
            f"| {alarms} of {len(benign)} | {median:.2f} s |"
        )
    _folder_times([options.corpus / case["file"] for case in cases[:: options.every]], own, rivals)


if __name__ == "__main__":
    main()
