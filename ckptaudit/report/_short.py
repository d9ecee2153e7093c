"""The short report: what an error says, and the first thing that a failed job shows."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from ckptaudit.report._sides import tensors_covered
from ckptaudit.report._words import count, plural, share
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.pipeline import Audit

_WIDTH = 100
_MAX_FINDINGS = 4
_MAX_RULES = 3


def short_report(audit: Audit, remark: str = "") -> str:
    """Verdict, coverage, the gravest findings with their fixes, and the renames that would help: at most some twenty lines.

    Parameters
    ----------
    remark:
        A sentence that comes before everything else but the verdict.
    """
    verdict, coverage = audit.verdict, audit.coverage
    matched, total = coverage.parameters
    lines = [f"{verdict.status}  {printable(str(audit.checkpoint.path))} → {printable(audit.model.arch)}"]
    lines += _wrapped(remark) if remark else []
    lines += _wrapped(verdict.summary)
    lines += _wrapped(f"coverage: {share(matched, total)} of {count(total)} parameters, {tensors_covered(audit)}")
    grave = [finding for finding in audit.findings if finding.severity != "note"] or list(audit.findings)
    for finding in grave[:_MAX_FINDINGS]:
        lines += _wrapped(f"{finding.severity} {finding.rule}: {finding.message}")
        lines += _wrapped(f"fix: {finding.fix}", indent="    ") if finding.fix else []
    if len(grave) > _MAX_FINDINGS:
        lines += _wrapped(f"and {plural(len(grave) - _MAX_FINDINGS, 'finding')} more")
    rules = [f"re.sub(r{rule.pattern!r}, r{rule.replacement!r}, name)".replace("\\\\", "\\") for rule in audit.plan.rules]
    shown = [rule for rule in rules[:_MAX_RULES] if len(rule) < _WIDTH]
    lines += [f"  rename: {printable(rule)}" for rule in shown]
    if len(shown) < len(rules):
        lines += _wrapped(f"and {plural(len(rules) - len(shown), 'rename rule')} more")
    return "\n".join(lines)


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(
        printable(text), _WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
