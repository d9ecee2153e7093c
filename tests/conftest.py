"""What all tests share: the real command, the sample files, and the real checkpoints where they are at hand."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent
# One worker for each core, and torch would take all cores in each of them: they would wait for one another most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
SAMPLES = ROOT / "sample_ckpts"
Command = Callable[..., subprocess.CompletedProcess[str]]

# How fast a machine is at the moment is no property of the code.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")


@pytest.fixture(autouse=True, scope="session")
def _cache_of_the_session(tmp_path_factory):
    """The user's own cache is neither read nor written, by fixtures and commands either."""
    os.environ["CKPTAUDIT_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    os.environ.pop("CKPTAUDIT_NO_CACHE", None)


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path_factory, monkeypatch):
    """Every test begins with an empty cache: what it sees does not depend on which tests ran before."""
    monkeypatch.setenv("CKPTAUDIT_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "caches" / os.urandom(8).hex()))


@pytest.fixture(scope="session")
def samples() -> Path:
    return SAMPLES


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real trained checkpoints; the test is skipped, and says so, where it is not at hand."""
    folder = os.environ.get("CKPTAUDIT_REAL")
    if not folder:
        pytest.skip("CKPTAUDIT_REAL is not set: no real trained checkpoints here")
    return Path(folder)


def environment_of_commands(**more: str) -> dict[str, str]:
    """Of every command of the tests: nothing that the user's own settings change, 80 columns, one order of sets."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("CKPTAUDIT_DEBUG", "NO_COLOR", "FORCE_COLOR")}
    return {**inherited, "COLUMNS": "80", "PYTHONHASHSEED": "0", **more}


@pytest.fixture(scope="session")
def run():
    """Run the real command in a process of its own, in the repository's root, as piped output at 80 columns."""

    def command(*arguments: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ckptaudit", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=environment_of_commands(**environment),
            timeout=120,
            check=False,
        )

    return command


@pytest.fixture(scope="session")
def run_beside_torch(run, tmp_path_factory):
    """The same, forked from a process that has imported torch: for tables whose cases would each import it for seconds."""
    with commands_forked(run, tmp_path_factory.mktemp("torch"), "torch") as command:
        yield command


@pytest.fixture(scope="session")
def run_beside_keras(run, tmp_path_factory):
    """The same with Keras, on torch."""
    with commands_forked(run, tmp_path_factory.mktemp("keras"), "torch", "keras", KERAS_BACKEND="torch") as command:
        yield command


@contextmanager
def commands_forked(run: Command, folder: Path, *modules: str, **environment: str) -> Iterator[Command]:
    """What runs commands in processes that begin with these modules; ``forking.py`` says how. Elsewhere each imports them itself."""
    if sys.platform != "linux":
        yield run
        return
    out, err, program = folder / "out", folder / "err", Path(__file__).with_name("forking.py")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    environment = environment_of_commands(**environment, OMP_NUM_THREADS="1")  # what forks has no other threads
    with subprocess.Popen([sys.executable, program, *modules], env=environment, **pipes) as parent:

        def command(*arguments: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
            order = {"cwd": cwd, "environment": environment_of_commands(**environment), "out": out, "err": err}
            parent.stdin.write(json.dumps({**order, "arguments": list(map(str, arguments))}, default=str) + "\n")
            answer = parent.stdout.readline()
            assert answer, "what forks the commands has ended"
            code = os.waitstatus_to_exitcode(int(answer))
            return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())

        yield command
        parent.stdin.close()


def pytest_collection_finish():
    """Frameworks are imported by now and stay: the garbage collector need not walk them again each time that Keras asks for a pass."""
    gc.freeze()
