"""JUnit XML: a suite for each audit, in it the verdict and every rule as a test case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from ckptaudit.report._folding import name_patterns
from ckptaudit.report._places import place_of, subject
from ckptaudit.report._rule_pages import rule_pages
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.pipeline import Audit
    from ckptaudit.report import Entry, Options
    from ckptaudit.rules import Finding

_MAX_PATTERNS = 20


def render_audits(entries: Sequence[Entry], options: Options) -> str:
    """Errors are failures, an audit that could not run is an error, what is allowed is skipped with its reason; warnings and notes pass."""
    root = ElementTree.Element("testsuites", name="ckptaudit")
    for entry in entries:
        suite = ElementTree.SubElement(root, "testsuite", name=printable(entry.title))
        _add_verdict(suite, entry)
        if entry.audit:
            found = {finding.rule for finding in entry.audit.findings}
            for finding in (*entry.findings, *entry.allowed):
                _add_finding(suite, finding, entry, entry.audit)
            for rule in rule_pages():
                if rule not in found:
                    _add_case(suite, rule)
        _count(suite, [suite])
    _count(root, list(root))
    del root.attrib["skipped"]
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_case(suite: ElementTree.Element, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=f"ckptaudit.{suite.get('name')}", name=name)


def _add_verdict(suite: ElementTree.Element, entry: Entry) -> None:
    verdict = _add_case(suite, f"verdict: {entry.audit.verdict.intent}" if entry.audit else "verdict")
    said = printable(" ".join(filter(None, (entry.remark, entry.summary))))
    if entry.audit is None:
        ElementTree.SubElement(verdict, "error", type="not-audited", message=said)
    elif not entry.passed:
        ElementTree.SubElement(verdict, "failure", type=entry.status, message=said)
    else:
        ElementTree.SubElement(verdict, "system-out").text = f"{entry.status}: {said}"


def _add_finding(suite: ElementTree.Element, finding: Finding, entry: Entry, audit: Audit) -> None:
    case = _add_case(suite, printable(f"{finding.rule}: {subject(finding)}".rstrip(": ")))
    if finding.allowed:
        ElementTree.SubElement(case, "skipped", message=printable(f"allowed: {finding.allowed}"))
    elif finding.severity == "error" and not entry.passed:
        failure = ElementTree.SubElement(case, "failure", type=finding.rule, message=printable(finding.message))
        failure.text = _details(finding, entry, audit)
    else:
        ElementTree.SubElement(
            case, "system-out"
        ).text = f"{finding.severity}: {printable(finding.message)}\n{_details(finding, entry, audit)}"


def _details(finding: Finding, entry: Entry, audit: Audit) -> str:
    place = place_of(entry, finding)
    lines = [f"fix: {finding.fix}"] if finding.fix else []
    lines += [f"at: {place.path}:{place.line}"] if place and place.line else []
    sides = (("file", finding.checkpoint, audit.checkpoint.graph), ("model", finding.model, audit.model.graph))
    for label, names, graph in sides:
        patterns = name_patterns(names, graph)
        lines += [f"{label}: {pattern}" for pattern in patterns[:_MAX_PATTERNS]]
        lines += [f"{label}: and {len(patterns) - _MAX_PATTERNS} more"] if len(patterns) > _MAX_PATTERNS else []
    return "\n".join(map(printable, lines))


def _count(element: ElementTree.Element, suites: Sequence[ElementTree.Element]) -> None:
    outcomes = Counter(child.tag for suite in suites for case in suite.iter("testcase") for child in case)
    element.set("tests", str(sum(len(list(suite.iter("testcase"))) for suite in suites)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(outcomes[tag]))
