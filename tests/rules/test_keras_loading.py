"""What is said of Keras' own loading is what Keras does: every pair of networks and files, loaded for real."""

import itertools

import numpy
import pytest

import ckptaudit
from ckptaudit.align.keras_loading import load_as_keras
from ckptaudit.arch import build_model
from ckptaudit.graph.layouts import BY_NAME
from ckptaudit.graph.layouts import LEGACY as LEGACY_LAYOUT
from ckptaudit.graph.layouts import NUMBERED as WEIGHTS_LAYOUT
from ckptaudit.read import open_checkpoint
from tests.rules.keras_chains import LATER, LEGACY, NUMBERED, SWAPPED, WEIGHTS, WHOLE, Chain, ChainFile

pytestmark = pytest.mark.filterwarnings("ignore")  # Keras' own

CHAINS = [
    Chain(),
    Chain(("c", "a", "b")),
    Chain(("b", "c")),
    Chain(classes=5),
    Chain(middle=True),
    Chain(NUMBERED),
    Chain(LATER),
    Chain(SWAPPED),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    made = {}
    for (number, chain), format_ in [*itertools.product(enumerate(CHAINS), (WEIGHTS, LEGACY)), ((0, CHAINS[0]), WHOLE)]:
        (folder / f"{number}").mkdir(exist_ok=True)
        made[chain, format_] = ChainFile(chain, format_).write(folder / f"{number}")
    return made


@pytest.fixture(scope="module")
def models():
    built = {chain: chain.build() for chain in CHAINS}
    return {chain: (model, build_model(model).graph) for chain, model in built.items()}


def values(model):
    return {weight.path: numpy.array(weight.numpy()) for weight in model.weights}


@pytest.mark.parametrize("how", [WEIGHTS, LEGACY, "by_name"])
def test_what_keras_sets_is_foretold(files, models, how):
    seen = set()
    for old, new in itertools.product(CHAINS, CHAINS):
        path, (model, graph), by_name = files[old, LEGACY if how == "by_name" else how], models[new], how == "by_name"
        file = open_checkpoint(path)
        load = load_as_keras(file.graph, graph, (BY_NAME,) if by_name else (WEIGHTS_LAYOUT, LEGACY_LAYOUT))
        # By name, what is not found is no reason to refuse.
        refused = any(file.graph.tensors[b].shape != graph.tensors[a].shape for a, b in load.sets.items()) if by_name else load.refused
        before = values(model)
        try:
            model.load_weights(path, **({"by_name": True} if by_name else {}))
        except ValueError:
            assert refused, (old, new)
            seen.add("refused")
            continue
        assert not refused, (old, new, load)
        for name, value in values(model).items():
            expected = file.read(load.sets[name]) if name in load.sets else before[name]
            assert numpy.array_equal(value, expected), (old, new, name)
        seen.add("loads")
    assert seen == {"loads", "refused"}


def test_a_network_whose_layers_stand_in_another_order_is_restored_by_names(files):
    for format_ in (WEIGHTS, LEGACY, WHOLE):
        path, model = files[Chain(), format_], Chain(("c", "a", "b")).build()
        found = ckptaudit.load(model, path)
        assert [(finding.rule, finding.severity) for finding in found.findings] == [("keras-order", "error")]
        original = values(Chain().build())
        file = open_checkpoint(path)
        assert values(model).keys() == original.keys()
        assert all(numpy.array_equal(value, file.read(name)) for name, value in values(model).items())


def test_the_guard_takes_back_what_keras_has_exchanged(files):
    model = Chain(("c", "a", "b")).build()
    before = values(model)
    with pytest.raises(ckptaudit.IncompatibleCheckpoint), ckptaudit.guard(model):
        model.load_weights(files[Chain(), WEIGHTS])
    assert all(numpy.array_equal(value, before[name]) for name, value in values(model).items())


@pytest.mark.parametrize("shift", [1, 75])
@pytest.mark.parametrize("more", [{}, {"middle": True}, {"classes": 7}])
def test_numbers_of_another_session_never_pair_by_coincidence(shift, more, tmp_path):
    path = ChainFile(Chain(NUMBERED), WEIGHTS).write(tmp_path)
    model = Chain(tuple(f"conv2d_{number + shift}" for number in range(3)), **more).build()
    found = ckptaudit.audit(path, model)
    kernels = {step.target: step.sources[0] for step in found.plan.steps if step.target.endswith(f"conv2d_{shift}/kernel")}
    assert kernels == {f"conv2d_{shift}/kernel": "conv2d/kernel"}
    assert "auto-numbers" in {finding.rule for finding in found.findings}


@pytest.mark.parametrize("frozen", [(0,), (1, 2), (0, 1, 2)])
def test_what_is_trained_does_not_change_the_order(frozen, tmp_path):
    chain = Chain(frozen=True)
    path = ChainFile(chain, LEGACY).write(tmp_path)
    model = chain.build()
    for number in frozen:
        model.get_layer(chain.names[number] + "_bn").trainable = False
    found = ckptaudit.load(model, path)
    assert {finding.rule for finding in found.findings} == {"attribute-drift"}  # it says that they are frozen
    assert all(numpy.array_equal(value, open_checkpoint(path).read(name)) for name, value in values(model).items())
