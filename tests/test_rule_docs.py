"""Every rule has its page, every page its rule, and the index lists them all."""

import re
from pathlib import Path

import pytest

from ckptaudit.rules import all_rules

PAGES = Path(__file__).parent.parent / "docs" / "rules"
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


def test_every_page_has_its_rule():
    assert {page.stem for page in PAGES.glob("*.md")} == {*RULES, "README"}


def test_index_lists_every_rule_in_order():
    rows = re.findall(r"^\| \[([\w-]+)\]\((.+)\) \| (\w+) \| (.+) \|$", (PAGES / "README.md").read_text(), re.MULTILINE)
    assert rows == [(rule.id, f"{rule.id}.md", rule.severity, rule.title) for rule in RULES.values()]


def test_rule_is_named_after_its_module():
    for rule, check in all_rules():
        assert check.__module__.rpartition(".")[2].replace("_", "-") == rule.id
