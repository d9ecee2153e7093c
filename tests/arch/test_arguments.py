"""Arguments as a user writes them."""

import pytest

from ckptaudit.arch.arguments import format_call, merge, parse_argument, split_name
from ckptaudit.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("num_classes=10", ("num_classes", 10)),
        ("width=1.5", ("width", 1.5)),
        ("aux_loss=true", ("aux_loss", True)),
        ("aux_loss=False", ("aux_loss", False)),
        ("norm=none", ("norm", None)),
        ("encoder=resnet50", ("encoder", "resnet50")),
        ("name='10'", ("name", "10")),
        ("dilations=[False, True]", ("dilations", [False, True])),
        ("path=a=b", ("path", "a=b")),
        ("empty=", ("empty", "")),
        (" spaced = 3 ", ("spaced", 3)),
        ("open=(", ("open", "(")),
    ],
)
def test_values_are_python_literals_or_strings(text, expected):
    assert parse_argument(text) == expected


@pytest.mark.parametrize("text", ["", "num_classes", "=10", "num classes=10", "1x=2"])
def test_what_is_no_argument_is_wrong_usage(text):
    with pytest.raises(UsageError, match="KEY=VALUE"):
        parse_argument(text)


def test_arguments_may_stand_in_the_name():
    assert split_name("torchvision:resnet50?num_classes=10&norm=none") == ("torchvision:resnet50", {"num_classes": 10, "norm": None})
    assert split_name("resnet50") == ("resnet50", {})


def test_arguments_that_agree_are_joined_and_contradictions_refused():
    assert merge({"a": 1}, {"a": 1, "b": 2}) == {"a": 1, "b": 2}
    with pytest.raises(UsageError, match="num_classes is given twice: 10 and 21"):
        merge({"num_classes": 10}, {"num_classes": 21})
    with pytest.raises(UsageError, match="given twice"):
        split_name("resnet50?a=1&a=2")


def test_calls_are_python():
    assert format_call("m.f", {"weights": None, "name": "x"}) == "m.f(weights=None, name='x')"
