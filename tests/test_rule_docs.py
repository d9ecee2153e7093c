"""Every rule has its page, every page its rule, and the index lists them all."""

import importlib.util
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ckptaudit.rules import all_rules

PAGES = Path(__file__).parent.parent / "docs" / "rules"
_SPEC = importlib.util.spec_from_file_location("rule_cases", Path(__file__).parent / "rules" / "test_rules.py")
test_rules = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = test_rules  # dataclasses look their module up
_SPEC.loader.exec_module(test_rules)
RULES = {rule.id: rule for rule, _ in all_rules()}
SECTIONS = ["What it says", "Why it matters", "How it is detected", "What it does not catch", "What to do", "Example"]


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_page_has_the_rules_title_and_all_sections(rule):
    text = (PAGES / f"{rule.id}.md").read_text()
    title, _, kind, *_ = text.splitlines()
    assert title == f"# {rule.title}"
    assert re.match(rf"`{rule.id}` · {rule.severity}\b", kind)
    assert re.findall(r"^\*\*([^*]+)\.\*\*", text, re.MULTILINE) == SECTIONS


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_example_is_an_output_of_the_rule(rule):
    (example,) = re.findall(r"```text\n(.*?)```", (PAGES / f"{rule.id}.md").read_text(), re.DOTALL)
    assert re.match(rf"(error|warning|note)  {rule.id}\b", example)
    assert max(map(len, example.splitlines())) <= 80
    said = re.split(r"^  (?:file |model|at   |fix  )  ", example.partition("\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    fix = re.search(r"^  fix    (.*)", example, re.MULTILINE | re.DOTALL)
    saying = example.split()[0], _masked(said), _masked(fix[1] if fix else "")
    others = []
    for other in _sayings(rule.id):
        if other == saying:
            return
        others.append(other)
    pytest.fail(f"{saying} is none of {others}")


def _sayings(rule):
    """Severity, message and remedy of the rule's findings in its own positive cases, one after the other, figures and names masked."""
    for case in test_rules.CASES:
        if case.rule == rule and case.kind == test_rules.YES:
            with TemporaryDirectory() as folder:
                audit = test_rules.audited(case, Path(folder))
            yield from ((f.severity, _masked(f.message), _masked(f.fix)) for f in audit.findings if f.rule == rule)


def _masked(text):
    return re.sub(r"`[^`]*`|[\d.,]*\d", "#", " ".join(text.split()))


def test_every_page_has_its_rule():
    assert {page.stem for page in PAGES.glob("*.md")} == {*RULES, "README"}


def test_index_lists_every_rule_in_order():
    rows = re.findall(r"^\| \[([\w-]+)\]\((.+)\) \| (\w+) \| (.+) \|$", (PAGES / "README.md").read_text(), re.MULTILINE)
    assert rows == [(rule.id, f"{rule.id}.md", rule.severity, rule.title) for rule in RULES.values()]


def test_rule_is_named_after_its_module():
    for rule, check in all_rules():
        assert check.__module__.rpartition(".")[2].replace("_", "-") == rule.id
