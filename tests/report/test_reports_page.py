"""What docs/reports.md tells people to do works: every command and every snippet on it runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ckptaudit.report import formats

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reports.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def _scripts(value: object) -> list[str]:
    """Every ``run`` and ``script`` of a CI configuration."""
    if isinstance(value, list):
        return [script for item in value for script in _scripts(item)]
    if not isinstance(value, dict):
        return []
    own = [value["run"]] if "run" in value else value.get("script", [])
    return [*own, *(script for item in value.values() for script in _scripts(item))]


COMMANDS = [line for block in _blocks("sh") for line in block.splitlines()] + [
    line for block in _blocks("yaml") for line in _scripts(yaml.safe_load(block)) if line.startswith("ckptaudit ")
]


def test_every_format_is_on_the_page_and_in_an_example():
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == set(formats())
    assert set(formats()) - {"json"} <= {name for command in COMMANDS for name in re.findall(r"--format (\w+)", command)}


@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_command(command, tmp_path):
    (tmp_path / "sample_ckpts").symlink_to(ROOT / "sample_ckpts")
    program = [sys.executable, "-m", "ckptaudit", *command.split()[1:]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    result = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert (result.returncode, result.stderr) == (1 if "dataparallel" in command else 0, "")
    for name, file in re.findall(r"--format (\w+)=(\S+)", command):
        text = (tmp_path / file).read_text()
        assert json.loads(text) is not None if name in ("sarif", "gitlab", "json") else text


def test_snippet(tmp_path):
    (snippet,) = _blocks("python")
    check = "\nassert page.startswith('<!DOCTYPE html>') and '1 of 2 pass' in comment"
    result = subprocess.run([sys.executable, "-c", snippet + check], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (result.returncode, result.stderr) == (0, "")
