"""Factories of the user, in files and modules: what they may do, and how they may fail."""

import os
import sys
import textwrap

import pytest
import torch

from ckptaudit.arch import build_model
from ckptaudit.errors import ArchitectureError, UsageError


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a Python file into an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="models.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


NET = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.add_module("norm", nn.BatchNorm2d(8, eps=1e-3))
        self.body = nn.Sequential(
            nn.Linear(8, 8),
            nn.ReLU(),
        )
        self.blocks = nn.ModuleList()
        self.blocks.append(nn.Linear(8, 8))
        self.named = nn.ModuleDict({"head": nn.Linear(8, classes)})
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)

def build(classes=3):
    return Net(classes)

model = Net(5)
"""


@pytest.mark.parametrize("form", ["models.py:build", "./models.py:Net", "{tmp}/models.py:build"])
def test_files_give_models_by_relative_and_absolute_path(write, tmp_path, form):
    write(NET)
    arch = form.format(tmp=tmp_path)
    model = build_model(arch, {"classes": 7})
    assert (model.arch, model.source, model.arguments) == (arch, "file", {"classes": 7})
    assert model.graph.tensors["named.head.weight"].shape == (7, 8)
    assert model.module.stem.weight.is_meta


def test_modules_are_found_from_the_working_directory(write):
    write(NET, "some_package_for_tests/nets.py")
    model = build_model("some_package_for_tests.nets:build?classes=9")
    assert (model.source, model.graph.tensors["named.head.bias"].shape) == ("factory", (9,))


def test_model_that_exists_already_is_taken_as_it_is(write):
    write(NET)
    assert build_model("models.py:model").graph.tensors["named.head.bias"].shape == (5,)
    with pytest.raises(ArchitectureError, match="takes no arguments"):
        build_model("models.py:model", {"classes": 2})


def test_origins_point_to_the_lines_that_attached_each_module(write):
    write(NET)
    lines = {path: module.origin.line for path, module in build_model("models.py:build").graph.modules.items()}
    assert {module.origin.path for module in build_model("models.py:build").graph.modules.values()} == {"models.py"}
    text = NET.splitlines()

    def line(path):
        return text[lines[path] - 1].strip()

    assert line("").startswith("def __init__")
    assert line("stem") == "self.stem = nn.Conv2d(3, 8, 3)"
    assert line("norm") == 'self.add_module("norm", nn.BatchNorm2d(8, eps=1e-3))'
    assert line("body") == "self.body = nn.Sequential("
    assert line("body.1") == "self.body = nn.Sequential("
    assert line("blocks.0") == "self.blocks.append(nn.Linear(8, 8))"
    assert line("named.head") == 'self.named = nn.ModuleDict({"head": nn.Linear(8, classes)})'
    # Layers of an encoder are copies, attached by no line of their own.
    assert line("encoder.layers.1.self_attn.out_proj").startswith("self.encoder = ")


def test_neighbours_and_relative_imports_work_and_are_forgotten(write):
    write("def width(): return 4", "helper_for_tests.py")
    write("from torch import nn\nimport helper_for_tests\ndef build(): return nn.Linear(helper_for_tests.width(), 1)", "models.py")
    assert build_model("models.py:build").graph.tensors["weight"].shape == (1, 4)
    write("def width(): return 6", "helper_for_tests.py")
    assert build_model("models.py:build").graph.tensors["weight"].shape == (1, 6)

    write("", "pkg_for_tests/__init__.py")
    write("WIDTH = 5", "pkg_for_tests/sizes.py")
    write("from torch import nn\nfrom .sizes import WIDTH\ndef build(): return nn.Linear(WIDTH, 1)", "pkg_for_tests/nets.py")
    assert build_model("pkg_for_tests/nets.py:build").graph.tensors["weight"].shape == (1, 5)
    assert not {"models", "helper_for_tests", "pkg_for_tests", "pkg_for_tests.sizes"} & sys.modules.keys()
    assert not list(os.walk("__pycache__"))


@pytest.mark.parametrize(
    ("text", "arch", "message"),
    [
        (
            "def build():\n    x = {}\n    return x['gone']",
            "models.py:build",
            r"^models.py:build raised KeyError: 'gone' \(models.py, line 3\)$",
        ),
        (
            "def build(): pass",
            "models.py:build?a=1",
            r"^models.py:build raised TypeError: build\(\) got an unexpected keyword argument 'a'$",
        ),
        ("import sys\ndef build():\n    sys.exit(3)", "models.py:build", r"^models.py:build called sys.exit\(3\) \(models.py, line 3\)$"),
        ("import sys\nsys.exit('no')", "models.py:build", r"^models.py:build called sys.exit\('no'\) \(models.py, line 2\)$"),
        ("def build(): return 3", "models.py:build", "^models.py:build returned an int, not a torch.nn.Module or a keras.Model$"),
        ("def build(): pass", "models.py:build", "^models.py:build returned NoneType, not a torch.nn.Module or a keras.Model$"),
        ("build = 3", "models.py:build", "is of type int: neither a factory nor"),
        ("def built(): pass", "models.py:build", r"^models.py:build: there is no 'build'; did you mean built\?$"),
        ("def build(:", "models.py:build", r"^models.py:build cannot be imported: SyntaxError: .*\(models.py, line 1\)$"),
        ("import no_such_thing", "models.py:build", r"cannot be imported: ModuleNotFoundError: .*'no_such_thing' \(models.py, line 1\)$"),
        ("def build():\n    raise ValueError('two\\nlines')", "models.py:build", r"raised ValueError: two lines \(models.py, line 2\)$"),
        ("def build(): pass\nclass Net: pass", "models.py", r"write models.py:FACTORY \(it defines build, Net\)$"),
        ("", "other.py:build", "^other.py: there is no such file$"),
        ("", "no.such.module:build", "^there is no module or architecture source named 'no'$"),
        ("", "os.path:", "names no factory"),
        ("", "os.path.join", "for a factory write os.path:join$"),
        (
            "import torch\ndef build(): return torch.nn.LazyLinear(3)",
            "models.py:build",
            "shape of weight is known only after a first forward",
        ),
    ],
)
def test_failures_are_told_in_one_line(write, text, arch, message):
    write(text)
    with pytest.raises(ArchitectureError, match=message) as caught:
        build_model(arch)
    assert "\n" not in str(caught.value)


def test_ctrl_c_is_not_an_answer(write):
    write("def build(): raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        build_model("models.py:build")


def test_live_objects(write):
    live = torch.nn.Sequential(torch.nn.Linear(2, 3))
    model = build_model(live)
    assert (model.arch, model.source, model.module) == ("Sequential", "object", live)
    assert build_model(model) is model
    with pytest.raises(UsageError, match="takes no arguments"):
        build_model(live, {"a": 1})
    with pytest.raises(ArchitectureError, match="cannot audit against a dict"):
        build_model({})


@pytest.mark.parametrize(
    "body",
    [
        "return nn.Linear(int(torch.linspace(0, 8, 3)[1].item()), 2)",  # computes with values
        "return nn.Linear(4, 2).to('cuda').half().float()",  # no GPU is needed to know a shape
        "return nn.Linear(4, 2, device='cuda')",
        "return nn.Linear(4, int(nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 1, 2)).numel()))",  # a dry run
        "m = nn.Linear(4, 2); m.weight.tolist(); return m",  # only a real build will do
    ],
)
def test_factories_that_do_more_than_attach_layers(write, body):
    write(f"import torch\nfrom torch import nn\ndef build():\n    {body}")
    assert [(t.name, t.shape) for t in build_model("models.py:build").graph] == [("weight", (2, 4)), ("bias", (2,))]
