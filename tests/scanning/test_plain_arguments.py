"""Arguments of a scan that are understood without click mean what click makes of them, and the others are left to it."""

from __future__ import annotations

import pytest

from ckptaudit.cli._scanning import BAR, plain_arguments
from ckptaudit.cli.scan import scan

PLAIN = (
    ["a.pth"],
    ["-q", "a.pth", "b.pth"],
    ["a.pth", "-v", "--deep"],
    ["--quiet", "--verbose", "a"],
    ["--format", "json", "a"],
    ["a", "--format", "terminal", "--fail-on", "note"],
    ["--fail-on", "note", "--fail-on", "error", "a"],
    ["--", "-q", "--deep"],
    ["-q", "--", "a", "--"],
)
LEFT = (
    *([], [""], ["a", ""], ["-"], ["--help"], ["-qv", "a"], ["--format=json", "a"], ["--format", "json=x", "a"], ["--format"]),
    *(["--format", "xml", "a"], ["--format", "json", "--format", "terminal", "a"], ["--fail-on", "never", "a"], ["--fail-on"]),
    *(["-o", "x", "a"], ["--force", "a"], ["--max-header", "1K", "a"], ["--unknown", "a"]),
)


@pytest.mark.parametrize("arguments", PLAIN, ids=" ".join)
def test_what_is_understood_is_what_click_understands(arguments):
    with scan.make_context("scan", [*arguments]) as context:
        told = context.params
    formats = [chosen for chosen, _ in told["formats"]] or ["terminal"]
    flags = {flag for flag in ("quiet", "verbose", "deep") if told[flag]}
    assert plain_arguments(arguments) == (list(told["paths"]), *formats, told["bar"] or BAR, flags)
    assert (told["output"], told["force"]) == (None, False)


@pytest.mark.parametrize("arguments", LEFT, ids=" ".join)
def test_anything_else_is_left_to_click(arguments):
    assert plain_arguments(arguments) is None
