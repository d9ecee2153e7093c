"""What must hold for every hostile file, whoever made it: the real command over many of them in one child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
SAMPLE = str(ROOT / "sample_ckpts" / "deeplabv3_voc.pth")

SHOW, SHOW_JSON = ["show"], ["show", "--format", "json"]
DIFF = ["diff", "-v", "--against", SAMPLE]
SCAN, SCAN_JSON = ["scan"], ["scan", "--format", "json"]


def run_all(folder: Path, paths: list[Path], calls: list[list[list[str]]]) -> list[list[dict[str, Any]]]:
    """What each call did with each file; that nothing was run or written is checked at once."""
    before = _listing(folder)
    (folder / "calls.json").write_text(
        json.dumps([{"arguments": [[*call, "--", str(path)] for call in kinds]} for path, kinds in zip(paths, calls, strict=True)])
    )
    marker = folder / "MARKER"
    program = [sys.executable, str(Path(__file__).with_name("audit_cases.py")), folder / "calls.json", folder / "results.json"]
    environment = {**os.environ, "CKPT_HOSTILE_MARKER": str(marker)}
    ran = subprocess.run(program, cwd=ROOT, env=environment, timeout=900, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert not marker.exists(), "a payload was executed"
    assert _listing(folder) - before == {"calls.json", "results.json"}, "files were written"
    results: list[list[dict[str, Any]]] = json.loads((folder / "results.json").read_text())
    return results


def _listing(folder: Path) -> set[str]:
    return {os.path.relpath(Path(top) / name, folder) for top, _, names in os.walk(folder) for name in names}


def check_call(call: dict[str, Any], kind: list[str], path: Path, accepted: set[str], *, slow: bool = False, beside: str = SAMPLE) -> None:
    """One call ended in time and in bounds, with an accepted verdict, and opened nothing but the file and its own companions."""
    said = call["out"] + call["err"]
    assert call["code"] in (0, 1, 3), (call["code"], said)
    assert "Traceback" not in said
    assert "internal error" not in said
    if call["code"] == 3:
        assert call["out"] == "" or kind == SCAN_JSON
        assert len(call["err"].splitlines()) == 1
        assert "refuse" in accepted, said
    elif kind[0] == "scan":
        assert ("finding" if call["code"] else "ok") in accepted, said
    else:
        assert accepted & {"ok", "finding"}, said
    assert call["seconds"] < 2 or slow, f"{call['seconds']:.1f} s"
    assert call["mib"] < 300, f"{call['mib']:.0f} MiB"
    for opened in call["opened"]:
        event, _, name = opened.partition(" ")
        assert event == "open", opened
        inside = Path(name).is_relative_to(path if path.is_dir() else path.parent) and "canary" not in Path(name).parts
        ours = (str(ROOT / "ckptaudit"), beside, "/proc", "/usr", "/etc/localtime")
        assert inside or name.isdecimal() or "python" in name or name.startswith(ours), opened
