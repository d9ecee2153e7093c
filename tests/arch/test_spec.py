"""Models in files."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from ckptaudit.arch import Model, build_model, load_spec, model_of_checkpoint, save_spec
from ckptaudit.errors import ArchitectureError, OutputError
from ckptaudit.graph import LayerGraph, Module, Origin, TensorSpec

GRAPH = LayerGraph.from_tensors(
    [
        TensorSpec("conv.weight", (4, 3, 3, 3), "float32"),
        TensorSpec("tied", (4, 3, 3, 3), "float32"),
        TensorSpec("n", (), "int64", buffer=True),
    ],
    modules={"conv": Module("Conv2d", Origin("models.py", 3), {"stride": (2, 2), "padding": "same"}), "": Module("Net")},
    feeds=(("conv", ""),),
    tied=(("conv.weight", "tied"),),
)
MODEL = Model("models.py:build", "file", GRAPH, library_version="1.0", arguments={"classes": 3, "odd": {1}}, call="build(classes=3)")


def described(model):
    graph = model.graph
    return (
        (model.arch, model.source, model.library_version, model.call, graph.framework),
        list(graph),
        {path: (m.type_name, m.origin, dict(m.attributes)) for path, m in graph.modules.items()},
        (graph.feeds, graph.tied),
    )


def test_saved_spec_gives_the_model_back(tmp_path):
    save_spec(MODEL, tmp_path / "spec.json")
    loaded = load_spec(tmp_path / "spec.json")
    assert described(loaded) == described(MODEL)
    assert loaded.provenance == "file"
    assert loaded.arguments == {"classes": 3, "odd": "{1}"}
    assert [path.name for path in tmp_path.iterdir()] == ["spec.json"]


def test_spec_of_a_real_model(tmp_path):
    model = build_model("mobilenet_v3_small")
    save_spec(model, tmp_path / "spec.json")
    assert described(load_spec(tmp_path / "spec.json")) == described(model)


def test_files_are_not_replaced_unasked(tmp_path):
    path = tmp_path / "spec.json"
    path.write_text("mine")
    with pytest.raises(OutputError, match=r"exists already; force=True .*--force.* overwrites"):
        save_spec(MODEL, path)
    assert path.read_text() == "mine"
    save_spec(MODEL, path, force=True)
    assert load_spec(path).arch == MODEL.arch
    assert [p.name for p in tmp_path.iterdir()] == ["spec.json"]
    with pytest.raises(OutputError, match=r"could not be written .No such file"):
        save_spec(MODEL, tmp_path / "gone" / "spec.json")


def changed(*path, value):
    def change(document):
        target = document
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("schema", value="ckptaudit.spec/9"), "schema is 'ckptaudit.spec/9', not 'ckptaudit.spec/1'"),
        (lambda document: document.pop("tensors"), "tensors is missing"),
        (changed("tensors", value={}), "tensors is dict, not list"),
        (changed("tensors", 1, value=3), r"tensors\[1\] is int, not an object"),
        (changed("tensors", 1, "name", value="conv.weight"), "tensors names 'conv.weight' twice"),
        (changed("tensors", 0, "shape", value=[3, -1]), r"tensors\[0\].shape is \[3, -1\], not a list of sizes"),
        (changed("tensors", 0, "shape", value=[True]), "not a list of sizes"),
        (changed("tensors", 0, "buffer", value=0), r"tensors\[0\].buffer is int, not bool"),
        (changed("modules", "conv", "origin", value={"path": "x", "line": "3"}), r"modules\['conv'\].origin.line is str, not int"),
        (changed("modules", "conv", "attributes", value=None), "attributes is null, not dict"),
        (changed("feeds", 0, value=["a"]), "feeds holds something other than pairs"),
        (changed("feeds", 0, value="ab"), r"feeds\[0\] is not a list of names"),
        (changed("tied", 0, 0, value="gone"), "tied names 'gone', which is not among the tensors"),
        (changed("arch", value=None), "arch is null, not str"),
    ],
)
def test_specs_are_read_strictly(tmp_path, change, message):
    path = tmp_path / "spec.json"
    save_spec(MODEL, path)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(ArchitectureError, match=message) as caught:
        load_spec(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04\xff", b"[" * 100_000, b"[]", b"null", b'{"schema": 1}'])
def test_other_files_are_no_specs(tmp_path, content):
    path = tmp_path / "spec.json"
    path.write_bytes(content)
    with pytest.raises(ArchitectureError, match="spec"):
        load_spec(path)
    with pytest.raises(ArchitectureError, match="cannot be read"):
        load_spec(tmp_path)


def test_another_checkpoint_can_be_the_model():
    model = model_of_checkpoint(SimpleNamespace(path=Path("old.pth"), graph=GRAPH))
    assert (model.arch, model.source, model.provenance, model.graph) == ("old.pth", "checkpoint", "file", GRAPH)
