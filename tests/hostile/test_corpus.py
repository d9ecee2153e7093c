"""Hostile, corrupt and benign files: each must be read or refused as expected, and nothing else may happen.

The corpus is test data outside the repository (``CKPTAUDIT_HOSTILE``: a folder with ``cases.json`` and ``corpus.tar.xz``). The tests run
the real command in one child process that records every file it opens.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FOLDER = os.environ.get("CKPTAUDIT_HOSTILE")

pytestmark = pytest.mark.skipif(not FOLDER, reason="CKPTAUDIT_HOSTILE is not set: no corpus of hostile files here")
CASES = json.loads((Path(FOLDER) / "cases.json").read_text()) if FOLDER else []


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory):
    """What ``show`` and ``scan`` (terminal and JSON) and ``diff`` did with every case, by the case's file; and the folder they lie in."""
    folder = tmp_path_factory.mktemp("corpus")
    with tarfile.open(Path(FOLDER) / "corpus.tar.xz") as archive:
        archive.extractall(folder, filter=lambda member, _: member)
    before = _listing(folder)
    paths = [str(folder / case["file"]) for case in CASES]
    sample = str(ROOT / "sample_ckpts" / "deeplabv3_voc.pth")
    calls = [
        {
            "arguments": [
                ["show", "--", path],
                ["show", "--format", "json", "--", path],
                ["diff", "-v", "--against", sample, "--", path],
                ["scan", "--", path],
                ["scan", "--format", "json", "--", path],
            ]
        }
        for path in paths
    ]
    (folder / "calls.json").write_text(json.dumps(calls))
    marker = folder / "MARKER"
    program = [sys.executable, str(Path(__file__).with_name("audit_cases.py")), folder / "calls.json", folder / "results.json"]
    ran = subprocess.run(
        program, cwd=ROOT, env={**os.environ, "CKPT_HOSTILE_MARKER": str(marker)}, timeout=900, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    results = json.loads((folder / "results.json").read_text())
    assert not marker.exists(), "a payload was executed"
    assert _listing(folder) - before == {"calls.json", "results.json"}, "files were written"
    return folder, {case["file"]: result for case, result in zip(CASES, results, strict=True)}


def _listing(folder: Path) -> set[str]:
    return {os.path.relpath(Path(top) / name, folder) for top, _, names in os.walk(folder) for name in names}


@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case["file"]))
def test_case(outcomes, case):
    folder, by_file = outcomes
    path = folder / case["file"]
    if not os.path.lexists(path):
        pytest.skip("a socket cannot be kept in an archive")
    if case.get("skip_if_root") and os.geteuid() == 0:
        pytest.skip("root may read everything")
    accepted = {case["expect"], *case.get("also_ok", [])}
    calls = by_file[case["file"]]
    for call, kind in zip(calls, ("show", "show-json", "diff", "scan", "scan-json"), strict=True):
        said = call["out"] + call["err"]
        assert call["code"] in (0, 1, 3), call["code"]
        assert "Traceback" not in said
        assert "internal error" not in said
        if call["code"] == 3:
            assert call["out"] == "" or kind == "scan-json"
            assert len(call["err"].splitlines()) == 1
            assert "refuse" in accepted, said
        elif kind.startswith("scan"):
            assert ("read-with-finding" if call["code"] else "read-ok") in accepted, said
        else:
            assert accepted & {"read-ok", "read-with-finding"}, said
        for raw in case.get("must_not_print") or []:
            assert all(raw not in line for line in said.splitlines())
        if canary := case.get("must_not_mention"):
            assert canary not in said
        assert call["seconds"] < 2 or case.get("slow")
        assert call["mib"] < 300
        for opened in call["opened"]:
            event, _, name = opened.partition(" ")
            assert event == "open", opened
            inside = Path(name).is_relative_to(path if path.is_dir() else path.parent) and "canary" not in Path(name).parts
            library = (
                name.isdecimal()
                or "python" in name
                or name.startswith((str(ROOT / "ckptaudit"), str(ROOT / "sample_ckpts"), "/proc", "/usr", "/etc"))
            )
            assert inside or library, opened
    if (word := case.get("must_mention")) and calls[0]["code"] != 0:
        assert word.lower() in calls[0]["err"].lower()
    elif word and case["expect"] == "read-with-finding":
        assert all(word.lower() in call["out"].lower() for call in calls)
