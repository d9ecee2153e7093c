"""``[tool.ckptaudit]``: what is read, and that every mistake is told by its key."""

from __future__ import annotations

import pytest

from ckptaudit.errors import ContractError
from ckptaudit.lock.contracts import find_configuration, load_project

GOOD = '[[tool.ckptaudit.contracts]]\nname = "a"\ncheckpoint = "a.pth"\narch = "m:f"\n'


def project(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    return load_project(tmp_path / "pyproject.toml")


def test_everything_that_may_be_said(tmp_path):
    (tmp_path / "lib").mkdir()
    text = (
        '# first\n[tool.ckptaudit]\nfail-on = "remappable"\npaths = ["lib"]\n'
        + GOOD
        + 'arguments = { n = 2 }\nintent = "finetune"\nbranch = "ema"\n'
        + 'allow = [{ rule = "aux-head", reason = "not released", names = ["aux.*"] }]\n'
        + GOOD.replace('"a"', '"b"').replace("a.pth", "HTTPS://x/b.pth")
    )
    read = project(tmp_path, text)
    first, second = read.contracts
    assert (read.fail_on, read.paths, read.lock) == ("remappable", (tmp_path / "lib",), tmp_path / "ckptaudit.lock")
    assert (first.name, first.arguments, first.intent, first.branch, first.is_url, first.line) == (
        "a",
        {"n": 2},
        "finetune",
        "ema",
        False,
        5,
    )
    assert [(a.rule, a.reason, a.names) for a in first.allow] == [("aux-head", "not released", ("aux.*",))]
    assert (second.is_url, second.intent, second.line) == (True, "eval", 13)


def test_a_src_folder_is_searched_first(tmp_path):
    (tmp_path / "src").mkdir()
    assert project(tmp_path, GOOD).paths == (tmp_path / "src", tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no table [tool.ckptaudit]"),
        ("[tool.ckptaudit]", "tool.ckptaudit.contracts: there is none"),
        ("[tool.ckptaudit", "is no TOML"),
        ("[tool.ckptaudit]\nfail_on = 1\n" + GOOD, "no key 'fail_on'; did you mean fail-on"),
        ('[tool.ckptaudit]\nfail-on = "always"\n' + GOOD, "fail-on: 'always' is none of remappable"),
        ('[tool.ckptaudit]\npaths = ["nowhere"]\n' + GOOD, "paths: 'nowhere' is no folder"),
        (GOOD + 'achr = "x"', "contracts[0]: there is no key 'achr'; did you mean arch"),
        (GOOD.replace('arch = "m:f"\n', ""), "contracts[0].arch: is missing"),
        (GOOD.replace('"m:f"', "3"), "contracts[0].arch: is a number, not a string"),
        (GOOD.replace('"m:f"', '""'), "contracts[0].arch: is empty"),
        (GOOD + 'intent = "evaluate"', "contracts[0].intent: 'evaluate' is none of eval, finetune, resume"),
        (GOOD + "arguments = [1]", "contracts[0].arguments: is a list, not a table"),
        (GOOD + "arguments = { a-b = 1 }", "contracts[0].arguments: 'a-b' is no name of an argument"),
        (GOOD + "allow = [1]", "contracts[0].allow[0]: is a number, not a table"),
        (GOOD + 'allow = [{ rule = "aux-haed", reason = "x" }]', "allow[0].rule: there is no rule 'aux-haed'; did you mean aux-head"),
        (GOOD + 'allow = [{ rule = "aux-head" }]', "allow[0].reason: is missing"),
        (GOOD + 'allow = [{ rule = "aux-head", reason = " " }]', "allow[0].reason: is empty"),
        (GOOD + 'allow = [{ rule = "aux-head", reason = "x", names = [1] }]', "allow[0].names[0]: is a number, not a string"),
        (GOOD + GOOD, "'a' is the name of several"),
        ("[tool.ckptaudit]\ncontracts = 3", "contracts: is a number, not a list"),
        ("[tool.ckptaudit]\ncontracts = [3]", "contracts[0]: is a number, not a table"),
        ("[tool]\nckptaudit = 3", "tool.ckptaudit: is a number, not a table"),
    ],
)
def test_mistakes_are_told_by_their_key(text, says, tmp_path):
    with pytest.raises(ContractError) as error:
        project(tmp_path, text)
    assert says in str(error.value)


def test_all_mistakes_are_told_at_once(tmp_path):
    with pytest.raises(ContractError) as error:
        project(tmp_path, GOOD + 'x = 1\nintent = "no"\n')
    assert "'x'" in str(error.value)
    assert "'no'" in str(error.value)


def test_the_nearest_configuration_is_found(tmp_path):
    (tmp_path / "pyproject.toml").write_text(GOOD)
    inner = tmp_path / "docs" / "deep"
    inner.mkdir(parents=True)
    (tmp_path / "docs" / "pyproject.toml").write_text("[tool.other]")
    assert find_configuration(inner) == tmp_path / "pyproject.toml"
