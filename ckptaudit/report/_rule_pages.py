"""What the documentation says of a rule, for reports that bring their own help."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from ckptaudit.records import dataclass
from ckptaudit.rules import all_rules

#: In an installed package, and in a source tree.
_FOLDERS = (Path(__file__).parent / "rule_pages", Path(__file__).parents[2] / "docs" / "rules")


@dataclass(frozen=True, slots=True)
class RulePage:
    """A rule in words.

    Attributes
    ----------
    id, title, severity:
        As the rule declares them.
    says:
        What its findings say, in a sentence or two; the title where there is no page.
    markdown:
        The page without its heading; ``""`` where there is none.
    """

    id: str
    title: str
    severity: str
    says: str
    markdown: str


@cache
def rule_pages() -> dict[str, RulePage]:
    """Every rule by id."""
    return {rule.id: _page(rule.id, rule.title, rule.severity) for rule, _ in all_rules()}


def _page(rule: str, title: str, severity: str) -> RulePage:
    file = next((path for folder in _FOLDERS if (path := folder / f"{rule}.md").is_file()), None)
    if file is None:
        return RulePage(rule, title, severity, f"{title}.", "")
    markdown = file.read_text(encoding="utf-8").partition("\n")[2].strip()
    says = re.search(r"\*\*What it says\.\*\*\s+(.+?)\n\n", markdown, re.DOTALL)
    return RulePage(rule, title, severity, " ".join(says[1].split()) if says else f"{title}.", markdown)
