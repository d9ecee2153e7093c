"""``ckptaudit check --base``: exactly what a change broke, on the line that did it, in every format."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest

from tests.signals import heard

from .conftest import DEMO, git

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

RENAME = ("self.reduce", "self.project")
CLASSES = ("num_classes: int = 19", "num_classes: int = 20")
EPS = ("nn.BatchNorm2d(after)", "nn.BatchNorm2d(after, eps=1e-3)")
BACKBONE = ("resnet18", "resnet34")

#: What is changed, and every finding: rule, the text on the line that it points to, contract.
CHANGES = [
    (
        [CLASSES, EPS],
        [("attribute-drift", "nn.BatchNorm2d(after, eps", "small-cityscapes"), ("num-classes", "self.head", "small-cityscapes")],
    ),
    ([RENAME], [("renamed-layers", "self.project = ", "large-voc")]),
    ([BACKBONE], [("architecture-variant", "self.backbone = resnet34", "large-voc")]),
]


@pytest.mark.parametrize(("edits", "expected"), CHANGES, ids=["classes-and-eps", "rename", "backbone"])
def test_a_change_is_reported_exactly(edits, expected, run, run_beside_torch, project, change):
    change(project, *edits)
    lines = (project / "segkit/models.py").read_text().splitlines()
    line = {rule: next(number for number, text in enumerate(lines, 1) if words in text) for rule, words, _ in expected}
    contract = {rule: name for rule, _, name in expected}

    files = {
        "json": "r.json",
        "sarif": "r.sarif",
        "github": "r.txt",
        "gitlab": "g.json",
        "junit": "r.xml",
        "markdown": "r.md",
        "html": "r.html",
    }
    formats = [word for output_format, file in files.items() for word in ("--format", f"{output_format}={file}")]
    command = run if edits == [RENAME] else run_beside_torch
    done = command("check", "--base", "HEAD", *formats, "--format", "terminal", cwd=project)
    assert (done.returncode, done.stderr) == (1, "")
    text = {output_format: (project / file).read_text() for output_format, file in files.items()}

    report = json.loads(text["json"])
    found = [
        (finding["rule"], finding["origin"]["path"], finding["origin"]["line"], entry["name"])
        for entry in report["contracts"]
        for finding in entry["findings"]
    ]
    assert sorted(found) == sorted((rule, "segkit/models.py", line[rule], contract[rule]) for rule in line)
    broken = {name for *_, name in expected}
    assert {entry["name"]: (entry["change"], entry["holds"]) for entry in report["contracts"]} == {
        name: ("broken", False) if name in broken else ("same", True) for name in ("large-voc", "small-cityscapes")
    }

    sarif = json.loads(text["sarif"])["runs"][0]["results"]
    places = [(r["ruleId"], r["locations"][0]["physicalLocation"]) for r in sarif]
    assert {(rule, p["artifactLocation"]["uri"], p["region"]["startLine"]) for rule, p in places} == {
        (rule, "segkit/models.py", line[rule]) for rule in line
    }
    annotations = re.findall(r"^::\w+ file=segkit/models\.py,line=(\d+),title=([\w-]+)", text["github"], re.MULTILINE)
    assert {(rule, int(number)) for number, rule in annotations} == set(line.items())
    gitlab = [issue for issue in json.loads(text["gitlab"]) if issue["check_name"] in line]
    assert {(i["check_name"], i["location"]["path"], i["location"]["lines"]["begin"]) for i in gitlab} == {
        (rule, "segkit/models.py", line[rule]) for rule in line
    }
    suites = {suite.get("name"): suite.get("failures") for suite in ElementTree.fromstring(text["junit"])}
    assert {name for name, failures in suites.items() if failures != "0"} == broken
    if edits == [RENAME]:  # the demonstration: its patch, and the very report
        git(project, "apply", "--reverse", DEMO / "rename.patch")
        git(project, "diff", "--exit-code", "segkit")
        assert text["markdown"] == (DEMO / "report.md").read_text()
    for rule, number in line.items():
        for page in (text["markdown"], text["html"], done.stdout):
            assert page.count(rule) >= 1
            assert f"segkit/models.py:{number}" in page


def test_what_was_broken_before_is_not_blamed_on_the_change(run_beside_torch, small, change):
    change(small, CLASSES)
    git(small, "commit", "--quiet", "--all", "--message", "broken")
    change(small, ("padding=1", "padding=(1, 1)"))
    done = run_beside_torch("check", "--base", "HEAD", "--format", "json", cwd=small)
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert [(e["outcome"], e["change"], e["holds"], e["findings"]) for e in report["contracts"]] == [("broken", "same", True, [])]
    change(small, CLASSES[::-1])
    report = json.loads(run_beside_torch("check", "--base", "HEAD", "--format", "json", cwd=small).stdout)
    assert [(e["outcome"], e["change"]) for e in report["contracts"]] == [("restores", "mended")]


def test_what_is_allowed_is_shown_with_its_reason_though_the_base_has_it(run_beside_torch, small, change):
    allow = 'allow = [{ rule = "missing-layers", names = ["edge.*"], reason = "new in 1.1" }]'
    change(small, ('arch = "segkit.models:Small"', f'arch = "segkit.models:Small"\n{allow}'), file="pyproject.toml")
    change(small, ("        self.head = ", "        self.edge = nn.Linear(3, 3)\n        self.head = "))
    git(small, "commit", "--quiet", "--all", "--message", "allowed")
    done = run_beside_torch("check", "--base", "HEAD", "--format", "terminal", "--format", "json=r.json", cwd=small)
    assert (done.returncode, done.stderr) == (0, "")
    assert "as before this change" in done.stdout
    assert "  allowed: missing-layers (new in 1.1)" in done.stdout.splitlines()
    (contract,) = json.loads((small / "r.json").read_text())["contracts"]
    assert (contract["change"], [finding["allowed"] for finding in contract["findings"]]) == ("same", ["new in 1.1"])


def test_a_base_without_a_lock_makes_everything_new(run_beside_torch, small):
    git(small, "rm", "--quiet", "--cached", "ckptaudit.lock")
    git(small, "commit", "--quiet", "--message", "no lock")
    done = run_beside_torch("check", "--base", "HEAD", "--format", "json", cwd=small)
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert "there is no ckptaudit.lock" in report["base"]["error"]
    assert "everything counts as new" in done.stderr
    assert {entry["change"] for entry in report["contracts"]} == {"new"}


def test_an_unknown_revision_is_no_pass(run, small):
    done = run("check", "--base", "no-such-branch", cwd=small)
    assert done.returncode == 3
    assert "git knows no revision 'no-such-branch'" in done.stderr


def test_a_contract_that_is_gone_is_told(run_beside_torch, small, change):
    change(small, ('name = "small-cityscapes"', 'name = "other"'), file="pyproject.toml")
    change(small, ('name = "small-cityscapes"', 'name = "other"'), file="ckptaudit.lock")
    done = run_beside_torch("check", "--base", "HEAD", "--format", "json", cwd=small)
    assert "the contract 'small-cityscapes' of HEAD is gone" in done.stderr
    assert json.loads(done.stdout)["withdrawn"] == ["small-cityscapes"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_no_tree_stays_behind_when_it_is_stopped(number, small, change):
    change(small, ("from torch import Tensor, nn\n", "import time\n\nfrom torch import Tensor, nn\n\ntime.sleep(60)\n"))
    git(small, "commit", "--quiet", "--all", "--message", "slow")
    trees = small / ".git" / "worktrees"
    command = [sys.executable, "-m", "ckptaudit", "check", "--base", "HEAD"]
    process = subprocess.Popen(command, cwd=small, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heard)  # noqa: PLW1509
    deadline = time.monotonic() + 20
    while not trees.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    made = [(folder / "gitdir").read_text() for folder in trees.iterdir()]
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode in (130, 143)
    assert len(made) == 1
    assert not trees.exists()
    assert "ckptaudit-base-" in made[0]
    assert not list((small / "..").glob("ckptaudit-base-*"))
