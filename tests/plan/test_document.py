"""The plan as a file: read back as it was, editable by hand, and strict."""

from __future__ import annotations

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ckptaudit.align import Pair
from ckptaudit.align.ops import Permute, Split
from ckptaudit.errors import OutputError, PlanError
from ckptaudit.plan import Plan
from ckptaudit.plan.document import load_plan, plan_to_text
from tests.plan.helpers import every_kind, plan_for, step

SIDES = "source: {fingerprint: 'sha256:" + "0" * 64 + "'}\n"


def test_a_plan_is_read_back(tmp_path):
    plan, _ = every_kind()
    plan = plan.named("a: file\n.pth", "módel", "state_dict")
    plan.save(tmp_path / "plan.yaml")
    assert Plan.load(tmp_path / "plan.yaml") == plan
    text = (tmp_path / "plan.yaml").read_text()
    assert yaml.safe_load(text)["rules"] == [{"pattern": r"^module\.blocks\.(\d+)\.norm\.", "replacement": r"h.\g<1>.norm."}]
    with pytest.raises(OutputError, match="exists already; force=True"):
        plan.save(tmp_path / "plan.yaml")
    assert (tmp_path / "plan.yaml").read_text() == text


def test_a_plan_of_an_audit_is_read_back(samples, tmp_path):
    import ckptaudit

    plan = ckptaudit.audit(samples / "dataparallel_10classes.pth", "deeplabv3_resnet50").plan
    plan.save(tmp_path / "plan.yaml")
    assert Plan.load(tmp_path / "plan.yaml") == plan
    assert plan.apply(samples / "dataparallel_10classes.pth").keys() == {s.target for s in plan.steps}


words = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(".{},/\\'\": #&*!|>%@`-?0")), min_size=1, max_size=8)
ops = st.sampled_from([(), (), (Permute((1, 0)),), (Split(0, 1, 2),)])
pairs = st.builds(
    Pair,
    words,
    st.tuples(words),
    ops,
    st.sampled_from(["decided", "ordered", "ambiguous"]),
    st.floats(0, 1).map(float),
    st.lists(words, max_size=2).map(tuple),
    st.none() | st.lists(words, min_size=1, max_size=2).map(tuple),
)


@given(st.lists(pairs, max_size=6, unique_by=lambda pair: pair.target), st.lists(words, max_size=4, unique=True))
def test_any_plan_is_read_back(tmp_path_factory, steps, others):
    used = {name for s in steps for name in s.sources}
    source = {name: torch.zeros(2, 2) for name in [*used, *others]}
    plan = plan_for(steps, source, {name: torch.zeros(1) for name in others})
    path = tmp_path_factory.mktemp("plans") / "plan.yaml"
    path.write_text(plan_to_text(plan), encoding="utf-8")
    assert load_plan(path) == plan


def test_a_step_is_added_and_removed_by_hand(tmp_path):
    source = {"m.a.w": torch.ones(2, 3), "m.b.w": torch.zeros(2), "m.c.w": torch.zeros(3)}
    plan = plan_for([step("a.w", "m.a.w"), step("b.w", "m.b.w")], source)
    plan.save(tmp_path / "plan.yaml")
    text = (tmp_path / "plan.yaml").read_text()
    assert "m.{a,b}.w" in text
    text = text.replace("m.{a,b}.w", "m.b.w").replace(
        "\n\ndropped:", "\n  - {to: t, from: m.a.w, ops: [{op: permute, perm: [1, 0]}]}\n\ndropped:"
    )
    (tmp_path / "plan.yaml").write_text(text)
    edited = Plan.load(tmp_path / "plan.yaml")
    assert [(s.target, s.grade, s.confidence) for s in edited.steps] == [("b.w", "decided", 1.0), ("t", "decided", 1.0)]
    assert edited.apply(source)["t"].shape == (3, 2)


def test_both_sides_are_optional(tmp_path):
    (tmp_path / "plan.yaml").write_text("schema: ckptaudit.plan/1\ncomplete: true\nsteps:\n  - names: [a]\n")
    plan = Plan.load(tmp_path / "plan.yaml")
    assert (plan.source, plan.target) == (None, None)
    assert plan.apply({"a": torch.ones(1)}).keys() == {"a"}


HEAD = "schema: ckptaudit.plan/1\ncomplete: true\n"
RULES = HEAD + r"rules: [{pattern: '^a\.', replacement: x.}, {pattern: '^b\.', replacement: y.}]" + "\n"


@pytest.mark.parametrize(
    "steps",
    [
        "{to: x.w, from: a.w, runner_up: [b.w]}, {to: y.w, from: b.w, runner_up: [a.w]}",  # as written
        "{to: x.w, from: b.w, runner_up: [b.w]}, {to: y.w, from: a.w, runner_up: [a.w]}",  # their `from` exchanged for the runner-up
        "{to: y.w, from: a.w}",  # by hand
        "{to: x.w, from: a.w, runner_up: [b.w]}, {to: tied.w, from: a.w, runner_up: [b.w]}",
        "{to: y.w, from: a.w, ops: [{op: squeeze}], runner_up: [b.w]}",
        "{to: y.w, from: [a.w, b.w], ops: [{op: sum}], runner_up: [c.w]}",
        "{to: y.w, from: c.w, runner_up: [d.w]}",  # no rule for it
    ],
)
def test_steps_decided_by_hand_count_before_rules(steps, tmp_path):
    (tmp_path / "plan.yaml").write_text(f"{RULES}steps: [{steps}]\n")
    plan = Plan.load(tmp_path / "plan.yaml")
    assert [f"to: {step.target}" for step in plan.steps] == [part.split(",")[0] for part in steps.split("{")[1:] if part.startswith("to:")]


