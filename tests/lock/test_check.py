"""``ckptaudit lock`` and ``ckptaudit check`` as people and CI meet them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from safetensors.torch import load_file, save_file

from ckptaudit.cli._commands import commands

from .conftest import DEMO

SCHEMA = json.loads((DEMO.parent / "check-1.schema.json").read_text())


@pytest.fixture
def weights(small):
    """What stands for the released file of the small model, made by the demonstration's own script without its large one."""
    script = (
        (small / "make_weights.py")
        .read_text()
        .replace("Large, Small", "Small")
        .replace('(Large(), "large_voc"), (', "(")
        .replace(")):", "),):")
    )
    (small / "make_weights.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(small), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "make_weights.py"], cwd=small, env=environment, check=True)
    return small / "weights/small_cityscapes.safetensors"


@pytest.fixture
def call(small, monkeypatch):
    """The command in this process, in the project; modules of the project are forgotten each time."""

    def run(*arguments):
        monkeypatch.chdir(small)
        for name in [name for name in sys.modules if name.partition(".")[0] == "segkit"]:
            del sys.modules[name]
        return CliRunner().invoke(commands, list(map(str, arguments)))

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return run


def check(call, *arguments):
    result = call("check", "--format", "json", *arguments)
    report = json.loads(result.stdout) if result.stdout else None
    if report:
        assert not list(Draft202012Validator(SCHEMA).iter_errors(report))
        assert report["passed"] == (result.exit_code == 0)
    return result, report


def test_the_lock_of_the_demonstration_is_what_the_command_writes(call, small, weights):
    before = (small / "ckptaudit.lock").read_text()
    result = call("lock")
    assert (result.exit_code, (small / "ckptaudit.lock").read_text()) == (0, before), result.output
    assert "✓ small-cityscapes  compatible" in result.stdout


def test_a_file_that_is_gone_keeps_its_entry(call, small):
    before = (small / "ckptaudit.lock").read_text()
    result = call("lock")
    assert (result.exit_code, (small / "ckptaudit.lock").read_text()) == (0, before)
    assert "kept from the lock" in result.stdout


def test_a_url_is_never_fetched(call, small, weights, change):
    change(small, ('"weights/small_cityscapes.safetensors"', '"https://example.org/x.safetensors"'), file="pyproject.toml")
    result = call("lock")
    assert result.exit_code == 3
    assert "give a local copy with --from small-cityscapes=FILE" in result.stderr
    assert call("lock", "--from", f"small-cityscapes={weights}").exit_code == 0
    assert check(call)[1]["contracts"][0]["outcome"] == "restores"
    assert call("lock", "--from", f"small={weights}").exit_code == 2


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("ckptaudit.lock", None, None, "there is no ckptaudit.lock"),
        ("ckptaudit.lock", "version = 1", "version = [", "ckptaudit.lock is no TOML"),
        ("ckptaudit.lock", 'name = "small-cityscapes"', 'name = "other"', "is not in ckptaudit.lock"),
        ("ckptaudit.lock", 'arch = "segkit.models:Small"', 'arch = "segkit.models:Tiny"', "(arch changed)"),
        ("pyproject.toml", 'arch = "segkit.models:Small"', 'arch = "segkit.models:Small"\nintent = "resume"', "(intent changed)"),
        ("pyproject.toml", 'arch = "segkit.models:Small"', 'arhc = "segkit.models:Small"', "did you mean arch"),
        ("segkit/models.py", "class Small(", "class Smaller(", "there is no 'Small'"),
        ("segkit/models.py", "def __init__", "def __init__(", "SyntaxError"),
    ],
)
def test_what_cannot_be_audited_is_no_pass(file, old, new, says, call, small, change):
    if old is None:
        (small / file).unlink()
    else:
        change(small, (old, new), file=file)
    result, report = check(call)
    assert result.exit_code == 3
    assert says in result.stderr + json.dumps(report)
    assert "Traceback" not in result.output


def test_without_a_configuration_there_is_nothing_to_check(call, small):
    (small / "pyproject.toml").unlink()
    result = call("check")
    assert result.exit_code == 3
    assert "no pyproject.toml with a table [tool.ckptaudit]" in result.stderr


def test_a_renamed_layer_fails_where_the_project_says_so(call, small, change):
    change(small, ("self.head", "self.classify"))
    result, report = check(call)
    (contract,) = report["contracts"]
    assert (result.exit_code, contract["outcome"], contract["holds"]) == (1, "with-plan", False)
    assert contract["since"]["layer"] == "classify"
    assert contract["renames"] == [{"pattern": r"^head\.", "replacement": "classify."}]
    assert [line for line in call("check").stdout.splitlines() if line.startswith(("✓", "✗"))] == [
        "✗ small-cityscapes  remappable",
        "✗ remappable  small-cityscapes: small_cityscapes.safetensors → segkit.models:Small",
    ]
    assert check(call, "--fail-on", "partial")[0].exit_code == 0


