"""Compare ``ckptaudit scan`` with picklescan, fickling and modelscan on a corpus of hostile and benign files.

    python benchmarks/scanners.py CORPUS_FOLDER CASES.json [--venv FOLDER] [--own FOLDER]

CASES.json lists the files with their class and whether they hold code (``payload``). The rivals run from a virtual environment of their
own (``pip install picklescan fickling typing_extensions 'modelscan[h5py]'``), ckptaudit from the one that ``--own`` names, into which it
was installed as users install it, or else from this one. Each tool gets one process per file, all tools in turn for each file; then one
process for a folder, all in turn, eleven times. Time is CPU time of user and system, start-up included: the machine may have more to do.
The rivals know pickles, alone and in zips (modelscan HDF5, too), so times are also given for those files alone.
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
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

_TIMEOUT = 20
_TURNS = 11

#: What each tool's exit code means: flagged, clean; any other is no verdict.
_TOOLS: dict[str, tuple[tuple[str, ...], set[int], set[int]]] = {
    "ckptaudit": (("ckptaudit", "scan", "-q", "--"), {1}, {0}),
    "picklescan": (("picklescan", "-p"), {1}, {0}),
    "fickling": (("fickling", "--check-safety"), {1}, {0}),
    "modelscan": (("modelscan", "scan", "-p"), {1}, {0}),
}
#: The tools that take a folder.
_OF_FOLDERS = ("ckptaudit", "picklescan", "modelscan")
#: Endings of files in the corpus that are something else than pickles, unless they only pretend to be.
_OTHERS = (".h5", ".keras", ".safetensors", ".onnx", ".index")


@dataclass(frozen=True)
class Run:
    """What one tool made of one file, in how many seconds of computing and of waiting."""

    outcome: str
    computing: float
    wall: float


def _run(tool: str, programs: Path, path: Path) -> Run:
    arguments, flagged, clean = _TOOLS[tool]
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = subprocess.Popen([programs / arguments[0], *arguments[1:], str(path)], stdout=out, stderr=err)
        while (ended := os.wait4(started.pid, os.WNOHANG))[0] == 0:
            if time.perf_counter() - start > _TIMEOUT:
                started.kill()
            time.sleep(0.0005)
        wall = time.perf_counter() - start
        computing = ended[2].ru_utime + ended[2].ru_stime
        code = started.returncode = os.waitstatus_to_exitcode(ended[1])
        err.seek(0)
        said = err.read()
    if code < 0:
        return Run("hung", computing, wall)
    if b"Traceback" in said:
        return Run("traceback", computing, wall)
    if tool == "ckptaudit" and code == 3:
        # A refused file is not loaded; it counts as flagged only where the line names what the pickle would call.
        return Run("flagged" if b"its pickle" in said else "refused", computing, wall)
    return Run("flagged" if code in flagged else "clean" if code in clean else "no verdict", computing, wall)


def _is_pickle(path: Path) -> bool:
    return path.suffix not in _OTHERS or path.read_bytes()[:1] == b"\x80"


def _print_folder_times(title: str, paths: list[Path], programs: dict[str, Path]) -> None:
    """Print the time that each tool takes over one folder of these files; fickling takes no folder."""
    taken: dict[str, list[Run]] = {tool: [] for tool in _OF_FOLDERS}
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(paths):
            shutil.copyfile(path, Path(folder) / f"{number}{path.suffix}")
        for _ in range(_TURNS):
            for tool in _OF_FOLDERS:
                taken[tool].append(_run(tool, programs[tool], Path(folder)))
    told = ", ".join(
        f"{tool} {median(run.computing for run in runs):.3f} s (wall {median(run.wall for run in runs):.3f} s)"
        for tool, runs in taken.items()
    )
    print(f"a folder of {title}, {len(paths)} files: {told}")


def main() -> None:
    """Print one table of all tools, then the times over folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--venv", type=Path, help="where the rivals are installed")
    parser.add_argument("--own", type=Path, help="where ckptaudit is installed")
    parser.add_argument("--every", type=int, default=1, help="take every n-th file only")
    options = parser.parse_args()
    cases: list[dict[str, Any]] = json.loads(options.cases.read_text())
    cases = [case for case in cases if not case.get("special") and (case.get("payload") or case["class"] == "benign")]
    cases = cases[:: options.every]
    here = Path(sys.executable).parent
    own = options.own / "bin" if options.own else here
    programs = dict.fromkeys(_TOOLS, options.venv / "bin" if options.venv else here) | {"ckptaudit": own}
    os.environ.pop("CKPT_HOSTILE_MARKER", None)
    if options.own:
        for name in ("PYTHONPATH", "PYTHONPYCACHEPREFIX"):  # of a source tree
            os.environ.pop(name, None)
    outcomes: dict[str, list[Run]] = {tool: [] for tool in _TOOLS}
    paths = [options.corpus / case["file"] for case in cases]
    for path in paths:
        for tool in _TOOLS:
            outcomes[tool].append(_run(tool, programs[tool], path))
    pickles = [_is_pickle(path) for path in paths]
    columns = [
        "code found",
        "refused",
        "called clean",
        "no verdict",
        "failed",
        "benign flagged",
        "per file",
        "per pickle",
        "per other file",
    ]
    print(f"| scanner | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for tool, runs in outcomes.items():
        hostile = [run.outcome for case, run in zip(cases, runs, strict=True) if case.get("payload")]
        benign = [run.outcome for case, run in zip(cases, runs, strict=True) if not case.get("payload")]
        counts = [hostile.count(word) for word in ("flagged", "refused", "clean", "no verdict")]
        failed = hostile.count("traceback") + hostile.count("hung")
        alarms = benign.count("flagged") + benign.count("refused")
        seconds = [run.computing for run in runs]
        of_pickles = [run.computing for run, pickle in zip(runs, pickles, strict=True) if pickle]
        others = [run.computing for run, pickle in zip(runs, pickles, strict=True) if not pickle]
        print(
            f"| {tool} | {counts[0]} of {len(hostile)} | {counts[1]} | {counts[2]} | {counts[3]} | {failed} | {alarms} of {len(benign)} "
            f"| {median(seconds):.3f} s | {median(of_pickles):.3f} s | {median(others):.3f} s |"
        )
    print()
    _print_folder_times("all of them", paths, programs)
    _print_folder_times("all but the largest", sorted(paths, key=lambda path: path.stat().st_size)[:-1], programs)
    _print_folder_times("pickles alone", [path for path, pickle in zip(paths, pickles, strict=True) if pickle], programs)


if __name__ == "__main__":
    main()