BAD = [
    ("", "no plan"),
    ("a: b", "no plan"),
    ("[1, 2]", "no plan"),
    ("schema: ckptaudit.plan/2\n", "this version reads ckptaudit.plan/1"),
    ("schema: ckptaudit.plan/1\nsteps: []\n", "'complete' is missing"),
    (HEAD + "steps: []\nstep: []\n", "there is no key 'step'"),
    (HEAD + "steps: {}\n", "steps: a list is wanted"),
    (HEAD + "steps: [a]\n", r"steps\[0\]: a mapping is wanted"),
    (HEAD + "steps: [{to: a}]\n", r"steps\[0\]: the key 'from' is missing"),
    (HEAD + "steps: [{to: a, from: []}]\n", "at least one tensor"),
    (HEAD + "steps: [{to: 1, from: a}]\n", r"steps\[0\]\.to: text \(put it in quotes\) is wanted, not '1'"),
    (HEAD + "steps: [{to: a, from: b, ops: [{op: spin}]}]\n", r"steps\[0\]\.ops\[0\]: there is no operation 'spin'"),
    (HEAD + "steps: [{to: a, from: b, grade: sure}]\n", "grade: one of decided"),
    (HEAD + "steps: [{to: a, from: b, confidence: 2}]\n", "from 0 to 1"),
    (HEAD + "steps: [{to: a, from: b}, {to: a, from: c}]\n", "two of them set 'a'"),
    (HEAD + "steps: [{to: a, from: b}]\ninitial: [a]\n", "is set by a step, too"),
    (HEAD + "steps: [{to: a, from: b}]\ndropped: [b]\n", "is used by a step, too"),
    (HEAD + "steps: [{names: ['a{b']}]\n", "not closed"),
    (HEAD + "steps: [{names: [a, b], runner_up: [c]}]\n", r"steps\[0\]\.runner_up: 1 names beside the 2"),
    (HEAD + "steps: [{names: ['{0..9999999}']}]\n", "more than"),
    (HEAD + "steps: []\nrules: [{pattern: '(a+)+', replacement: ''}]\n", r"rules\[0\]: a rule begins with"),
    (
        RULES + "steps: [{to: y.w, from: a.w, runner_up: [b.w]}, {to: x.w, from: b.w, runner_up: [a.w]}]\n",
        "the rules rename 'a.w' to 'x.w', its step to 'y.w'",
    ),
    (RULES + "steps: [{names: [b.w]}, {to: z.w, from: a.w, runner_up: [b.w]}]\n", "the rules rename 'a.w' to 'x.w', its step to 'z.w'"),
    (HEAD + "steps: []\nsource: {fingerprint: abc}\n", "64 hexadecimal digits"),
    (HEAD + "steps: []\nsteps: []\n", "line 4: a key that stands twice"),
    (HEAD + "steps: &a [*a]\n", "line 3: a plan has no aliases"),
    (HEAD + "steps: !!python/object/apply:os.system [ls]\n", "line 3: no YAML"),
    (HEAD + "steps: [a\n", "no YAML"),
    (HEAD + "steps: " + "[" * 100_000, "nested too deep|nesting depth"),
    (HEAD + "steps:\n" + "- " * 100_000, "nested too deep"),
    (HEAD + "? {a: b}\n: c\n", "is no text"),
    ("a: b\n---\nc: d\n", "no YAML"),
    ("\x00", "no YAML"),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_bad_plans_are_told_in_one_line(text, words, tmp_path):
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(PlanError, match=words) as error:
        Plan.load(tmp_path / "plan.yaml")
    assert "\n" not in str(error.value)
    assert "plan.yaml: " in str(error.value)


def test_no_file_and_no_text(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff\xfe\x00")
    for name, words in (("a", "no text"), ("b", "no such file"), (".", "is a directory")):
        with pytest.raises(PlanError, match=words):
            Plan.load(tmp_path / name)


def test_the_plan_in_the_documents_is_one(tmp_path, samples):
    import ckptaudit

    page = (samples.parent / "docs" / "plan.md").read_text()
    whole, single = (block.split("```")[0] for block in page.split("```yaml\n")[1:])
    (tmp_path / "plan.yaml").write_text(whole)
    plan = Plan.load(tmp_path / "plan.yaml")
    real = ckptaudit.audit(samples / "dataparallel_10classes.pth", "deeplabv3_resnet50").plan
    assert (plan.rules, plan.source.fingerprint, plan.dropped, plan.initial) == (
        real.rules,
        real.source.fingerprint,
        real.dropped,
        real.initial,
    )
    (tmp_path / "plan.yaml").write_text(HEAD + "steps:\n" + single)
    assert [s.target for s in Plan.load(tmp_path / "plan.yaml").steps] == ["encoder.in_proj_weight", "head.weight"]
