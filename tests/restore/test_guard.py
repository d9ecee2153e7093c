"""``ckptaudit.guard``: loads are audited before they write, and nothing stays behind."""

from __future__ import annotations

import copy
import io
import threading
from collections import OrderedDict

import pytest
import torch
from torch import nn

import ckptaudit
from tests.restore.networks import SmallNet, Tied, copied, prefixed, same, trained


@pytest.fixture
def good() -> dict[str, torch.Tensor]:
    return copied(trained(SmallNet()))


@pytest.fixture
def model() -> nn.Module:
    return trained(SmallNet(), seed=1)


def hooks(model: nn.Module) -> int:
    return sum(len(m._load_state_dict_pre_hooks) + len(m._load_state_dict_post_hooks) for m in model.modules())


def mmengine_style(module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """A loader of its own, as mmcv, mmengine and older releases of transformers have it: it never calls ``load_state_dict``."""
    errors: list[str] = []

    def load(part: nn.Module, prefix: str) -> None:
        part._load_from_state_dict(state, prefix, {}, True, [], [], errors)
        for name, child in part._modules.items():
            if child is not None:
                load(child, f"{prefix}{name}.")

    load(module, "")


def by_data(module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """A loader that writes past everything."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if name in state:
            tensor.data.copy_(state[name])


def below(state: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(f"{part}."): tensor for name, tensor in state.items() if name.startswith(f"{part}.")}


HEALTHY = {
    "strict": lambda m, s: m.load_state_dict(s),
    "not strict": lambda m, s: m.load_state_dict(s, strict=False),
    "assigned": lambda m, s: m.load_state_dict(s, assign=True),
    "a wrapper around it": lambda m, s: nn.DataParallel(m).load_state_dict(prefixed(s)),
    "part by part": lambda m, s: [child.load_state_dict(below(s, name)) for name, child in m.named_children()],
    "mmengine": mmengine_style,
    "past all hooks": by_data,
    "without counters": lambda m, s: m.load_state_dict({n: t for n, t in s.items() if "num_batches" not in n}, strict=False),
}


@pytest.mark.parametrize("restore", HEALTHY.values(), ids=HEALTHY)
def test_healthy_loads_pass(restore, model, good):
    with ckptaudit.guard(model) as watch:
        restore(model, good)
    assert all(audit.verdict.fit for audit in watch.audits)
    assert all(torch.equal(tensor, good[name]) for name, tensor in model.state_dict().items() if "num_batches" not in name)
    assert hooks(model) == 0


def lazy():
    return nn.Sequential(OrderedDict(body=nn.Conv2d(3, 4, 3), flat=nn.Flatten(), head=nn.LazyLinear(5)))


@pytest.mark.parametrize(
    ("keep", "error", "words"),
    [
        (("body", "head"), None, ""),
        (
            ("body",),
            ckptaudit.CkptAuditError,
            r"^Sequential: the shape of head\.weight is known only after a first forward pass.*run the model once",
        ),
        (("head",), ckptaudit.IncompatibleCheckpoint, "`body` absent"),
    ],
)
def test_parameters_without_a_shape_get_that_of_the_state_dict(keep, error, words):
    known, model = lazy(), lazy()
    known(torch.zeros(1, 3, 8, 8))
    state = {name: tensor for name, tensor in trained(known).state_dict().items() if name.startswith(keep)}

    def restore() -> None:
        with ckptaudit.guard(model):
            model.load_state_dict(state, strict=False)

    if error is None:
        restore()
        image = torch.randn(1, 3, 8, 8)
        assert torch.equal(model(image), known(image))
    else:
        with pytest.raises(error, match=words):
            restore()
        assert model.head.has_uninitialized_params()
        assert hooks(model) == hooks(lazy())


def moments(model):
    """The state of an optimizer that has done one step with a model like this one."""
    other = copy.deepcopy(model)
    optimizer = torch.optim.Adam(other.parameters())
    sum(parameter.sum() for parameter in other.parameters()).backward()
    optimizer.step()
    return optimizer.state_dict()


#: A restore that says nothing and sets little, what the error says, and whether it is found before anything is written.
SILENT = [
    pytest.param(lambda m, s: m.load_state_dict(prefixed(s), strict=False), "sets 0 of 12 tensors", True, id="prefix"),
    pytest.param(lambda m, s: m.load_state_dict({}, strict=False), "holds no tensors", True, id="empty"),
    pytest.param(
        lambda m, s: m.load_state_dict({"model": s, "model_ema": s, "optimizer": moments(m), "epoch": 3}, strict=False),
        r"weights lie deeper, under `model`, `model_ema`: [^$]*fix: give load_state_dict what lies under `model`$",
        True,
        id="a whole checkpoint",
    ),
    pytest.param(
        lambda m, s: m.load_state_dict({"run": {"net": s}, "step": torch.tensor(3)}, strict=False),
        "weights lie deeper, under `run.net`:",
        True,
        id="deeper, and a tensor beside",
    ),
    pytest.param(lambda m, s: m.load_state_dict(moments(m), strict=False), "An optimizer's state, not a model's", True, id="an optimizer"),
    pytest.param(
        lambda m, s: m.load_state_dict(torch.optim.SGD(m.parameters(), 0.1).state_dict(), strict=False),
        "An optimizer's state, not a model's",
        True,
        id="an optimizer without tensors",
    ),
    pytest.param(lambda m, s: m.load_state_dict({f"x{i}": t for i, t in enumerate(s.values())}, strict=False), "None of", True, id="names"),
    pytest.param(
        lambda m, s: m.load_state_dict({n: t for n, t in s.items() if not n.startswith("head")}, strict=False), "head", True, id="no head"
    ),
    pytest.param(
        lambda m, s: nn.DataParallel(m).load_state_dict(s, strict=False),
        "No name of the state dict begins with `module.`",
        True,
        id="wrapped, names not",
    ),
    pytest.param(lambda m, s: m.encoder.load_state_dict(s, strict=False), "sets 0", True, id="whole into a part"),
    pytest.param(lambda m, s: mmengine_style(m, prefixed(s)), "sets 0", True, id="mmengine"),
    pytest.param(lambda m, s: None, "14 of the model's 14 tensors were never set", True, id="nothing"),
    pytest.param(lambda m, s: by_data(m, prefixed(s)), "never set", True, id="past all hooks, prefix"),
    pytest.param(lambda m, s: by_data(m.head, below(s, "head")), r"encoder\.\*\*", False, id="part"),
    pytest.param(lambda m, s: m.head.load_state_dict(below(s, "head")), "never set", False, id="one part"),
    pytest.param(lambda m, s: copy.deepcopy(m).load_state_dict(s), "never set", True, id="a copy"),
]


@pytest.mark.parametrize(("restore", "words", "untouched"), SILENT)
def test_silent_failures_raise(restore, words, untouched, model, good):
    before = copied(model)
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match=words) as raised, ckptaudit.guard(model):
        restore(model, good)
    assert same(model, before) == untouched
    assert not raised.value.audit.verdict.fit
    assert hooks(model) == 0


def test_the_message_proposes_the_plan(model, good):
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match=r"re\.sub") as raised, ckptaudit.guard(model):
        model.load_state_dict(prefixed(good), strict=False)
    assert raised.value.audit.coverage.parameters[0] == 0
    model.load_state_dict(raised.value.audit.plan.apply(prefixed(good)))
    assert same(model, good)


@pytest.mark.parametrize("demand", [{"intent": "finetune"}, {"allow_missing": ["head"]}, {"min_coverage": 0.5, "intent": "finetune"}])
def test_the_demand_decides(demand, model, good):
    encoder = {name: tensor for name, tensor in good.items() if name.startswith("encoder")}
    with ckptaudit.guard(model, **demand):
        model.load_state_dict(encoder, strict=False)
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match="demanded"), ckptaudit.guard(model, intent="finetune", min_coverage=0.99):
        model.load_state_dict(encoder, strict=False)


@pytest.mark.parametrize(("allowed", "fits"), [("encoder.3", True), ("enc*.3.weight", True), ("3", None), ("encoder.0", False)])
def test_a_part_may_lack_what_the_whole_may(allowed, fits, model, good):
    """What may be missing is called as in the whole model, also where a part of it is loaded by itself."""
    part = {name.removeprefix("encoder."): tensor for name, tensor in good.items() if name.startswith("encoder") and ".3." not in name}
    if fits:
        with ckptaudit.guard(model, allow_missing=[allowed, "head"]) as watch:
            model.encoder.load_state_dict(part, strict=False)
        assert watch.audits[0].verdict.fit
    else:
        error = ckptaudit.IncompatibleCheckpoint if fits is False else ckptaudit.CkptAuditError
        with pytest.raises(error), ckptaudit.guard(model, allow_missing=[allowed, "head"]):
            model.encoder.load_state_dict(part, strict=False)


class Growing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.old = nn.Linear(4, 8), nn.Linear(8, 3)


@pytest.mark.parametrize(
    ("allowed", "error", "words"),
    [
        (["head"], None, ""),
        (["head", "old"], None, ""),
        (["head", "hed"], ckptaudit.CkptAuditError, r"no tensor of the model is 'hed' .*; did you mean head"),
        (["old"], ckptaudit.IncompatibleCheckpoint, "`head` absent"),
    ],
)
def test_what_the_block_attaches_or_takes_away_may_be_missing(allowed, error, words):
    model, state = trained(Growing(), seed=1), copied(trained(Growing()).encoder)

    def restore() -> None:
        with ckptaudit.guard(model, allow_missing=allowed):
            del model.old
            model.head = nn.Linear(8, 2)
            model.load_state_dict(prefixed(state, "encoder."), strict=False)

    if error is None:
        restore()
        assert same(model.encoder, state)
    else:
        with pytest.raises(error, match=words):
            restore()
    assert hooks(model) == 0


#: What the state dict lacks or calls otherwise, how it is loaded, and what the error says.
TIED = [
    pytest.param(["out.weight"], {}, {}, None, id="the head"),
    pytest.param(["embed.weight"], {}, {}, None, id="the embedding"),
    pytest.param([], {}, {"assign": True}, None, id="assigned"),
    pytest.param(["out.weight"], {}, {"assign": True}, r"sets 3 of 4 tensors", id="assigned apart"),
    pytest.param(["out.weight"], {"embed.weight": "wte.weight"}, {}, r"sets 2 of 4 tensors", id="neither"),
]


@pytest.mark.parametrize(("lacking", "names", "options", "words"), TIED)
def test_what_is_set_through_another_name_of_its_memory_counts(lacking, names, options, words):
    source, model = trained(Tied()), trained(Tied(), seed=1)
    state, before = copied(source), copied(model)
    state = {names.get(name, name): tensor for name, tensor in state.items() if name not in lacking}
    if words is None:
        with ckptaudit.guard(model):
            model.load_state_dict(state, strict=False, **options)
        assert same(model, copied(source))
    else:
        with pytest.raises(ckptaudit.IncompatibleCheckpoint, match=words), ckptaudit.guard(model):
            model.load_state_dict(state, strict=False, **options)
        assert same(model, before)


@pytest.mark.parametrize(
    "restore", [lambda m, s: m.load_state_dict(s), mmengine_style, lambda m, s: m.head.load_state_dict(below(s, "head"))]
)
def test_a_load_into_no_memory_raises(restore, good):
    with torch.device("meta"):
        model = SmallNet()
    with (
        pytest.raises(ckptaudit.IncompatibleCheckpoint, match=r"Nothing would be written to \d+ tensors?\s") as raised,
        ckptaudit.guard(model),
    ):
        restore(model, good)
    assert "assign=True" in str(raised.value)
    assert "device=" in str(raised.value)
    assert not raised.value.audit.verdict.fit
    with ckptaudit.guard(model):
        model.load_state_dict(dict(good), assign=True)
    assert same(model, good)


class Renaming(nn.Module):
    """Takes files of an older version, as libraries do: by a hook, by an override, and by a parametrization of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = Upgraded()
        self.third = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.register_load_state_dict_pre_hook(self._rename)

    @staticmethod
    def _rename(module, state, prefix, *rest):
        for name in [name for name in state if name.startswith(f"{prefix}old_first.")]:
            state[name.replace("old_first", "first")] = state.pop(name)


class Upgraded(nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 4)

    def _load_from_state_dict(self, state, prefix, *rest):
        if prefix + "kernel" in state:
            state[prefix + "weight"] = state.pop(prefix + "kernel").t()
        super()._load_from_state_dict(state, prefix, *rest)


def test_what_the_models_own_hooks_rename_counts(tmp_path):
    source, model = trained(Renaming()), Renaming()
    old = {
        "old_first.weight": source.first.weight.detach(),
        "old_first.bias": source.first.bias.detach(),
        "second.kernel": source.second.weight.detach().t(),
        "second.bias": source.second.bias.detach(),
        "third.weight_g": source.third.parametrizations.weight.original0.detach(),
        "third.weight_v": source.third.parametrizations.weight.original1.detach(),
        "third.bias": source.third.bias.detach(),
    }
    given = dict(old)
    with ckptaudit.guard(model) as watch:
        model.load_state_dict(old)
    assert same(model, copied(source))
    assert watch.audits[0].coverage.parameters == (60 + 4, 60 + 4)
    assert old.keys() == given.keys()
    old["second.kernels"] = old.pop("second.kernel")
    before = copied(model)
    with pytest.raises(ckptaudit.IncompatibleCheckpoint), ckptaudit.guard(model):
        model.load_state_dict(old, strict=False)
    assert same(model, before)


@pytest.mark.parametrize("options", [{"strict": False}, {"strict": True}, {"strict": False, "assign": True}], ids=str)
def test_what_torch_refuses_for_its_shape_raises_before_the_first_write(options, good):
    model = trained(SmallNet(classes=4), seed=1)
    before = copied(model)
    refused = pytest.raises(ckptaudit.IncompatibleCheckpoint, match=r"refuses 2 tensors of another shape .*`head\.\*\*`")
    with refused as raised, ckptaudit.guard(model, intent="finetune"):
        model.load_state_dict(good, **options)
    assert same(model, before)
    assert not raised.value.audit.verdict.fit
    with ckptaudit.guard(model, intent="finetune"):
        mmengine_style(model, good)
    assert torch.equal(model.encoder[0].weight, good["encoder.0.weight"])


def test_torchs_own_error_comes_through(model, good):
    with pytest.raises(RuntimeError, match="Unexpected key"), ckptaudit.guard(model, intent="finetune"):
        model.load_state_dict(good | {"extra.num_batches_tracked": torch.tensor(1)})
    assert hooks(model) == 0


def test_as_a_decorator_and_nested(model, good):
    @ckptaudit.guard(model)
    def restore(state, again=0):
        with ckptaudit.guard(model, intent="finetune"), ckptaudit.guard(model.encoder):
            model.load_state_dict(state, strict=False)
        if again:
            restore(state, again - 1)

    restore(good, again=2)
    with pytest.raises(ckptaudit.IncompatibleCheckpoint):
        restore(prefixed(good))
    assert hooks(model) == 0
    standing = ckptaudit.guard(model)
    with pytest.raises(ckptaudit.CkptAuditError, match="stands already"), standing, standing:
        pass
    assert hooks(model) == 0


def test_copies_and_pickles_made_meanwhile_are_free(model, good):
    buffer = io.BytesIO()
    with ckptaudit.guard(model):
        copied_model = copy.deepcopy(model)
        torch.save(model, buffer)
        model.load_state_dict(good)
    assert b"ckptaudit" not in buffer.getvalue()
    buffer.seek(0)
    for free in (copied_model, torch.load(buffer, weights_only=False)):
        free.load_state_dict(prefixed(good), strict=False)
        free.load_state_dict(good)


def test_threads_do_not_meet(good):
    """Eight threads, each with a guard of its own on a class and on a model; four of them restore what does not fit."""
    outcomes: dict[int, str] = {}
    together = threading.Barrier(8)

    def work(number: int) -> None:
        state = prefixed(good) if number % 2 else good
        together.wait()
        try:
            with ckptaudit.guard(SmallNet):
                model = SmallNet()
                with ckptaudit.guard(model):
                    model.load_state_dict(state, strict=False)
            outcomes[number] = "fine"
        except ckptaudit.IncompatibleCheckpoint:
            outcomes[number] = "raised"

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes == {number: "raised" if number % 2 else "fine" for number in range(8)}
    assert hooks(SmallNet()) == 0


def test_a_class_is_guarded_where_the_block_builds_it(good):
    with ckptaudit.guard(SmallNet):
        SmallNet().load_state_dict(good)
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match="sets 0"), ckptaudit.guard(SmallNet):
        SmallNet().load_state_dict(prefixed(good), strict=False)
    with pytest.raises(ckptaudit.IncompatibleCheckpoint, match=r"No load_state_dict reached the SmallNet"), ckptaudit.guard(SmallNet):
        kept = SmallNet()
    assert hooks(kept) == 0
    with pytest.raises(ckptaudit.CkptAuditError, match="no SmallNet that was built"), ckptaudit.guard(SmallNet):
        pass
    after = SmallNet()
    assert hooks(after) == 0
    after.load_state_dict(prefixed(good), strict=False)


def test_other_errors_are_not_hidden(model):
    with pytest.raises(ZeroDivisionError), ckptaudit.guard(model):
        _ = 1 / 0
    assert hooks(model) == 0
    with pytest.raises(ckptaudit.CkptAuditError, match="cannot guard a dict"), ckptaudit.guard({}):
        pass


def test_a_load_of_our_own_inside_a_guard(model, good, tmp_path):
    torch.save(prefixed(good), tmp_path / "file.pth")
    with ckptaudit.guard(model):
        ckptaudit.load(model, tmp_path / "file.pth")
    assert same(model, good)
