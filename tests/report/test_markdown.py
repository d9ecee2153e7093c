"""Markdown: held against a real parser, with names that try everything."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ckptaudit.report import Entry, Options, render_audits
from ckptaudit.report.markdown import MAX_CHARACTERS, code, prose

from .hostile import FRAGMENTS, audit_of, names

# With HTML and with every link that any renderer might find.
PARSER = MarkdownIt("commonmark", {"html": True, "linkify": True}).enable(["table", "strikethrough", "linkify"])
#: What the text that is left outside code must not hold: mentions, issues, commits, addresses, emoji, formulas.
ACTIVE = re.compile(r"@\w|#\d|\bGH-\d|\b[0-9a-f]{7,}\b|://|\bwww\.|:\w+:|\$", re.IGNORECASE)
OWN_HTML = re.compile(r"(</details>|<details><summary>[\w ,.:·()%'-]+</summary>)\s*")
BLOCKS = {"paragraph", "heading", "table", "thead", "tbody", "tr", "th", "td", "bullet_list", "list_item", "strong"}


def _inline(markdown: str):
    (paragraph,) = [token for token in PARSER.parse(markdown) if token.type == "inline"]
    return paragraph.children


def _check(markdown: str) -> None:
    """Nothing but our own markup, and nothing in the text that GitHub would link."""
    for token in PARSER.parse(markdown):
        if token.type == "html_block":
            assert OWN_HTML.fullmatch(token.content), token.content
        elif token.type == "inline":
            for child in token.children:
                assert child.type in ("text", "code_inline", "strong_open", "strong_close", "softbreak"), (child.type, child.content)
                if child.type == "text":
                    assert not ACTIVE.search(child.content), child.content
        else:
            assert token.type == "fence" or token.type.rsplit("_", 1)[0] in BLOCKS, token.type


@given(names)
def test_code_is_one_code_span_that_says_the_same(text):
    (span,) = _inline(f"a {code(text)} b")[1:-1]
    assert span.type == "code_inline"
    table = PARSER.parse(f"| x | y |\n|---|---|\n| {code(text)} | {code(text)} |\n")
    cells = [token.children for token in table if token.type == "inline"][2:]
    assert [[child.type for child in cell] for cell in cells] == [["code_inline"]] * 2
    assert cells[0][0].content == cells[1][0].content == span.content


@pytest.mark.parametrize("text", ["a", "a`b", "`", "``a`", " a ", "a\\", "x` `y", "- a"])
def test_code_keeps_the_text(text):
    assert _inline(f"a {code(text)} b")[1].content == text


@given(
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.sampled_from([" ", " `a` ", "The file", "(", ")."]), st.text(max_size=6))).map(
        "".join
    )
)
@settings(max_examples=300)
def test_prose_holds_nothing_but_words_and_code(text):
    _check(prose(text))
    _check(f"| x | y |\n|---|---|\n| {prose(text)} | {prose(text)} |\n")


@pytest.mark.parametrize(
    "sentence",
    [
        "The same backbone (resnet50); head 10 → 21 classes; names wrapped in `module.`: fit to fine-tune, not to evaluate.",
        "Share >99.9 % of 39.6 M parameters".replace(">", ""),
        "build the model for 10 classes, or train the head anew",
    ],
)
def test_our_own_sentences_stay_as_they_are(sentence):
    assert prose(sentence) == sentence


@given(st.lists(names, min_size=1, max_size=6), st.lists(names, min_size=1, max_size=6), names)
@settings(max_examples=60, deadline=None)
def test_a_whole_report_of_hostile_names(file, model, words):
    audit = audit_of([*file, "shared.weight"], ["shared.weight", *file[:2], *model])
    allowed = replace(audit, findings=(*audit.findings, *(replace(f, allowed=words) for f in audit.findings[:1])))
    entries = [Entry(words, allowed, remark=words), Entry(words, error=words), Entry.of(audit)]
    for chosen in (entries, entries[2:]):
        page = render_audits(chosen, "markdown", Options())
        _check(page)
        rows = [line for line in page.splitlines() if line.startswith(("| ✗", "| ✓"))]
        assert len(rows) == len(chosen)
        assert page.count("<details>") == page.count("</details>")


def test_a_report_is_cut_at_whole_findings_and_says_so():
    audit = audit_of([f"block{i}.{'x' * 200}.{i}.weight" for i in range(40)], [f"other{i}.{'y' * 200}.{i}.weight" for i in range(40)])
    many = replace(audit, findings=audit.findings * 300)
    page = render_audits([Entry.of(many)], "markdown")
    assert MAX_CHARACTERS - 15_000 < len(page) <= MAX_CHARACTERS
    shown = len(re.findall(r"<summary>(?:error|warning|note) ", page))
    (left_out,) = re.findall(r"([\d,]+) findings left out", page)
    assert shown + int(left_out.replace(",", "")) == len(many.findings)
    _check(page)


def test_a_report_of_many_audits_shows_the_failed_ones_first_and_counts_the_rest():
    audit = audit_of(["a.weight"], ["b.weight"])
    entries = [Entry(f"{'c' * 100}{i}", audit) for i in range(300)] + [Entry(f"broken{i}", audit, holds=False) for i in range(5)]
    page = render_audits(entries, "markdown")
    assert len(page) <= MAX_CHARACTERS
    assert page.startswith("## ckptaudit: ✗ 300 of 305 pass")
    rows = [line for line in page.splitlines() if line.startswith(("| ✓", "| ✗"))]
    assert [row[:4] for row in rows[:6]] == ["| ✗ "] * 5 + ["| ✓ "]
    assert f"| {305 - len(rows)} more, 0 of them not passed |" in page
