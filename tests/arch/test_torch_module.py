"""From modules to layer graphs."""

import pytest
import torch

from ckptaudit.arch import build_model
from ckptaudit.errors import ArchitectureError

nn = torch.nn


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embedding.weight
        self.first = nn.Linear(2, 2)
        self.again = self.first


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_shared_tensors_are_tied(device):
    with torch.device(device):
        graph = build_model(Tied()).graph
    assert graph.tied == (("embedding.weight", "head.weight"), ("first.weight", "again.weight"), ("first.bias", "again.bias"))
    assert graph.parameters == 40 + 6
    assert graph.modules["again"].type_name == "Linear"


def test_parts_of_one_memory_are_not_tied():
    whole = torch.zeros(4, 2)
    module = nn.Module()
    module.a, module.b, module.empty, module.empty2 = (nn.Parameter(t) for t in (whole[:2], whole[2:], torch.zeros(0), torch.zeros(0)))
    assert build_model(module).graph.tied == ()


class Buffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("kept", torch.arange(3))
        self.register_buffer("lost", torch.zeros(3), persistent=False)
        self.weight = nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
        self.absent = None
        self.register_parameter("none", None)

    def get_extra_state(self):
        return {"version": 1}


def test_tensors_are_those_of_the_state_dict():
    graph = build_model(Buffers()).graph
    assert [(t.name, t.shape, t.dtype, t.buffer) for t in graph] == [("weight", (2,), "bfloat16", False), ("kept", (3,), "int64", True)]


def test_names_are_those_that_hooks_give():
    module = nn.Linear(2, 2)
    module.register_state_dict_post_hook(
        lambda _module, state, prefix, _meta: state.update({f"{prefix}renamed": state.pop(f"{prefix}weight")})
    )
    assert list(build_model(module).graph.tensors) == ["bias", "renamed"]


@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [(nn.DataParallel, "module."), (torch.compile, "_orig_mod.")],
    ids=["DataParallel", "compile"],
)
def test_wrappers_keep_their_names(wrap, prefix):
    assert list(build_model(wrap(nn.Linear(1, 1))).graph.tensors) == [f"{prefix}weight", f"{prefix}bias"]


@pytest.mark.parametrize(
    ("module", "attributes"),
    [
        (nn.BatchNorm2d(4, eps=1e-3, momentum=None), {"eps": 1e-3, "momentum": None, "affine": True, "track_running_stats": True}),
        (
            nn.Conv2d(4, 8, 3, stride=2, padding=1, dilation=2, groups=2),
            {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1), "dilation": (2, 2), "groups": 2},
        ),
        (nn.Conv2d(4, 8, 3, padding="same"), {"padding": "same"}),
        (nn.Linear(3, 5), {"in_features": 3, "out_features": 5}),
        (nn.LayerNorm((4, 4), eps=1e-6), {"eps": 1e-6, "normalized_shape": (4, 4), "elementwise_affine": True}),
        (nn.GroupNorm(2, 4), {"num_groups": 2, "eps": 1e-5}),
        (nn.Dropout(0.3), {"p": 0.3}),
        (nn.LeakyReLU(0.2), {"negative_slope": 0.2}),
        (nn.GELU("tanh"), {"approximate": "tanh"}),
        (nn.MaxPool2d(3, 2), {"kernel_size": 3, "stride": 2, "ceil_mode": False}),
        (nn.AdaptiveAvgPool2d((1, None)), {"output_size": (1, None)}),
        (nn.MultiheadAttention(8, 2), {"num_heads": 2, "embed_dim": 8}),
        (nn.TransformerEncoderLayer(8, 2, activation="gelu"), {"activation": "gelu", "norm_first": False}),
        (nn.Threshold(float("-inf"), 0.0), {"threshold": "-inf"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_attributes_tell_what_shapes_cannot(module, attributes):
    described = build_model(module).graph.modules[""]
    assert described.type_name == type(module).__name__
    assert attributes.items() <= described.attributes.items()
    assert "training" not in described.attributes


def test_failing_state_dict_is_told():
    module = nn.Linear(1, 1)
    module.register_state_dict_post_hook(lambda *_: 1 / 0)
    with pytest.raises(ArchitectureError, match=r"^Linear has no usable state dict: ZeroDivisionError: division by zero$"):
        build_model(module)


def test_live_module_is_only_looked_at():
    module = nn.BatchNorm1d(2).eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    build_model(module, trace=True, input_size=(2,))
    assert not module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
