"""Which layers feed which."""

import pytest
import torch

from ckptaudit.arch import build_model
from ckptaudit.arch.trace import trace_feeds

nn = torch.nn


@pytest.mark.parametrize(
    ("name", "some"),
    [
        (
            "resnet18",
            {
                ("conv1", "bn1"),
                ("layer1.0.bn2", "layer1.1.conv1"),
                ("bn1", "layer1.1.conv1"),  # past the whole block, by its addition
                ("layer1.1.bn2", "layer2.0.downsample.0"),
                ("layer4.1.bn2", "fc"),
            },
        ),
        (
            "deeplabv3_resnet50",
            {
                ("classifier.0.convs.0.1", "classifier.0.project.0"),
                ("classifier.0.convs.4.2", "classifier.0.project.0"),  # interpolated, then concatenated
                ("classifier.2", "classifier.4"),
            },
        ),
        (
            "densenet121",
            {
                ("features.norm0", "features.denseblock1.denselayer2.norm1"),
                ("features.denseblock1.denselayer1.conv2", "features.denseblock1.denselayer6.norm1"),
                ("features.norm5", "classifier"),
            },
        ),
        (
            "vit_b_16",
            {
                ("conv_proj", ""),  # the class token, concatenated
                ("", "encoder"),  # the position embedding, added
                ("encoder.layers.encoder_layer_0.self_attention", "encoder.layers.encoder_layer_0.self_attention.out_proj"),
                ("encoder.ln", "heads.head"),
            },
        ),
        ("regnet_x_400mf", {("stem.0", "stem.1")}),
    ],
)
def test_dataflow_of_known_models(name, some):
    model = build_model(name, trace=True)
    assert some <= set(model.graph.feeds)
    assert model.remarks == ()
    layers = set(model.graph.by_path)
    fed = {consumer for _, consumer in model.graph.feeds}
    assert {path for pair in model.graph.feeds for path in pair} <= layers
    assert len(layers - fed) == 1  # all but the first


def test_layers_in_a_row_feed_only_the_next():
    chain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))
    chain(torch.zeros(2, 3, 8, 8))
    assert trace_feeds(chain, input_size=(3, 8, 8)).feeds == (("0", "2"), ("2", "4"))


class Odd(nn.Module):
    """Writes into a part of a tensor, uses a weight without its module, and has a layer that is never used."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.unused = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x, scale=1.0):
        both = torch.zeros(2, len(x), 4)
        both[0] = self.a(x) * scale
        both[1] = x @ self.b.weight.t()
        return self.c(both.sum(0).view(-1, 4))


def test_functional_use_and_writing_in_place_are_followed():
    feeds = trace_feeds(Odd(), example_inputs=(torch.zeros(3, 4), 2.0)).feeds
    assert set(feeds) == {("a", "c"), ("b", "c")}


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.ReLU(), "give input_size"),
        (nn.Sequential(nn.Linear(3, 4), nn.Linear(3, 4)), "RuntimeError"),
        (nn.Bilinear(1, 1, 1), "give input_size"),
    ],
)
def test_what_cannot_be_traced_has_a_reason(module, reason):
    trace = trace_feeds(module)
    assert trace.feeds == ()
    assert reason in trace.reason


def test_detection_is_left_untraced_with_a_remark():
    model = build_model("ssdlite320_mobilenet_v3_large", trace=True)
    assert model.graph.feeds == ()
    assert model.remarks[0].startswith("its dataflow is unknown: ")


def test_modes_are_left_as_they_were():
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout().eval(), nn.BatchNorm1d(2))
    statistics = module[2].running_mean.clone()
    assert trace_feeds(module).reason is None
    assert [m.training for m in module] == [True, False, True]
    assert torch.equal(module[2].running_mean, statistics)
    assert module[2].num_batches_tracked == 0
