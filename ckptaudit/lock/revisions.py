"""What a change broke or mended: the same check in another revision of the project, in a process and a tree of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ckptaudit
from ckptaudit.errors import RevisionError
from ckptaudit.lock.building import OTHER_TREE
from ckptaudit.lock.contracts import Project
from ckptaudit.records import dataclass
from ckptaudit.text import printable
from ckptaudit.verdict import Bar


@dataclass(frozen=True, slots=True)
class Base:
    """Another revision as it was checked.

    Attributes
    ----------
    revision:
        As the user named it.
    commit:
        Its full hash.
    report:
        What ``ckptaudit check --format json`` said there; None where it could not be checked.
    error:
        Why it could not be.
    """

    revision: str
    commit: str
    report: dict[str, Any] | None = None
    error: str = ""


@contextmanager
def checking_base(project: Project, revision: str, fail_on: Bar | None) -> Iterator[BaseCheck]:
    """Begin to check ``revision``; it runs beside what the block does, and its tree is gone when the block is left.

    Raises
    ------
    RevisionError
        The project is in no git repository, git does not know the revision, or its tree cannot be made.
    """
    with tempfile.TemporaryDirectory(prefix="ckptaudit-base-") as folder:
        top = Path(_git(project.root, "rev-parse", "--show-toplevel"))
        try:
            commit = _git(project.root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        except RevisionError:
            raise RevisionError(f"git knows no revision {revision!r} here (in CI: a clone of full depth has it)") from None
        tree = Path(folder) / "tree"
        try:
            # No hook of the repository runs, and nothing is fetched from anywhere.
            _git(project.root, "-c", "core.hooksPath=/dev/null", "worktree", "add", "--quiet", "--detach", str(tree), commit)
            running = BaseCheck(revision, commit, _start(project, top, tree, fail_on))
            try:
                yield running
            finally:
                running.process.kill()
                running.process.communicate()
        finally:
            with suppress(RevisionError):
                _git(project.root, "worktree", "remove", "--force", str(tree))
            with suppress(RevisionError):
                _git(project.root, "worktree", "prune")


@dataclass(frozen=True, slots=True)
class BaseCheck:
    """The check of another revision while it runs."""

    revision: str
    commit: str
    process: subprocess.Popen[str]

    def result(self) -> Base:
        """Wait for it."""
        out, err = self.process.communicate()
        try:
            report = json.loads(out)
            if report["schema"] == "ckptaudit.check/1":
                return Base(self.revision, self.commit, report)
        except (ValueError, KeyError, TypeError):
            pass
        lines = [line for line in err.splitlines() if line.strip()]
        reason = lines[-1].removeprefix("ckptaudit: ") if lines else f"exit code {self.process.returncode}"
        return Base(self.revision, self.commit, error=printable(reason, 500))


def _start(project: Project, top: Path, tree: Path, fail_on: Bar | None) -> subprocess.Popen[str]:
    root = tree / project.root.resolve().relative_to(top.resolve())
    if not root.is_dir():
        root = tree  # the project did not exist then: the check there says so
    # -P: the tree may hold a package called ckptaudit; this very one is to run.
    command = [sys.executable, "-P", "-m", "ckptaudit", "check", "--format", "json", "--config", str(root / project.configuration.name)]
    command += ["--fail-on", fail_on] if fail_on else []
    here = str(Path(ckptaudit.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), here)))
    environment = {**os.environ, "PYTHONPATH": path, OTHER_TREE: str(top), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(  # noqa: S603 (this very program)
        command, cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _git(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_LFS_SKIP_SMUDGE": "1", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)  # noqa: S603, S607
    except OSError as error:
        raise RevisionError(f"--base needs git, which could not be run: {error.strerror or error}") from error
    if done.returncode:
        raise RevisionError(f"git {arguments[0]}: {printable(' '.join(done.stderr.split()) or 'failed', 300)}")
    return done.stdout.strip()
