"""Run the real command in processes that begin with the frameworks imported; started by a fixture, not imported.

    python forking.py MODULE …

imports the modules and reads one JSON object a line: {"arguments": […], "cwd": …, "environment": {…}, "out": path, "err": path}. For each
it forks a process that becomes ``python -m ckptaudit ARGUMENTS`` with the outputs in these files, and answers with its wait status. What a
command does to its process ends with it, as ever; only the seconds that each takes to import torch or Keras are spent once.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import warnings

#: Seconds after which a command is ended, as one that hangs.
LONGEST = 120


def become_the_command(order: dict) -> None:
    for path, descriptor in (("/dev/null", 0), (order["out"], 1), (order["err"], 2)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC if descriptor else os.O_RDONLY, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[0] = order["cwd"]
    signal.alarm(LONGEST)
    sys.argv = ["ckptaudit", *order["arguments"]]

    from ckptaudit.cli import main

    main()


def serve() -> None:
    # The outputs of a forked process are files: standard output is for the answers alone.
    orders, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in sys.argv[1:]:
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    for line in orders:
        child = os.fork()
        if not child:
            become_the_command(json.loads(line))
            return
        print(os.waitpid(child, 0)[1], file=answers, flush=True)


if __name__ == "__main__":
    serve()
