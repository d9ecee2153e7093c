"""Several audits in one report, and several reports of one command."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace

import pytest

import ckptaudit
from ckptaudit.report import CHECKPOINT_FORMATS, Entry, Options, formats, render_audits


@pytest.fixture(scope="module")
def audits(samples):
    return tuple(
        ckptaudit.audit(samples / name, samples / "deeplabv3_voc.pth") for name in ("deeplabv3_voc.pth", "dataparallel_10classes.pth")
    )


def _allow(audit, rule, reason):
    return replace(audit, findings=tuple(replace(f, severity="note", allowed=reason) if f.rule == rule else f for f in audit.findings))


@pytest.fixture(scope="module")
def entries(audits):
    good, bad = audits
    return [
        Entry("released", good),
        Entry("segmentation", _allow(bad, "num-classes", "the head is trained anew"), remark="Broken by this change."),
        Entry("lost", error="nothing.pth: no such file"),
    ]


def test_entries_pass_only_when_audited_and_fit(audits, entries):
    assert [entry.passed for entry in entries] == [True, False, False]
    assert Entry("decided otherwise", audits[1], holds=True).passed
    assert not Entry("never audited", holds=True).passed
    assert [f.rule for f in entries[1].allowed] == ["num-classes"]
    assert "num-classes" not in [f.rule for f in entries[1].findings]


def test_json_of_several(entries):
    report = json.loads(render_audits(entries, "json"))
    assert (report["schema"], report["passed"]) == ("ckptaudit.report/1", False)
    assert [entry["audit"] and entry["audit"]["schema"] for entry in report["entries"]] == ["ckptaudit.audit/1", "ckptaudit.audit/1", None]
    assert report["entries"][1]["allowed"] == [{"rule": "num-classes", "reason": "the head is trained anew"}]


def test_terminal_of_several(entries):
    page = render_audits(entries, "terminal", Options())
    lines = page.splitlines()
    assert lines[0] == "✓ released  compatible"
    assert "✗ lost  not audited" in lines
    assert "  Could not be audited: nothing.pth: no such file" in lines
    assert "  allowed: num-classes (the head is trained anew)" in lines
    assert page.count("wrapper-prefix") == 1  # the page of the failed audit, and of no other


def test_formats_that_show_a_file_are_those_that_can():
    able = [name for name in formats() if hasattr(importlib.import_module(f"ckptaudit.report.{name}"), "render_checkpoint")]
    assert tuple(able) == CHECKPOINT_FORMATS


PAIR = ("sample_ckpts/dataparallel_10classes.pth", "--against", "sample_ckpts/deeplabv3_voc.pth")


def test_several_formats_at_once(run, tmp_path):
    result = run("diff", *PAIR, "--format", "terminal", "--format", f"json={tmp_path / 'a.json'}", "-q")
    assert (result.returncode, result.stdout.splitlines()[0][:9]) == (1, "✗ partial")
    assert json.loads((tmp_path / "a.json").read_text())["verdict"]["status"] == "partial"
    again = run("diff", *PAIR, "--format", f"json={tmp_path / 'a.json'}", "--format", f"terminal={tmp_path / 'a.txt'}")
    assert (again.returncode, again.stdout, sorted(p.name for p in tmp_path.iterdir())) == (3, "", ["a.json"])
    assert run("diff", *PAIR, "--format", f"json={tmp_path / 'a.json'}", "-o", tmp_path / "a.txt").returncode == 2
    forced = run("diff", *PAIR, "--format", f"json={tmp_path / 'a.json'}", "--format", "terminal", "-o", tmp_path / "a.txt", "--force")
    assert (forced.returncode, forced.stdout) == (1, "")
    assert (tmp_path / "a.txt").read_text().startswith("✗ partial")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--format", "json", "--format", "terminal"), "go to the same place"),
        (("--format", "json=x", "--format", "terminal=./x"), "two formats would be written to this file"),
        (("--format", "json=x", "-o", "y"), "-o goes with a --format without a file"),
        (("--format", "json="), "names no file"),
        (("--format", "yaml"), "'yaml' is not one of"),
    ],
)
def test_contradicting_outputs_are_told_before_any_work(run, options, words):
    result = run("diff", "nothing.pth", "--against", "nothing.pth", *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert words in result.stderr
