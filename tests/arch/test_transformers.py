"""transformers: classes by name, and configs in files; nothing is downloaded and no code of a config is run."""

import json

import pytest
import transformers

from ckptaudit.arch import build_model
from ckptaudit.errors import ArchitectureError

TINY = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}


@pytest.fixture
def config(tmp_path):
    def write(name="config.json", **fields):
        path = tmp_path / name
        path.write_text(json.dumps({"model_type": "bert", "architectures": ["BertForSequenceClassification"], **TINY, **fields}))
        return path

    return write


def same(model, real):
    return [(t.name, t.shape) for t in model.graph] == [(name, tuple(value.shape)) for name, value in real.state_dict().items()]


def test_a_class_is_built_with_its_default_config():
    model = build_model("transformers:ResNetForImageClassification?num_labels=10")
    assert same(model, eval(model.call, {"transformers": transformers}))
    assert model.graph.tensors["classifier.1.weight"].shape[0] == 10
    assert all(parameter.is_meta for parameter in model.module.parameters())


def test_a_config_decides_class_and_sizes(config, tmp_path):
    path = config(num_labels=5)
    model = build_model(f"transformers:{path}")
    assert same(model, transformers.BertForSequenceClassification(transformers.BertConfig(num_labels=5, **TINY)))
    assert build_model(f"transformers:{tmp_path}", {"num_labels": 3}).graph.tensors["classifier.bias"].shape == (3,)
    path.write_text(json.dumps({"model_type": "bert", **TINY}))
    assert same(build_model(f"transformers:{path}"), transformers.BertModel(transformers.BertConfig(**TINY)))


def test_a_changed_config_is_another_model(config):
    path = config(num_labels=5)
    assert [build_model(f"transformers:{path}").provenance for _ in range(2)] == ["live", "cache"]
    config(num_labels=6)
    changed = build_model(f"transformers:{path}")
    assert (changed.provenance, changed.graph.tensors["classifier.bias"].shape) == ("live", (6,))


def test_tied_weights_are_told(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 1, "n_embd": 8, "n_head": 2})
    )
    assert build_model(f"transformers:{tmp_path}").graph.tied == (("transformer.wte.weight", "lm_head.weight"),)


def test_preprocessing_beside_the_config_is_told(config, tmp_path):
    config()
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(
            {"image_mean": [0.5], "image_std": [0.25], "size": {"height": 8, "width": 6}, "resample": 3, "feature_extractor_type": "X"}
        )
    )
    told = build_model(f"transformers:{tmp_path}").preprocessing
    assert (told.size, told.fit, told.interpolation, told.scale, told.mean, told.std) == (
        (8, 6),
        "squash",
        "bicubic",
        1 / 255,
        (0.5,),
        (0.25,),
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        ("{", "is not JSON"),
        ("[]", "holds no JSON object"),
        ("{}", "it names no model_type"),
        ('{"model_type": "nothing_known"}', "knows no model_type 'nothing_known'"),
        (
            '{"model_type": "bert", "architectures": ["Mine"], "auto_map": {"AutoModel": "m.Mine"}}',
            "has no class 'Mine'; code that",
        ),
        ('{"model_type": "bert", "hidden_size": "large"}', "raised "),
    ],
)
def test_bad_configs_are_told_in_one_line(tmp_path, content, message):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ArchitectureError, match=message) as caught:
        build_model(f"transformers:{path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("transformers:ResNetForImageClassificatio", "did you mean ResNetForImageClassification"),
        ("transformers:AutoConfig", "has no architecture named 'AutoConfig'"),
        ("transformers:ResNetModel?num_label=3", "takes no argument 'num_label'; did you mean num_labels"),
    ],
)
def test_unknown_names_are_told(arch, message):
    with pytest.raises(ArchitectureError, match=message):
        build_model(arch)
