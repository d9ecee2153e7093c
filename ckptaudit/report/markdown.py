"""Markdown for a comment on a pull request: the verdicts first, the findings folded, nothing that a name could turn into markup."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ckptaudit.lazily import compiled_when_used
from ckptaudit.report._folding import name_patterns
from ckptaudit.report._next import next_command
from ckptaudit.report._places import nearest
from ckptaudit.report._rule_pages import rule_pages
from ckptaudit.report._sides import fact_rows, file_in_words, model_in_words
from ckptaudit.report._words import plural, share
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.graph import LayerGraph
    from ckptaudit.pipeline import Audit
    from ckptaudit.report import Entry, Options
    from ckptaudit.rules import Finding

#: A comment on GitHub takes 65,536 characters; the rest is for what others put around the report.
MAX_CHARACTERS = 60_000
_MAX_TABLE = 20_000
_MAX_SUMMARY = 400
_MAX_TITLE = 120
_MAX_PATTERNS = 20
_MAX_PATTERN = 300
_MAX_RULES = 50


def render_audits(entries: Sequence[Entry], options: Options) -> str:
    """A table with a row for each audit, then what was found, of those that do not pass first; at most 60,000 characters."""
    ordered = sorted(entries, key=lambda entry: entry.passed)
    failed = sum(not entry.passed for entry in entries)
    heading = "## ckptaudit: " + (
        f"{'✗' if failed else '✓'} {entries[0].status}"
        if len(entries) == 1
        else f"{'✗' if failed else '✓'} {len(entries) - failed} of {len(entries)} pass"
    )
    page = "\n\n".join([heading, _verdicts(ordered)])
    titled = len(entries) > 1
    blocks = [] if options.quiet else [block for entry in ordered for block in _blocks(entry, options, titled=titled)]
    left_out = 0
    for position, (text, _) in enumerate(blocks):
        if len(page) + len(text) > MAX_CHARACTERS - 200:
            left_out = sum(findings for _, findings in blocks[position:])
            page += f"\n\n{plural(left_out, 'finding')} left out, as this comment may not be longer; `--format json` has all."
            break
        page += f"\n\n{text}"
    return page + "\n"


def _verdicts(entries: Sequence[Entry]) -> str:
    lines = ["| | | verdict | parameters set | |", "|---|---|---|---:|---|"]
    used = 0
    for position, entry in enumerate(entries):
        coverage = share(*entry.audit.coverage.parameters) if entry.audit else "–"
        sentence = " ".join(filter(None, (entry.remark, entry.summary)))
        mark = "✓" if entry.passed else "✗"
        line = f"| {mark} | {code(printable(entry.title, _MAX_TITLE))} | {entry.status} | {coverage} | {prose(sentence, _MAX_SUMMARY)} |"
        used += len(line)
        if used > _MAX_TABLE:
            rest = entries[position:]
            lines.append(f"| | … | | | {len(rest)} more, {sum(not other.passed for other in rest)} of them not passed |")
            break
        lines.append(line)
    return "\n".join(lines)


def _blocks(entry: Entry, options: Options, *, titled: bool) -> Iterator[tuple[str, int]]:
    """What is said of one audit, in parts that are shown whole or not at all, each with the number of findings in it."""
    if entry.audit is None:
        return
    if titled:
        yield f"### {code(printable(entry.title, _MAX_TITLE))}", 0
    for finding in entry.findings:
        yield _finding(finding, entry.audit, options), 1
    for finding in entry.allowed:
        yield f"Allowed: `{finding.rule}`, {prose(finding.message, _MAX_SUMMARY)} Reason: {prose(finding.allowed, _MAX_SUMMARY)}", 1
    yield _both_sides(entry.audit), 0
    if entry.audit.plan.rules:
        yield _renames(entry.audit), 0
    if command := next_command(entry.audit):
        yield f"Next: {code(command)}", 0


def _finding(finding: Finding, audit: Audit, options: Options) -> str:
    sure = "" if finding.confidence >= 0.95 else f" ({finding.confidence:.0%} sure)"
    page = rule_pages().get(finding.rule)
    lines = [f"**{finding.severity}{sure}.** {prose(finding.message)}"]
    for label, names, graph in (("file", finding.checkpoint, audit.checkpoint.graph), ("model", finding.model, audit.model.graph)):
        if names:
            lines += _names(label, names, graph, options)
    if finding.origin:
        lines.append(f"- at {code(f'{nearest(finding.origin.path)}:{finding.origin.line}')}")
    if finding.fix:
        lines.append(f"- fix: {prose(finding.fix)}")
    summary = f"{finding.severity} · {finding.rule}" + (f": {page.title}" if page else "")
    return _folded(summary, f"{lines[0]}\n\n" + "\n".join(lines[1:]))


def _names(label: str, names: Sequence[str], graph: LayerGraph, options: Options) -> list[str]:
    patterns = list(names) if options.verbose else name_patterns(names, graph)
    shown = ", ".join(code(printable(pattern, _MAX_PATTERN)) for pattern in patterns[:_MAX_PATTERNS])
    more = f" and {plural(len(patterns) - _MAX_PATTERNS, 'pattern')} more" if len(patterns) > _MAX_PATTERNS else ""
    return [f"- {label}: {shown}{more}" + (f" ({plural(len(names), 'tensor')})" if len(names) > 1 else "")]


def _both_sides(audit: Audit) -> str:
    lines = ["| | file | model | |", "|---|---|---|---|", f"| | {prose(file_in_words(audit))} | {prose(model_in_words(audit))} | |"]
    lines += [
        f"| {label} | {prose(old, _MAX_SUMMARY)} | {prose(new, _MAX_SUMMARY)} | {'≠' if differs else ''} |"
        for label, old, new, differs in fact_rows(audit)
    ]
    return _folded("both sides", "\n".join(lines))


def _renames(audit: Audit) -> str:
    rules = audit.plan.rules
    shown = [printable(f"re.sub(r{rule.pattern!r}, r{rule.replacement!r}, name)".replace("\\\\", "\\")) for rule in rules[:_MAX_RULES]]
    more = f"\n\nand {plural(len(rules) - _MAX_RULES, 'rule')} more" if len(rules) > _MAX_RULES else ""
    return _folded(plural(len(rules), "rename rule"), f"{fenced(shown, 'python')}{more}")


def _folded(summary: str, body: str) -> str:
    """``summary`` is of our own words: markdown means nothing there, and markup would."""
    return f"<details><summary>{summary}</summary>\n\n{body.strip()}\n\n</details>"


def code(text: str) -> str:
    """``text`` as a code span, inside which nothing is markup, a mention or a link, and which no table cell ends."""
    text = printable(text).replace("|", "\\x7c") or "(empty)"
    fence = "`" * (_longest_run(text) + 1)
    # One blank on each side is not part of the span, and keeps a backtick or a blank of the text apart from the fence.
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text}{pad}{fence}" if text.strip() else "`(blank)`"


def fenced(lines: Sequence[str], language: str = "") -> str:
    """Lines as a code block that none of them ends."""
    fence = "`" * max(3, *(_longest_run(line) + 1 for line in lines))
    return "\n".join([f"{fence}{language}", *lines, fence])


def _longest_run(text: str) -> int:
    return max(map(len, re.findall(r"`+", text)), default=0)


def prose(text: str, limit: int = 2000) -> str:
    """A sentence of ours into which a file may have put anything: as code what stands in backticks, and each word that is no plain word.

    Escaping would not do: GitHub looks for mentions, issues, commits and emoji in the text that is left when escapes are gone.
    """
    pieces: list[str] = []
    for position, part in enumerate(re.split(r"`([^`]+)`", " ".join(printable(text, limit).split()))):
        if position % 2:
            _append(pieces, code(part))
            continue
        for word in re.split(r"(\s+)", part):
            if word.isspace() or _is_plain(word, first=not pieces):
                pieces.append(word)
            elif word:
                _append(pieces, code(word))
    return "".join(pieces).strip()


def _append(pieces: list[str], span: str) -> None:
    """Two code spans side by side would be read as one."""
    if pieces and pieces[-1].endswith("`"):
        pieces.append(" ")
    pieces.append(span)


_PLAIN = compiled_when_used(r"""(?:[-+=,;()%/'’"×→≠≥≤·–—…?]|[^\W_]|(?<=\d)\.(?=\d)|[.:](?=[)"'’,;]*$))*""")
#: What is linked though it looks like a word, and what begins a list where it stands first.
_LINKED = compiled_when_used(r"[0-9a-f]{7,}|\bgh-\d|\bwww\b", re.IGNORECASE)
_BEGINS_A_LIST = compiled_when_used(r"[-+=]+$|\d+[.)]$")


def _is_plain(word: str, *, first: bool) -> bool:
    return word != "" and bool(_PLAIN.fullmatch(word)) and not _LINKED.search(word) and not (first and _BEGINS_A_LIST.match(word))
