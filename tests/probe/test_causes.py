"""Each cause put into a real restored network comes first, and a healthy network has none."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from ckptaudit.arch.live import model_of_object
from ckptaudit.probe import Question, probe_network
from ckptaudit.prove.running import network_of

SIZE = (3, 32, 32)


def probe(module, images, **question):
    outcome = probe_network(
        network_of(module), model_of_object(module, {}).graph, Question(images=images, input_size=SIZE, crops=16, **question)
    )
    assert [h.status == "cause" for h in outcome.hypotheses] == sorted((h.sure >= 0.8 for h in outcome.hypotheses), reverse=True)
    return outcome


class _Randomly(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return F.dropout(self.module(x), 0.5)


def _exchange(a, b):
    first, second = copy.deepcopy(a.state_dict()), copy.deepcopy(b.state_dict())
    a.load_state_dict(second)
    b.load_state_dict(first)


def _convolutions_exchanged(m):
    _exchange(m.stages[1][2].c1, m.stages[1][0].c2)


def _early_convolutions_exchanged(m):
    _exchange(m.stages[0][2].c1, m.stages[0][0].c1)


def _norms_exchanged(m):
    _exchange(m.stages[1][1].n2, m.stages[1][0].n1)


def _scale_and_shift_exchanged(m):
    norm = m.stages[0][0].n1
    norm.weight.data, norm.bias.data = norm.bias.data, norm.weight.data


def _mean_overwritten(m):
    m.stages[0][0].n1.running_mean.zero_()


def _kernel_transposed(m):
    weight = m.stages[0][2].c1.weight
    weight.data = weight.data.transpose(0, 1).contiguous()


def _one_convolution_fresh(m):
    m.stages[1][2].c2.reset_parameters()


def _statistics_reset(m):
    for norm in (n for n in m.modules() if isinstance(n, nn.BatchNorm2d)):
        norm.reset_running_stats()


def _one_statistic_reset(m):
    m.stages[1][2].n2.reset_running_stats()


def _averaged_with_another(m):
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in (c.weight for c in m.modules() if isinstance(c, nn.Conv2d)):
            weight.mul_(0.7).add_(0.3 * nn.init.kaiming_uniform_(torch.empty_like(weight), a=5**0.5))


def _head_as_torch_makes_it(m):
    torch.manual_seed(2)
    m.head.reset_parameters()


def _head_as_papers_make_it(m):
    torch.manual_seed(3)
    nn.init.normal_(m.head.weight, 0, 0.01)
    nn.init.zeros_(m.head.bias)


def _a_weight_is_nan(m):
    m.stages[1][0].c1.weight.data[0, 0, 0, 0] = float("nan")


def _variance_is_negative(m):
    m.stages[1][0].n1.running_var.neg_()


def _stem_is_dead(m):
    m.stem[1].bias.data.fill_(-100)


def _scales_by_its_batch(m):
    norm = m.stages[1][0].n1
    norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None


# what is done to the network, what the user does → the cause that comes first, words of its message or place
CASES = [
    (None, {"preprocess": "-1..1"}, "preprocessing", "ImageNet mean"),
    (None, {"preprocess": "0..1"}, "preprocessing", "ImageNet mean"),
    (None, {"preprocess": "0..255"}, "preprocessing", "ImageNet mean"),
    (None, {"preprocess": "caffe"}, "preprocessing", "ImageNet mean"),
    (_convolutions_exchanged, {}, "batch-norm", "stages.1.2.n1"),
    (_early_convolutions_exchanged, {"preprocess": "imagenet"}, "batch-norm", "stages.0.{0,2}.n1"),
    (_norms_exchanged, {}, "batch-norm", "stages.1.0.n"),
    (_scale_and_shift_exchanged, {}, "batch-norm", "stages.0.0.n2"),
    (_mean_overwritten, {}, "batch-norm", "stages.0.0.n1"),
    (_kernel_transposed, {}, "batch-norm", "stages.0.2.n1"),
    (_one_convolution_fresh, {}, "batch-norm", "stages.1.2.n2"),
    (_statistics_reset, {}, "batch-norm", "19 of 19"),
    (_one_statistic_reset, {}, "batch-norm", "1 of 19"),
    (_averaged_with_another, {}, "batch-norm", "SWA"),
    (_head_as_torch_makes_it, {}, "head", "torch's default"),
    (_head_as_papers_make_it, {}, "head", "normal with deviation 0.01"),
    (None, {"classes": 9}, "head", "background"),
    (None, {"classes": 100}, "head", "100 classes"),
    (None, {"read": "argmax:0"}, "reading", "wrong axis"),
    (None, {"read": "argmax:2"}, "reading", "no axis 2"),
    (None, {"read": "threshold"}, "reading", "no probabilities"),
    (lambda m: nn.Sequential(m, nn.Softmax(1)), {"read": "softmax"}, "reading", "softmax already"),
    (lambda m: nn.Sequential(m, nn.Softmax(1)), {"read": "sigmoid"}, "reading", "0.5 and more"),
    (lambda m: nn.Sequential(m, nn.Linear(10, 1)), {"read": "argmax"}, "reading", "0 everywhere"),
    (lambda m: nn.Sequential(m, nn.Linear(10, 1), nn.Sigmoid()), {"read": "sigmoid"}, "reading", "sigmoid already"),
    (_a_weight_is_nan, {}, "numbers", "stages.1.0.c1.weight"),
    (_variance_is_negative, {}, "numbers", "stages.1.0.n1"),
    (_stem_is_dead, {}, "numbers", "gives 0 everywhere"),
    (_Randomly, {}, "mode", "another answer each time"),
    (_scales_by_its_batch, {}, "mode", "beside it"),
]


@pytest.mark.parametrize(("change", "does", "cause", "words"), CASES)
def test_the_cause_comes_first(cifar, photographs, change, does, cause, words):
    module = cifar(20)
    module = (change(module) or module) if change else module
    first = probe(module, photographs, **does).hypotheses[0]
    assert (first.cause, first.status) == (cause, "cause"), first.message
    assert words in first.message, first.message
    assert first.fix


@pytest.mark.parametrize(
    ("depth", "folder"), [(20, "photographs"), (20, "other_photographs"), (32, "photographs"), (32, "other_photographs")]
)
def test_healthy_networks_have_no_cause(cifar, request, depth, folder):
    """Fed and read rightly, and with nothing said about either."""
    does = {"preprocess": "imagenet", "read": "argmax", "classes": 10} if folder == "photographs" else {}
    outcome = probe(cifar(depth), request.getfixturevalue(folder), **does)
    assert [h for h in outcome.hypotheses if h.status in ("cause", "possible")] == []


def test_what_cannot_be_told_is_said_to_be_open(cifar, photographs):
    """The order of the colours and a mirrored kernel leave no trace in the statistics."""
    module = cifar(20)
    feeding = next(h for h in probe(module, photographs).hypotheses if h.cause == "preprocessing")
    assert feeding.status == "cannot tell"
    assert feeding.figures["left"] == ["imagenet", "imagenet, BGR"]
    module.stages[1][1].c1.weight.data = module.stages[1][1].c1.weight.data.flip(-1)
    assert not probe(module, photographs).causes


def test_a_prior_is_no_fault(cifar, photographs):
    module = cifar(20)
    module.head.bias.data[3] += 50
    first = probe(module, photographs).hypotheses[0]
    assert (first.cause, first.status) == ("reading", "possible")
    assert "class 3" in first.message
    assert "head's bias alone" in first.message


def test_half_precision_overflows(cifar, photographs):
    module = cifar(20)
    module.head.weight.data *= 1e4
    graph = model_of_object(module, {}).graph
    outcomes = [
        probe_network(network_of(module), graph, Question(images=photographs, input_size=SIZE, crops=12), dtype=dtype)
        for dtype in ("float16", "float32")
    ]
    found = [next(h for h in outcome.hypotheses if h.cause == "numbers") for outcome in outcomes]
    assert [h.status for h in found] == ["cause", "possible"]
    assert "65,504" in found[0].message


def test_without_images_only_what_needs_none(cifar):
    outcome = probe(cifar(20), None)
    assert {h.cause: h.status for h in outcome.hypotheses}["preprocessing"] == "not tested"
    assert not outcome.causes
    assert "without images" in outcome.remarks[0]
    assert probe(cifar(20), None, classes=9).causes
    module = cifar(20)
    _one_statistic_reset(module)
    assert probe(module, None).causes[0].cause == "batch-norm"


def test_without_batch_norm_it_says_so(photographs):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)
    )
    statuses = {h.cause: h for h in probe(module, photographs).hypotheses}
    assert statuses["preprocessing"].status == statuses["batch-norm"].status == "not tested"
    assert "no BatchNorm" in statuses["batch-norm"].message
    assert statuses["mode"].status == "cleared"


def test_the_model_is_left_as_it_was(cifar, photographs):
    module = cifar(20)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    probe(module, photographs)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert not any(child.training for child in module.modules())


class _OneReluForAll(nn.Module):
    """As the blocks of torchvision's ResNets have it: called with other numbers of channels each time."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 16, 3, 2)
        self.one, self.two = nn.BatchNorm2d(8), nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(16, 300)

    def forward(self, x):
        x = self.relu(self.one(self.first(x)))
        x = self.relu(self.two(self.second(x)))
        return {"out": self.head(x.mean((2, 3)))}


def test_a_module_that_is_called_several_times(photographs):
    torch.manual_seed(0)
    module = _OneReluForAll().eval()
    module.two.bias.data.fill_(-100)
    first = {h.cause: h for h in probe(module, photographs).hypotheses}["numbers"]
    assert first.place[0] == "relu (call 2)"
