"""SARIF, JUnit, GitLab and GitHub: against the official schemas, real parsers, and through the real command."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from junitparser import JUnitXml
from lxml import etree

from ckptaudit.graph import Origin
from ckptaudit.report import Entry, render_audits
from ckptaudit.rules import all_rules

from .hostile import audit_of, names

SCHEMAS = Path(__file__).parents[1] / "data" / "schemas"
SARIF = jsonschema.Draft4Validator(json.loads((SCHEMAS / "sarif-schema-2.1.0.json").read_text()))
JUNIT = etree.XMLSchema(etree.parse(SCHEMAS / "junit-10.xsd"))

MODEL = """import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3)
        self.HEAD = torch.nn.Conv2d(8, CLASSES, 1)


def build():
    return Net()
"""


def _commands(text: str) -> list[tuple[str, dict[str, str], str]]:
    """What a GitHub runner makes of the lines: commands with properties and messages, escapes undone."""

    def undone(value: str, *more: tuple[str, str]) -> str:
        for escape, character in (*more, ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
            value = value.replace(escape, character)
        return value

    found = []
    for line in text.split("\n"):
        if match := re.fullmatch(r"\s*::(\w+)(?: ([^:]*(?::(?!:)[^:]*)*))?::(.*)", line, re.DOTALL):
            pairs = (pair.split("=", 1) for pair in (match[2] or "").split(","))
            found.append((match[1], {k: undone(v, ("%3A", ":"), ("%2C", ",")) for k, v in pairs}, undone(match[3])))
        else:
            assert "::" not in line.lstrip()[:2]
            assert "##[" not in line
    return found


@pytest.fixture(scope="module")
def project(run, run_beside_torch, tmp_path_factory):
    """A repository with a model whose head was renamed and resized after its checkpoint was saved, and every report of one command."""
    folder = tmp_path_factory.mktemp("project")
    (folder / ".git").mkdir()
    package = folder / "nets, 100%"
    package.mkdir()
    (package / "old.py").write_text(MODEL.replace("HEAD", "head").replace("CLASSES", "5"))
    (package / "new.py").write_text(MODEL.replace("HEAD", "head").replace("CLASSES", "4"))
    assert run_beside_torch("spec", "old.py:build", "-o", "old.json", cwd=package).returncode == 0
    import torch

    torch.save(
        {
            "stem.weight": torch.ones(8, 3, 3, 3),
            "stem.bias": torch.ones(8),
            "head.weight": torch.ones(5, 8, 1, 1),
            "head.bias": torch.ones(5),
        },
        package / "old.pth",
    )
    formats = ["sarif", "junit", "gitlab", "markdown", "json"]
    options = [option for name in formats for option in ("--format", f"{name}=report.{name}")]
    result = run(
        "diff",
        "old.pth",
        "--arch",
        "new.py:build",
        "--format",
        "github",
        *options,
        cwd=package,
        GITHUB_STEP_SUMMARY=str(folder / "summary.md"),
    )
    assert result.returncode == 1, result.stderr
    return folder, package, result.stdout


def test_every_format_points_to_the_line_that_attached_the_layer(project):
    _, package, printed = project
    line = MODEL.splitlines().index("        self.HEAD = torch.nn.Conv2d(8, CLASSES, 1)") + 1
    sarif = json.loads((package / "report.sarif").read_text())
    (result,) = [r for r in sarif["runs"][0]["results"] if r["ruleId"] == "num-classes"]
    physical = result["locations"][0]["physicalLocation"]
    assert physical == {"artifactLocation": {"uri": "nets%2C%20100%25/new.py", "uriBaseId": "%SRCROOT%"}, "region": {"startLine": line}}
    (issue,) = [i for i in json.loads((package / "report.gitlab").read_text()) if i["check_name"] == "num-classes"]
    assert issue["location"] == {"path": "nets, 100%/new.py", "lines": {"begin": line}}
    (command,) = [c for c in _commands(printed) if c[1].get("title", "").startswith("num-classes")]
    assert (command[0], command[1]["file"], command[1]["line"]) == ("error", "nets, 100%/new.py", str(line))
    assert f"at: nets, 100%/new.py:{line}" in (package / "report.junit").read_text()
    assert f"- at `new.py:{line}`" in (package / "report.markdown").read_text()


def test_the_job_summary_is_the_markdown_report(project):
    folder, package, _ = project
    assert (folder / "summary.md").read_text() == (package / "report.markdown").read_text()


def test_verdict_first_in_every_format(project):
    _, package, printed = project
    summary = json.loads((package / "report.json").read_text())["verdict"]["summary"]
    assert summary in printed.splitlines()[0]
    assert summary in (package / "report.markdown").read_text().splitlines()[4]
    suite = JUnitXml.fromfile(str(package / "report.junit"))
    assert next(iter(next(iter(suite)))).result[0].message == summary
    run = json.loads((package / "report.sarif").read_text())["runs"][0]
    assert run["properties"]["audits"][0]["summary"] == summary
    assert run["properties"]["audits"][0]["passed"] is False


def test_sarif_has_the_help_of_every_rule(project):
    rules = json.loads((project[1] / "report.sarif").read_text())["runs"][0]["tool"]["driver"]["rules"]
    assert {rule["id"] for rule in rules} == {rule.id for rule, _ in all_rules()} | {"not-audited"}
    for rule in rules:
        assert rule["id"] == "not-audited" or "**What to do.**" in rule["help"]["markdown"]


def _check(entries: list[Entry]) -> None:
    sarif = json.loads(render_audits(entries, "sarif"))
    SARIF.validate(sarif)
    (run,) = sarif["runs"]
    assert run["invocations"][0]["executionSuccessful"] == all(entry.audit for entry in entries)
    expected = sum(len(entry.audit.findings) if entry.audit else 1 for entry in entries)
    assert len(run["results"]) == expected
    prints = [result["partialFingerprints"]["ckptauditFinding/v1"] for result in run["results"] if "partialFingerprints" in result]
    assert len(set(prints)) == len(prints)

    junit = render_audits(entries, "junit")
    JUNIT.assertValid(etree.fromstring(junit.encode()))
    suites = list(JUnitXml.fromstring(junit.encode()))
    assert len(suites) == len(entries)
    for suite, entry in zip(suites, entries, strict=True):
        assert suite.tests == len(list(suite))
        assert bool(suite.failures + suite.errors) == (not entry.passed or any(f.severity == "error" for f in entry.findings))

    issues = json.loads(render_audits(entries, "gitlab"))
    assert len({issue["fingerprint"] for issue in issues}) == len(issues)
    for issue in issues:
        assert set(issue) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert issue["severity"] in ("info", "minor", "major", "critical", "blocker")

    commands = _commands(render_audits(entries, "github"))
    failed = sum(not entry.passed for entry in entries)
    assert len(commands) == failed + sum(len(entry.findings) for entry in entries)
    assert {command for command, _, _ in commands} <= {"error", "warning", "notice"}
    assert all(set(properties) <= {"file", "line", "title"} for _, properties, _ in commands)


@given(st.lists(names, min_size=1, max_size=6), st.lists(names, min_size=1, max_size=6), names)
@settings(max_examples=30, deadline=None)
def test_hostile_names_break_no_format(file, model, words):
    audit = audit_of([*file, "shared.weight"], ["shared.weight", *file[:2], *model])
    findings = tuple(replace(f, origin=Origin(words, 3)) for f in audit.findings)
    allowed = replace(audit, findings=(*findings, *(replace(f, severity="note", allowed=words or "reason") for f in findings[:1])))
    _check([Entry(words, allowed, location=Origin(words, 1), remark=words), Entry(f"{words}2", error=words), Entry.of(audit)])


def test_fingerprints_do_not_move_with_lines_or_figures():
    audit = audit_of(["a.weight", "shared.weight"], ["shared.weight", "b.weight"])
    moved = replace(
        audit, findings=tuple(replace(f, origin=Origin("x.py", 99), message=f"{f.message} 7", confidence=0.5) for f in audit.findings)
    )

    def prints(a):
        return [r["partialFingerprints"] for r in json.loads(render_audits([Entry.of(a)], "sarif"))["runs"][0]["results"]]

    assert prints(audit)
    assert prints(audit) == prints(moved)


def test_findings_in_installed_libraries_point_to_the_configuration(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    library = Origin(str(tmp_path / ".venv" / "lib" / "site-packages" / "zoo" / "net.py"), 7)
    audit = audit_of(["a.weight", "shared.weight"], ["shared.weight", "b.weight"])
    audit = replace(audit, findings=tuple(replace(f, origin=library) for f in audit.findings))
    (run,) = json.loads(render_audits([Entry("released", audit, location=Origin("pyproject.toml", 12))], "sarif"))["runs"]
    for result in run["results"]:
        physical = result["locations"][0]["physicalLocation"]
        assert (physical["artifactLocation"]["uri"], physical["region"]["startLine"]) == ("pyproject.toml", 12)
        assert result["relatedLocations"][0]["physicalLocation"]["artifactLocation"]["uri"].endswith("/zoo/net.py")
    (command, *_) = _commands(render_audits([Entry("released", audit, location=Origin("pyproject.toml", 12))], "github"))
    assert command[1]["file"] == "pyproject.toml"


def test_what_is_allowed_is_suppressed_with_its_reason():
    audit = audit_of(["a.weight", "shared.weight"], ["shared.weight", "b.weight"])
    audit = replace(audit, findings=tuple(replace(f, severity="note", allowed="known, ask Ada") for f in audit.findings))
    entry = Entry("released", audit, holds=True)
    results = json.loads(render_audits([entry], "sarif"))["runs"][0]["results"]
    assert [r["suppressions"] for r in results] == [[{"kind": "external", "status": "accepted", "justification": "known, ask Ada"}]] * len(
        results
    )
    (suite,) = JUnitXml.fromstring(render_audits([entry], "junit").encode())
    assert (suite.failures, suite.skipped) == (0, len(results))
    assert json.loads(render_audits([entry], "gitlab")) == []
    assert _commands(render_audits([entry], "github")) == []
    assert "Reason: known, ask Ada" in render_audits([entry], "markdown")
