"""What fails says so in every report, and points to the line that is to blame."""

from __future__ import annotations

import json

import pytest
import torch
from junitparser import JUnitXml

NETS = """from torch import nn


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3)
        self.norm = nn.BatchNorm2d(channels)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.NAME = Block(8)
        self.head = nn.Linear(8, 5)


def build():
    return Net()
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A model whose block was renamed after its checkpoint was saved."""
    folder = tmp_path_factory.mktemp("project")
    namespace: dict = {}
    exec(compile(NETS.replace("NAME", "bridge"), "nets.py", "exec"), namespace)
    model = namespace["build"]()
    with torch.no_grad():
        model.bridge.norm.running_mean += 0.5
    torch.save(model.state_dict(), folder / "a.pth")
    (folder / "nets.py").write_text(NETS.replace("NAME", "neck"))
    return folder


FORMATS = ("terminal", "markdown", "html", "junit", "github", "sarif")


@pytest.mark.parametrize(
    ("bar", "code", "remark"),
    [
        ((), 0, ""),
        (("--fail-on", "remappable"), 1, "Fails because of --fail-on remappable."),
        (("--fail-on", "partial"), 0, ""),
        (("--for", "resume", "--fail-on", "incompatible"), 0, "Passes because of --fail-on incompatible."),
    ],
)
def test_reports_say_what_the_exit_code_says(bar, code, remark, project, run_beside_torch, tmp_path):
    outputs = [option for name in FORMATS for option in ("--format", f"{name}={tmp_path / name}")]
    result = run_beside_torch("diff", "a.pth", "--arch", "nets.py:build", *bar, *outputs, cwd=project)
    assert (result.returncode, result.stderr) == (code, "")
    text = {name: (tmp_path / name).read_text() for name in FORMATS}
    passed = code == 0
    assert text["terminal"].startswith("✓" if passed else "✗")
    assert text["markdown"].startswith(f"## ckptaudit: {'✓' if passed else '✗'} ")
    assert f'<span class="mark">{"✓" if passed else "✗"}</span>' in text["html"]
    assert text["github"].startswith(f"ckptaudit {'passed' if passed else 'failed'}: ")
    assert ("title=ckptaudit%3A a.pth" in text["github"]) is not passed
    verdict = next(case for suite in JUnitXml.fromfile(str(tmp_path / "junit")) for case in suite)
    assert [type(found).__name__ for found in verdict.result] == ([] if passed else ["Failure"])
    assert JUnitXml.fromfile(str(tmp_path / "junit")).failures == (0 if passed else 1)
    assert f'"passed": {json.dumps(passed)}' in text["sarif"]
    for name in ("terminal", "markdown", "junit"):
        assert remark in text[name].replace("\\", "").replace("`", "")


def test_a_renamed_module_points_to_the_line_that_attached_it(project, run_beside_torch):
    result = run_beside_torch("diff", "a.pth", "--arch", "nets.py:build", "--format", "json", cwd=project)
    renamed = [found for found in json.loads(result.stdout)["findings"] if found["rule"] == "renamed-layers"]
    line = next(i for i, text in enumerate(NETS.split("\n"), 1) if "self.NAME" in text)
    assert [(found["origin"]["path"], found["origin"]["line"]) for found in renamed] == [("nets.py", line)]
