"""Run the real command over many files in one process and write down what it did; started by the test, not imported.

    python audit_cases.py CASES.json RESULTS.json

CASES.json: a list of {"arguments": [[…], …], "path": …}. For each call: exit code, both outputs, seconds of computing, what was opened.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path


class TooSlow(BaseException):
    """Raised by the alarm; no handler of ordinary errors swallows it."""


def _too_slow(*_: object) -> None:
    raise TooSlow


def main() -> None:
    from ckptaudit.cli import main as command

    events: list[str] = []
    watching = False

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in ("open", "os.system", "subprocess.Popen", "socket.connect", "os.exec", "os.posix_spawn"):
            events.append(f"{event} {os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes)) else arguments[0]}")

    sys.addaudithook(watch)
    signal.signal(signal.SIGALRM, _too_slow)
    import h5py  # noqa: F401 — runs `uname` when it is imported: that is not the doing of a hostile file

    for warm_up in (
        ["show", "-q", "tests/data/keras/small.weights.h5"],
        ["show", "-q", "sample_ckpts/resnet50_imagenet.pth"],
        ["diff", "-q", *2 * ["sample_ckpts/resnet50_imagenet.pth"]],
    ):
        arguments = warm_up if warm_up[0] == "show" else [*warm_up[:3], "--against", warm_up[3]]
        _call(command, arguments)
    cases = json.loads(Path(sys.argv[1]).read_text())
    results = []
    for case in cases:
        calls = []
        for arguments in case["arguments"]:
            events.clear()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            start = time.process_time()
            signal.alarm(60)
            watching = True
            code, out, err = _call(command, arguments)
            watching = False
            signal.alarm(0)
            calls.append(
                {
                    "code": code,
                    "out": out,
                    "err": err,
                    "seconds": time.process_time() - start,
                    "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
                    "opened": list(events),
                }
            )
        results.append(calls)
    Path(sys.argv[2]).write_text(json.dumps(results))


def _call(command: Callable[[list[str]], None], arguments: list[str]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            command(arguments)
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 0
        except TooSlow:
            code = -signal.SIGALRM
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    main()
