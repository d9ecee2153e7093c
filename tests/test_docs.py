"""What the documents say is true: snippets run, commands exist, links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ckptaudit.cli._commands import VERBS, commands
from ckptaudit.lock.contracts import load_project

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_python_in_the_readme_runs():
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    setup = "import sys; sys.path.insert(0, 'sample_ckpts')\nfrom tiny_unet import build\nmodel = build()\n"
    result = subprocess.run([sys.executable, "-c", setup + snippet], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_contracts_of_a_page_are_read(page, tmp_path):
    (tmp_path / "src").mkdir()
    for block in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL):
        if "[tool.ckptaudit" in block:
            (tmp_path / "pyproject.toml").write_text(block)
            assert load_project(tmp_path / "pyproject.toml").contracts


def test_every_command_is_in_the_readme():
    missing = [name for name in VERBS if f"ckptaudit {name} " not in README]
    assert not missing


def test_options_in_the_readme_exist():
    verbs = [commands.get_command(click.Context(commands), name) for name in VERBS]
    known = {option for command in verbs for parameter in command.params for option in parameter.opts}
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - {"--help"}
    assert mentioned <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target
