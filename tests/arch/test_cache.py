"""The cache on disk: what it answers, what makes an entry stale, and that it never fails an audit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ckptaudit.arch import build_model, cache
from ckptaudit.arch.sources import built_in

#: Not in the shipped catalogue, and small.
ARCH = "timm:resnet10t?output_stride=16"


def described(model):
    graph = model.graph
    modules = {path: (m.type_name, m.origin, dict(m.attributes)) for path, m in graph.modules.items()}
    own = (model.arch, model.source, model.library_version, model.call, model.arguments, model.preprocessing, model.remarks)
    return own, list(graph), modules, graph.feeds, graph.tied, graph.framework


def kept():
    (path,) = [path for path in cache.entries() if b'"spec"' in path.read_bytes()]
    return path


def test_the_second_answer_is_the_first(monkeypatch, tmp_path):
    built, held = build_model(ARCH), build_model(ARCH)
    assert (built.provenance, held.provenance) == ("live", "cache")
    assert described(held) == described(built)
    assert build_model(ARCH, fresh=True).provenance == "live"
    # Lines of code are shown as seen from where one is.
    monkeypatch.chdir(Path(built.graph.modules["conv1"].origin.path).absolute().parent)
    assert build_model(ARCH).graph.modules["conv1"].origin.path == "resnet.py"
    monkeypatch.setenv("CKPTAUDIT_NO_CACHE", "1")
    assert build_model(ARCH).provenance == "live"


@pytest.mark.parametrize(
    "arch", ["smp:Unet?encoder_name=resnet18&classes=4", "transformers:ResNetModel?embedding_size=8", "keras:MobileNet?alpha=0.5"]
)
def test_a_warm_cache_imports_no_framework(arch):
    built = build_model(arch)
    relative = next(built.siblings(), None)
    spec = f"from ckptaudit.arch import build_model; import sys; m = build_model({arch!r}); s = next(m.siblings(), None);"
    names = ["torch", "timm", "torchvision", "segmentation_models_pytorch", "transformers", "keras", "tensorflow", "jax"]
    code = spec + f"print(m.provenance, s and s.arch, s and s.provenance, sorted(set({names}) & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert built.provenance == "live"
    assert printed.startswith("cache ")
    assert printed.split()[1] == str(relative and relative.arch)  # the same relative is named
    assert printed.endswith("[]\n")


def test_diff_says_that_the_model_is_from_the_cache(run, samples):
    assert build_model(ARCH).provenance == "live"
    outcome = run("diff", samples / "tiny_unet_sharded", "--arch", ARCH, "--format", "json")
    assert json.loads(outcome.stdout)["model"]["spec"] == "cache"
    shown = run("cache")
    assert shown.stdout.splitlines()[0] == os.environ["CKPTAUDIT_CACHE_DIR"]
    count = int(shown.stdout.splitlines()[1].split()[0])
    assert count >= 1
    assert (
        run("cache", "--clear").stdout
        == f"{count} {'entry' if count == 1 else 'entries'} deleted from {os.environ['CKPTAUDIT_CACHE_DIR']}\n"
    )
    assert run("cache").stdout.splitlines()[1] == "0 entries, 0.0 MB"


def change(document):
    document["spec"]["tensors"][0]["shape"] = [-1]


def lose(document):
    del document["spec"]["modules"]


def mistake(document):
    document["key"] += " "


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b"[" * 100_000, b"\xff\x00", change, lose, mistake])
def test_a_damaged_entry_is_built_again(damage):
    whole = described(build_model(ARCH))
    path = kept()
    if callable(damage):
        document = json.loads(path.read_bytes())
        damage(document)
        path.write_text(json.dumps(document))
    else:
        path.write_bytes(damage)
    again = build_model(ARCH)
    assert (again.provenance, described(again)) == ("live", whole)
    assert build_model(ARCH).provenance == "cache"


def test_what_decides_a_model_is_in_its_key(monkeypatch, tmp_path):
    keys = {
        cache.key_of("timm", "a", {}, ["timm"]),
        cache.key_of("timm", "b", {}, ["timm"]),
        cache.key_of("smp", "a", {}, ["timm"]),
        cache.key_of("timm", "a", {"x": 1}, ["timm"]),
        cache.key_of("timm", "a", {"x": True}, ["timm"]),
        cache.key_of("timm", "a", {"x": (1,)}, ["timm"]),
        cache.key_of("timm", "a", {"x": [1]}, ["timm"]),
        cache.key_of("timm", "a", {}, ["timm", "torch"]),
    }
    config = tmp_path / "config.json"
    for text in ("1", "2"):
        config.write_text(text)
        keys.add(cache.key_of("timm", "a", {}, ["timm"], [config]))
    monkeypatch.setattr(cache, "__version__", "9")
    keys.add(cache.key_of("timm", "a", {}, ["timm"]))
    monkeypatch.setattr("importlib.metadata.distribution", lambda library: Installed("9", None))
    keys.add(cache.key_of("timm", "a", {}, ["timm"]))
    assert None not in keys
    assert len(keys) == 12


class Installed:
    def __init__(self, version, direct_url):
        self.version, self.direct_url = version, direct_url

    def read_text(self, name):
        return self.direct_url

    def locate_file(self, name):
        return Path("/lib")


def test_what_cannot_be_told_is_not_kept(monkeypatch, tmp_path):
    assert cache.key_of("timm", "a", {"norm": object()}, ["timm"]) is None
    assert cache.key_of("timm", "a", {}, ["no-such-distribution"]) is None
    assert cache.key_of("timm", "a", {}, ["timm"], [tmp_path / "gone"]) is None
    monkeypatch.setattr(
        "importlib.metadata.distribution", lambda library: Installed("1", '{"url": "file:///x", "dir_info": {"editable": true}}')
    )
    assert cache.key_of("timm", "a", {}, ["timm"]) is None


def test_factories_of_the_user_are_always_built(tmp_path):
    (tmp_path / "net.py").write_text("from torch import nn\ndef build(): return nn.Linear(2, 3)")
    for _ in range(2):
        assert build_model(f"{tmp_path}/net.py:build").provenance == "live"
    assert cache.entries() == []


@pytest.mark.filterwarnings("ignore:Overwriting resnet10t in registry")
def test_what_a_program_registers_is_neither_taken_from_the_cache_nor_kept():
    import timm
    from timm.models import _registry as registry
    from timm.models import register_model

    built = build_model(ARCH)

    @register_model
    def resnet10t(pretrained=False, **kwargs):
        return timm.models.ResNet(timm.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=3)

    try:
        mine = build_model("timm:resnet10t?num_classes=3")
        assert mine.provenance == "live"
        assert len(mine.graph) != len(built.graph)
        assert len([path for path in cache.entries() if b'"spec"' in path.read_bytes()]) == 1
    finally:
        from timm.models import resnet

        registry._model_entrypoints["resnet10t"] = resnet.resnet10t
        registry._model_to_module["resnet10t"] = "resnet"


@pytest.mark.parametrize("place", ["/proc/no/such", "/dev/null/below", "file"])
def test_no_place_to_write_is_no_failure(monkeypatch, tmp_path, place):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CKPTAUDIT_CACHE_DIR", str(tmp_path / place))
    assert build_model(ARCH).provenance == "live"
    assert cache.entries() == []
    assert cache.clear() == 0


def test_without_a_home_there_is_no_cache():
    code = (
        "import os, sys; os.environ.pop('HOME', None); os.environ.pop('XDG_CACHE_HOME', None); os.environ.pop('CKPTAUDIT_CACHE_DIR', None);"
        "import pathlib, pwd; pwd.getpwuid = lambda uid: (_ for _ in ()).throw(KeyError(uid));"
        "from ckptaudit.arch import cache; print(cache.entries(), cache.get(cache.key_of('keras', 'a', {}, []), {}))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "[] None\n"


def test_writers_at_the_same_time_leave_whole_entries():
    model = build_model(ARCH)
    code = (
        "from ckptaudit.arch import cache, build_model;"
        f"m = build_model({ARCH!r}, fresh=False); key = cache.key_of('x', 'y', {{}}, []);"
        "[(cache.put(key, cache.Entry(m, [])), cache.get(key, {}).model.graph) for _ in range(60)]"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for writer in writers:
        assert writer.communicate(timeout=100)[1] == ""
        assert writer.returncode == 0
    entry = cache.get(cache.key_of("x", "y", {}, []), {})
    assert list(entry.model.graph) == list(model.graph)
    assert all(path.suffix == ".json" for path in cache.entries())


def test_relatives_are_those_of_the_source():
    model = build_model("keras:ResNet50")
    kept = [(name, dict(arguments)) for name, arguments in built_in()["keras"].relatives("ResNet50", {})]
    assert kept == [("ResNet101", {}), ("ResNet152", {})]
    assert [s.arch for s in build_model("keras:ResNet50").siblings()] == ["keras:ResNet101", "keras:ResNet152"]
    assert model.arch == "keras:ResNet50"
