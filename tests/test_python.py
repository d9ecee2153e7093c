"""The public Python names, and the laws that an audit keeps."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path

import jsonschema
import pytest
import torch
import torchvision

import ckptaudit

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads((ROOT / "docs" / "audit-1.schema.json").read_text())


def test_public_names_exist():
    assert all(getattr(ckptaudit, name) is not None for name in ckptaudit.__all__)
    assert set(dir(ckptaudit)) == set(ckptaudit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ckptaudit.nothing


def test_audit_is_the_function_however_it_is_reached():
    importlib.import_module("ckptaudit.pipeline")
    assert callable(ckptaudit.audit)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    model = torchvision.models.squeezenet1_1(weights=None, num_classes=5)
    model.eval()
    return model


def test_a_live_model_and_its_own_file(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "own.pth")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    size = (tmp_path / "own.pth").stat()
    audit = ckptaudit.audit(tmp_path / "own.pth", model)
    assert (audit.verdict.status, audit.verdict.fit, audit.findings, audit.plan.rules) == ("compatible", True, (), ())
    assert audit.coverage.parameters[0] == audit.coverage.parameters[1] == sum(p.numel() for p in model.parameters())
    jsonschema.validate(audit.to_json(), SCHEMA)
    # Nothing was touched: neither the model nor the file.
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert (tmp_path / "own.pth").stat().st_mtime_ns == size.st_mtime_ns


@pytest.mark.parametrize("status", ["compatible", "remappable"])
def test_what_is_called_fit_restores(model, tmp_path, status):
    """The promise itself: with the plan's renames, torch's own strict load succeeds and gives the same outputs."""
    prefix = "module." if status == "remappable" else ""
    torch.save({prefix + name: tensor for name, tensor in model.state_dict().items()}, tmp_path / "file.pth")
    fresh = torchvision.models.squeezenet1_1(weights=None, num_classes=5).eval()
    audit = ckptaudit.audit(tmp_path / "file.pth", fresh)
    assert (audit.verdict.status, audit.verdict.fit) == (status, True)
    state = torch.load(tmp_path / "file.pth")
    fresh.load_state_dict({step.target: state[step.sources[0]] for step in audit.plan.steps})
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(fresh(image), model(image))


def test_errors_are_of_one_family(tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ckptaudit.CkptAuditError, match=r"text\.pth"):
        ckptaudit.audit(tmp_path / "text.pth", "resnet18")
    with pytest.raises(ckptaudit.CkptAuditError, match="resnet18"):
        ckptaudit.audit(ROOT / "sample_ckpts" / "resnet50_imagenet.pth", "resnet_18")


#: Packages for what is there at the prompt alone.
VERBS = ("cli", "lock", "probe")


def raised(path):
    """The words of each error that a module raises."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise):
            yield " ".join(part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str))


def test_errors_name_arguments_as_python_has_them():
    package = ROOT / "ckptaudit"
    words = [text for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in VERBS for text in raised(path)]
    told = [text for text in words if re.search(r"--[a-z]", text)]
    assert len(told) > 5
    assert [text for text in told if "at the prompt" not in text] == []


def test_the_branch_that_fits_is_taken(tmp_path):
    generator, critic = torch.nn.Sequential(torch.nn.Linear(4, 8)), torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 9))
    torch.save({"netG": generator.state_dict(), "netD": critic.state_dict()}, tmp_path / "gan.pth")
    for live, branch in ((generator, "netG"), (critic, "netD")):
        audit = ckptaudit.audit(tmp_path / "gan.pth", live)
        assert (audit.checkpoint.branch.name, audit.verdict.status) == (branch, "compatible")
    assert "fits the model best" in ckptaudit.audit(tmp_path / "gan.pth", critic).checkpoint.branch_reason


def test_an_audit_shows_itself_in_one_line(tmp_path):
    model = torch.nn.Linear(3, 2)
    torch.save(model.state_dict(), tmp_path / "m.pth")
    audit = ckptaudit.audit(tmp_path / "m.pth", model)
    assert repr(audit) == f"<Audit of {tmp_path / 'm.pth'} and Linear: compatible; {audit.verdict.summary}>"
