"""Few rules, exactly the renames, and nothing else touched."""

from __future__ import annotations

import re
import time

import pytest
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from ckptaudit.plan.rename_rules import RenameRule, Renaming, rename_rules

# renames, other names of the file, the rules
TABLE = [
    ({}, [], []),
    ({"a.weight": "a.weight"}, ["b"], []),
    ({"module.a.w": "a.w", "module.b.w": "b.w"}, [], [(r"^module\.", "")]),
    ({"a.w": "net.a.w", "b.w": "net.b.w"}, [], [("^", "net.")]),
    # a dropped tensor is left alone: by an exception, as long as there are few
    ({"module.a.w": "a.w", "module.b.w": "b.w"}, ["module.fc.w", "module.fc.b"], [(r"^module\.(?!fc\.)", "")]),
    ({"module.a.w": "a.w", "module.a.v": "a.v"}, ["module.b.x", "module.c.x"], [(r"^module\.a\.", "a.")]),
    # whole segments only
    ({"block1.w": "b.w"}, ["block12.w"], [(r"^block1\.", "b.")]),
    ({"a.w": "b.w", "b.w": "a.w"}, [], [(r"^a\.", "b."), (r"^b\.", "a.")]),
    ({f"m.{i}.q.w": f"n.{i}.k.w" for i in range(12)}, [], [(r"^m\.(\d+)\.q\.", r"n.\g<1>.k.")]),
    ({f"m.{i}.w": f"n.{i}.w" for i in (0, 1)}, ["m.2.w"], [(r"^m\.2\.", "m.2."), (r"^m\.(\d+)\.", r"n.\g<1>.")]),
    ({f"layer{i}.{j}.w": f"l.{i}.{j}.w" for i in (1, 2) for j in (0, 1)}, [], [(r"^layer(\d+)\.", r"l.\g<1>.")]),
    # a number that is counted from another start is told for each
    ({f"layer{i}.{j}.w": f"l.{i - 1}.{j}.w" for i in (1, 2) for j in (0, 1)}, [], [(r"^layer1\.", "l.0."), (r"^layer2\.", "l.1.")]),
    ({"conv/kernel": "conv.weight", "conv/bias": "conv.bias"}, [], [(r"^conv/", "conv."), (r"^conv/kernel$", "conv.weight")]),
    ({"a.gamma": "a.weight", "a.beta": "a.bias"}, [], [(r"^a\.gamma$", "a.weight"), (r"^a\.beta$", "a.bias")]),
    ({"a.1.2.w": "b.2.1.w", "a.3.4.w": "b.4.3.w"}, [], [(r"^a\.(\d+)\.(\d+)\.", r"b.\g<2>.\g<1>.")]),
    ({"a": "x\\y"}, [], [("^a$", "x\\\\y")]),
]


@pytest.mark.parametrize(("renames", "others", "rules"), TABLE)
def test_rules(renames, others, rules):
    found = rename_rules(renames, others)
    assert sorted((rule.pattern, rule.replacement) for rule in found) == sorted(rules)
    _check(found, renames, others)


def _check(rules, renames, others):
    def rename(name):  # as docs/json.md tells other programs to do it
        for rule in rules:
            renamed, count = re.subn(rule.pattern, rule.replacement, name, count=1)
            if count:
                return renamed
        return name

    assert {old: rename(old) for old in renames} == dict(renames)
    assert [rename(name) for name in others if name not in renames] == [name for name in others if name not in renames]
    assert all(Renaming(rules)(name) == rename(name) for name in [*renames, *others])
    assert all(rule.well_formed for rule in rules)


segments = st.sampled_from(["a", "b", "layer1", "layer2", "conv", "0", "1", "12", "w", "bias", "x_3", "é", "a b", "(", "\\", ""])
names = st.builds(
    lambda parts, marks: "".join(x for pair in zip(parts, marks, strict=False) for x in pair)[:-1],
    st.lists(segments, min_size=1, max_size=5),
    st.lists(st.sampled_from(["."] * 9 + ["/"]), min_size=5, max_size=5),
)


@given(
    st.lists(names, min_size=1, max_size=25, unique=True),
    st.permutations(range(25)),
    st.sampled_from(["{}.w", "b.{}.w", "layer{}.0", "{}", "m.{}/w", "0.{}.x.1", None]),
    st.integers(0, 25),
)
def test_any_renaming_is_given_back(old, order, spelling, dropped):
    new = [spelling.format(i) if spelling else f"module.{name}" for i, name in zip(order, old, strict=False)]
    renames = dict(zip(old[dropped:], new[dropped:], strict=False))
    rules = rename_rules(renames, old)
    _check(rules, renames, old)


RENAMERS = [
    (lambda name: f"module.{name}", 1),
    (lambda name: f"_orig_mod.model.{name}", 1),
    (lambda name: name.replace("conv", "convolution"), 14),
    (lambda name: re.sub(r"^layer(\d)", lambda m: f"stages.{int(m[1]) - 1}", name), 4),
]


@pytest.mark.parametrize(("renamer", "most"), RENAMERS)
def test_a_renamed_network_is_said_in_few_rules(renamer, most):
    state = torchvision.models.resnet50().state_dict()
    renames = {renamer(name): name for name in state}
    rules = rename_rules(renames)
    assert len(rules) <= most
    _check(rules, renames, [])


@pytest.mark.parametrize("kind", ["prefix", "regular", "arbitrary"])
def test_ten_thousand_names(kind):
    old = [
        f"model.encoder.layers.{i}.block{j}.{w}" for i in range(500) for j in range(5) for w in ("q.weight", "q.bias", "k.weight", "k.bias")
    ]
    new = {
        "prefix": [f"module.{name}" for name in old],
        "regular": [name.replace("layers", "h").replace("q.", "query.") for name in old],
        "arbitrary": [f"t.{i * 7919 % 10007}" for i in range(len(old))],
    }[kind]
    begin = time.perf_counter()
    rules = rename_rules(dict(zip(old, new, strict=True)))
    assert time.perf_counter() - begin < 15  # about 0.3 s; 1 s where nothing can be said shorter
    assert kind == "arbitrary" or len(rules) <= 2
    renaming = Renaming(rules)
    assert [renaming(name) for name in old] == new


ILL_FORMED = [
    ("a", ""),
    ("^a.b", ""),
    ("^(a+)+$", ""),
    (r"^(\d+)(\d+)", ""),
    ("^a|b", ""),
    ("^[ab]", ""),
    (r"^a\w", ""),
    ("^a", r"\1"),
    ("^a", r"\g<1>"),
    (r"^(\d+)", r"\g<2>"),
    ("^a", "\\"),
    (r"^(?!(a+)+)", ""),
    ("^a$$", ""),
    ("^a\n", ""),
]


@pytest.mark.parametrize(("pattern", "replacement"), ILL_FORMED[:-1])
def test_rules_from_a_file_say_no_more_than_rules_may(pattern, replacement):
    assert not RenameRule(pattern, replacement).well_formed