@pytest.mark.parametrize(
    ("old", "new", "outcome", "rules"),
    [
        ("stride=2", "stride=1", "broken", ["attribute-drift"]),
        (".relu()", ".sigmoid()", "restores", []),  # what forward does is not seen
        ("Block(32, 64))", "Block(32, 64), nn.Dropout(0.1))", "restores", []),
        ("nn.BatchNorm2d(after)", "nn.BatchNorm2d(after, momentum=0.01)", "restores", ["attribute-drift"]),
        ("bias=False", "bias=True", "broken", ["missing-layers"]),
    ],
)
def test_changes_of_the_model(old, new, outcome, rules, call, small, change):
    change(small, (old, new))
    contract = check(call)[1]["contracts"][0]
    assert (contract["outcome"], [finding["rule"] for finding in contract["findings"]]) == (outcome, rules)


@pytest.mark.parametrize(("optimizer", "holds"), [(True, True), (False, False)])
def test_a_contract_to_resume_wants_the_optimizer_state(optimizer, holds, call, small, weights, change):
    model = load_file(weights)
    parameters = [torch.nn.Parameter(values) for name, values in model.items() if name.endswith((".weight", ".bias"))]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    adam = torch.optim.Adam(parameters)
    adam.step()
    state = {"model": model} | ({"optimizer": adam.state_dict()} if optimizer else {})
    torch.save(state, small / "resume.pth")
    change(small, ('arch = "segkit.models:Small"', 'arch = "segkit.models:Small"\nintent = "resume"'), file="pyproject.toml")
    assert call("lock", "--from", f"small-cityscapes={small / 'resume.pth'}").exit_code == (0 if holds else 1)
    (small / "resume.pth").unlink()
    result, report = check(call)
    assert (result.exit_code, report["contracts"][0]["holds"]) == (0 if holds else 1, holds)
    assert [f["rule"] for f in report["contracts"][0]["findings"] if f["severity"] == "error"] == ([] if holds else ["optimizer-state"])


def test_an_allowed_gap_holds_with_its_reason_and_an_unused_one_is_told(call, small, change):
    allow = 'allow = [{ rule = "missing-layers", names = ["edge.*"], reason = "new in 1.1" }]'
    change(small, ('arch = "segkit.models:Small"', f'arch = "segkit.models:Small"\n{allow}'), file="pyproject.toml")
    result, report = check(call)
    assert result.exit_code == 0
    (unused,) = report["contracts"][0]["findings"]
    assert (unused["rule"], unused["origin"]["path"]) == ("unused-allowance", "pyproject.toml")
    told, begins = call("check").stdout.splitlines()[-2:]
    assert told.strip() == "1 warning; -v shows all of it"
    assert begins.startswith("    unused-allowance: The contract allows missing-layers for edge.* (new in")
    assert len(begins) <= 80
    assert "take the allowance out" in call("check", "-v").stdout
    assert "unused-allowance" not in call("check", "-q").stdout
    change(small, ("        self.head = ", "        self.edge = nn.Linear(3, 3)\n        self.head = "))
    result, report = check(call)
    (finding,) = report["contracts"][0]["findings"]
    assert (result.exit_code, finding["rule"], finding["severity"], finding["allowed"]) == (0, "missing-layers", "note", "new in 1.1")
    assert "allowed: missing-layers (new in 1.1)" in call("check").stdout


def test_values_are_known_from_the_time_of_locking(call, small, weights):
    untrained = {f"encoder.0.norm.{name}": value for name, value in torch.nn.BatchNorm2d(16).state_dict().items()}
    save_file({**load_file(weights), **untrained}, weights)
    assert call("lock").exit_code == 1
    weights.unlink()
    result, report = check(call)
    assert (result.exit_code, [f["rule"] for f in report["contracts"][0]["findings"]]) == (1, ["bn-untrained"])


def test_files_for_ci_are_well_formed():
    root = DEMO.parents[1]
    (hook,) = yaml.safe_load((root / ".pre-commit-hooks.yaml").read_text())
    words = hook["entry"].split()
    assert words == ["ckptaudit", "check"]
    action = yaml.safe_load((root / "action.yml").read_text())
    steps = action["runs"]["steps"]
    assert all(len(step["uses"].partition("@")[2]) == 40 for step in steps if "uses" in step)
    assert all("${{" not in step["run"] for step in steps if "run" in step)
    assert Path(root / "docs/ci.md").is_file()
