"""Run the real command while its file is changed under it; started by the test, not imported.

    python change_while_read.py CASES.json RESULTS.json

CASES.json: a list of {"file", "arguments", "change", "at"}. Just before the process reads the file for the ``at``-th time it is cut to
half ("cut"), to nothing ("emptied"), overwritten ("written"), deleted ("deleted"), or another takes its name ("replaced"). For each:
exit code, both outputs, and how often the file was read. A mapped file that is cut would end this process, and with it the test.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.hostile.audit_cases import _call

_pread, _preadv = os.pread, os.preadv


class Changing:
    """A file that is changed at one of the reads of it."""

    def __init__(self, path: Path, change: str, at: int) -> None:
        self.path, self.change, self.at, self.reads = path, change, at, 0
        self.state = (path.stat().st_dev, path.stat().st_ino)

    def before_read(self, descriptor: int) -> None:
        """Count, and change it when it is time."""
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != self.state:
            return
        self.reads += 1
        if self.reads != self.at:
            return
        if self.change in ("cut", "emptied"):
            os.truncate(self.path, status.st_size // 2 if self.change == "cut" else 0)
        elif self.change == "written":
            with self.path.open("r+b") as file:
                file.seek(status.st_size // 2)
                file.write(bytes(1000))
            os.utime(self.path, (1, 1))
        elif self.change == "deleted":
            self.path.unlink()
        else:
            other = self.path.with_name("other")
            other.write_bytes(b"another file")
            other.replace(self.path)


def _copy(whole: Path, path: Path) -> None:
    """The files are large, and nearly all of it is zeros."""
    content, step = whole.read_bytes(), 1 << 16
    with path.open("wb") as file:
        file.truncate(len(content))
        for start in range(0, len(content), step):
            if (piece := content[start : start + step]).strip(b"\0"):
                file.seek(start)
                file.write(piece)


def main() -> None:
    from ckptaudit.cli import main as command

    changing: Changing | None = None

    def pread(descriptor: int, *arguments: Any) -> bytes:
        if changing is not None:
            changing.before_read(descriptor)
        return _pread(descriptor, *arguments)

    def preadv(descriptor: int, *arguments: Any) -> int:
        if changing is not None:
            changing.before_read(descriptor)
        return _preadv(descriptor, *arguments)

    os.pread, os.preadv = pread, preadv
    results = []
    for case in json.loads(Path(sys.argv[1]).read_text()):
        whole = Path(case["file"])
        path = whole.parent / "changing" / whole.name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        _copy(whole, path)
        for beside in whole.parent.glob(f"{whole.stem}.data-*"):
            (path.parent / beside.name).write_bytes(beside.read_bytes())
        changing = Changing(path, case["change"], case["at"])
        code, out, err = _call(command, [*case["arguments"], str(path)])
        results.append({"code": code, "out": out, "err": err, "reads": changing.reads})
        changing = None
    Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
