"""The demonstration of the documentation as a project in a git repository."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "docs" / "demo"


def git(folder, *arguments):
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path):
    """A copy of the demonstration, committed."""
    root = tmp_path / "segkit"
    shutil.copytree(DEMO, root, ignore=shutil.ignore_patterns("weights", "__pycache__"))
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "first")
    return root


@pytest.fixture
def change():
    """Replace text in a file of the project; each must be there."""

    def edit(root, *replacements, file="segkit/models.py"):
        text = (root / file).read_text()
        for old, new in replacements:
            assert old in text, old
            text = text.replace(old, new)
        (root / file).write_text(text)

    return edit


@pytest.fixture
def small(project):
    """The same with one contract, which needs no torchvision."""
    models, configuration, lock = (project / name for name in ("segkit/models.py", "pyproject.toml", "ckptaudit.lock"))
    text = models.read_text().replace("from torchvision.models import resnet18\n", "")
    models.write_text(text[: text.index("class Large")] + text[text.index("class Block") :])
    text = configuration.read_text()
    configuration.write_text(text[: text.index("[[")] + text[text.rindex("[[tool") :])
    text = lock.read_text()
    lock.write_text(text[: text.index("[[")] + text[text.rindex("[[contracts]]") :])
    git(project, "commit", "--quiet", "--all", "--message", "small")
    return project
