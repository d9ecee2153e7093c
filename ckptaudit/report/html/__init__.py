"""One HTML page that needs no network and no script to be read; with scripts it shows both layer graphs and what becomes of each tensor."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptaudit._version import __version__
from ckptaudit.records import dataclass
from ckptaudit.report._folding import build_tree, folded_rows, name_patterns
from ckptaudit.report._next import next_command
from ckptaudit.report._places import nearest
from ckptaudit.report._rule_pages import rule_pages
from ckptaudit.report._sides import fact_rows, file_in_words, model_in_words, tensors_covered
from ckptaudit.report._words import count, plural, share
from ckptaudit.report.html._graph_data import graph_data
from ckptaudit.text import printable

if TYPE_CHECKING:
    from markupsafe import Markup

    from ckptaudit.graph import LayerGraph
    from ckptaudit.pipeline import Audit
    from ckptaudit.report import Entry, Options
    from ckptaudit.rules import Finding

_HERE = Path(__file__).parent
_MAX_PATTERNS = 100
_MAX_TREE_ROWS = 200


def render_audits(entries: Sequence[Entry], options: Options) -> str:
    """Verdicts first, then for each audit its findings, both sides' facts, the renames and the two graphs."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    # Whatever a template shows is escaped for HTML, and before that for people: no control or reordering character gets through.
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    environment.filters.update(count=count, plural=plural, code=_with_code, tensors_covered=tensors_covered)
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    script = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in ("tree.js", "page.js"))
    page = environment.get_template("page.html").render(
        entries=[_Shown(entry, options) for entry in entries],
        options=options,
        version=__version__,
        # Nothing but this very style and script is obeyed, and nothing at all is fetched.
        policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'",
        style=Markup(style),  # noqa: S704 - files of this package
        script=Markup(script),  # noqa: S704
    )
    return page.rstrip() + "\n"


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the template asks of one audit."""

    entry: Entry
    options: Options

    @property
    def audit(self) -> Audit | None:
        return self.entry.audit

    @property
    def facts(self) -> list[tuple[str, str, str, bool]]:
        return fact_rows(self.entry.audit) if self.entry.audit else []

    @property
    def sides(self) -> tuple[str, str]:
        return (file_in_words(self.entry.audit), model_in_words(self.entry.audit)) if self.entry.audit else ("", "")

    @property
    def next_command(self) -> str:
        return next_command(self.entry.audit) if self.entry.audit else ""

    @property
    def renames(self) -> list[str]:
        rules = self.entry.audit.plan.rules if self.entry.audit else ()
        return [f"re.sub(r{rule.pattern!r}, r{rule.replacement!r}, name)".replace("\\\\", "\\") for rule in rules]

    @property
    def data(self) -> Markup:
        """Both graphs for the script. Inside it "<" stands only in strings, where its escape means the same."""
        from markupsafe import Markup

        return Markup(graph_data(self.entry.audit)) if self.entry.audit else Markup("")  # noqa: S704

    def covered(self, matched: int, total: int) -> tuple[str, float]:
        return share(matched, total), 100 * matched / total if total else 0

    def title_of(self, finding: Finding) -> str:
        page = rule_pages().get(finding.rule)
        return page.title if page else ""

    def says(self, finding: Finding) -> str:
        page = rule_pages().get(finding.rule)
        return page.says if page else ""

    def place_of(self, finding: Finding) -> str:
        return f"{nearest(finding.origin.path)}:{finding.origin.line}" if finding.origin else ""

    def names(self, audit: Audit, finding: Finding) -> list[tuple[str, list[str], int, int]]:
        """Side, patterns, how many more patterns there are, and how many tensors they stand for."""
        rows = []
        for label, names, graph in (
            ("file", finding.checkpoint, audit.checkpoint.graph),
            ("model", finding.model, audit.model.graph),
        ):
            if names:
                patterns = list(names) if self.options.verbose else name_patterns(names, graph)
                rows.append((label, patterns[:_MAX_PATTERNS], max(0, len(patterns) - _MAX_PATTERNS), len(names)))
        return rows

    @staticmethod
    def tree(graph: LayerGraph) -> tuple[list[tuple[str, str]], int]:
        """Lines of a graph's tree with repeats folded, as (name, what it is), and how many more there are."""
        rows = list(folded_rows(build_tree(graph), unfold=False))
        lines = []
        for row in rows[:_MAX_TREE_ROWS]:
            what = row.node.layer.kind if row.node.layer else f"{count(row.node.parameters)} parameters"
            tensors = (
                [f"{role} {'×'.join(map(str, t.shape)) or 'scalar'}" for role, t in row.node.layer.tensors.items()]
                if row.node.layer
                else []
            )
            times = f" ×{row.repeats}" if row.repeats > 1 else ""
            lines.append((f"{'  ' * row.depth}{row.name}", f"{what} {', '.join(tensors)}{times}"))
        return lines, max(0, len(rows) - _MAX_TREE_ROWS)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _with_code(text: Any) -> Markup:
    """A sentence with what stands in backticks as code."""
    from markupsafe import Markup, escape

    parts = re.split(r"`([^`]+)`", printable(str(text)))
    return Markup().join(Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts))
