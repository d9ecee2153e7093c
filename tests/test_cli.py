"""The command as people and programs meet it: exit codes, what is printed where, what is written."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from ckptaudit.files import new_file
from ckptaudit.report.json import dump
from tests.signals import heard

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads((ROOT / "docs" / "audit-1.schema.json").read_text())

# (sample, arch, options) → exit code, status, rules that fire, the diagnosis
AUDITS = [
    ("deeplabv3_voc.pth", "deeplabv3_resnet50", [], 0, "compatible", set(), "Every tensor fits as it is: fit to evaluate."),
    (
        "dataparallel_10classes.pth",
        "deeplabv3_resnet50",
        [],
        1,
        "partial",
        {"num-classes", "wrapper-prefix"},
        "The same backbone (resnet50); head 10 → 21 classes; names wrapped in `module.`: fit to fine-tune, not to evaluate.",
    ),
    (
        "dataparallel_10classes.pth",
        "deeplabv3_resnet50",
        ["--for", "finetune"],
        0,
        "partial",
        {"num-classes", "wrapper-prefix"},
        "The same backbone (resnet50); head 10 → 21 classes; names wrapped in `module.`: fit to fine-tune.",
    ),
    (
        "dataparallel_10classes.pth",
        "deeplabv3_resnet50",
        ["--arch-arg", "num_classes=10"],
        0,
        "remappable",
        {"wrapper-prefix"},
        "The same backbone (resnet50); names wrapped in `module.`: fit to evaluate.",
    ),
    (
        "dataparallel_10classes.pth",
        "deeplabv3_resnet50",
        ["--arch-arg", "num_classes=10", "--for", "resume"],
        1,
        "partial",
        {"wrapper-prefix", "optimizer-state"},
        "The same backbone (resnet50); no optimizer state; names wrapped in `module.`: not fit to resume.",
    ),
    (
        "resnet101_backbone.pth",
        "deeplabv3_resnet50",
        [],
        1,
        "incompatible",
        {"architecture-variant"},
        "The file holds a resnet101, the model a resnet50: not fit to evaluate.",
    ),
    ("lightning_ema.ckpt", "deeplabv3_mobilenet_v3_large", [], 0, "remappable", {"wrapper-prefix", "ema"}, None),
    (
        "lightning_ema.ckpt",
        "deeplabv3_mobilenet_v3_large",
        ["--branch", "ema_state_dict"],
        0,
        "compatible",
        set(),
        "Every tensor fits as it is: fit to evaluate.",
    ),
    ("untrained_head_bn.pth", "deeplabv3_resnet50", ["--arch-arg", "aux_loss=true"], 1, "partial", {"bn-untrained"}, None),
    ("resnet50_imagenet.pth", "deeplabv3_resnet50", [], 1, "partial", {"backbone-only", "unexpected-layers"}, None),
    ("resnet50_imagenet.pth", "resnet50", [], 0, "compatible", set(), "Every tensor fits as it is: fit to evaluate."),
    ("tiny_unet_sharded", "sample_ckpts/tiny_unet.py:build", [], 0, "compatible", set(), None),
    ("tiny_unet_sharded", "deeplabv3_resnet50", [], 1, "incompatible", {"nothing-matched"}, None),
]


@pytest.mark.parametrize(("sample", "arch", "options", "code", "status", "rules", "summary"), AUDITS)
def test_diff_of_samples(run, run_beside_torch, samples, sample, arch, options, code, status, rules, summary):
    command = run_beside_torch if ".py:" in arch else run
    result = command("diff", samples / sample, "--arch", arch, *options, "--format", "json")
    assert result.returncode == code, result.stderr
    audit = json.loads(result.stdout)
    jsonschema.validate(audit, SCHEMA)
    assert audit["verdict"]["status"] == status
    assert {finding["rule"] for finding in audit["findings"]} == rules
    assert summary is None or audit["verdict"]["summary"] == summary
    assert audit["model"]["spec"] == ("live" if ".py:" in arch else "catalogue")


def test_terminal_page(run):
    """The page of the README's first command, letter for letter but for the version of torchvision."""
    result = run("diff", "sample_ckpts/dataparallel_10classes.pth", "--arch", "deeplabv3_resnet50", "--for", "finetune")
    shown = (ROOT / "README.md").read_text().split("```text\n")[1].split("```")[0]
    assert _without_version(result.stdout) == _without_version(shown)
    lines = result.stdout.splitlines()
    assert max(len(line) for line in lines if not line.startswith("next ")) <= 80  # a command is there to be copied whole
    assert "\x1b" not in result.stdout


def _without_version(page: str) -> list[str]:
    return [
        " ".join(word for word in line.split(" ") if not word[:1].isdigit() or "." not in word or "," not in word)
        for line in page.splitlines()
    ]


BAD_CALLS = [
    ((), 2, "Usage"),
    (("diff", "sample_ckpts/tiny_unet_sharded"), 2, "no model is given (--arch or --against at the prompt)"),
    (("diff", "sample_ckpts/deeplabv3_voc.pth", "--arch", "resnet50", "--against", "sample_ckpts/deeplabv3_voc.pth"), 2, "not both"),
    (("identify", "sample_ckpts/not_a_checkpoint.pth"), 3, "git-lfs pointer"),
    (("diff", "sample_ckpts/deeplabv3_voc.pth", "--arch", "resnet50", "--arch-arg", "num_classes"), 2, "KEY=VALUE"),
    (("diff", "sample_ckpts/deeplabv3_voc.pth", "--arch", "resnet50", "--for", "fun"), 2, "'fun'"),
    (("diff", "sample_ckpts/deeplabv3_voc.pth", "--arch", "deeplabv3_resnet5"), 3, "deeplabv3_resnet50"),
    (("diff", "sample_ckpts/deeplabv3_voc.pth", "--arch", "resnet50", "--branch", "ema"), 3, "no branch"),
    (("diff", "sample_ckpts/not_a_checkpoint.pth", "--arch", "resnet50"), 3, "git-lfs pointer"),
    (("show", "sample_ckpts/not_a_checkpoint.pth"), 3, "git-lfs pointer"),
    (("show", "sample_ckpts/nothing.pth"), 3, "nothing.pth"),
    (("show", "README.md"), 3, "README.md"),
    (("show", "sample_ckpts/deeplabv3_voc.pth", "-o", "README.md"), 3, "exists already"),
    (("show", "sample_ckpts/deeplabv3_voc.pth", "--graph", "graph.png"), 2, ".graphml"),
    (("diff", "sample_ckpts/deeplabv3_voc.pth", "--arch", "tests/broken_factory.py:build"), 3, "RuntimeError: no data today"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), BAD_CALLS)
def test_bad_calls_are_told_in_one_line(run, arguments, code, words):
    result = run(*arguments)
    assert result.returncode == code
    said = result.stderr + result.stdout
    assert words in said
    assert "Traceback" not in said
    if code == 3:
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(("bar", "code"), [("remappable", 1), ("partial", 0), ("incompatible", 0), ("never", 0)])
def test_fail_on_moves_the_bar(run, bar, code):
    arguments = ("sample_ckpts/dataparallel_10classes.pth", "--arch", "deeplabv3_resnet50", "--arch-arg", "num_classes=10", "-q")
    assert run("diff", *arguments, "--fail-on", bar).returncode == code


def test_fail_on_never_is_not_for_files_that_cannot_be_audited(run):
    assert run("diff", "sample_ckpts/not_a_checkpoint.pth", "--arch", "resnet18", "--fail-on", "never").returncode == 3


@pytest.mark.parametrize(
    "code",
    [
        "import ckptaudit",
        "import ckptaudit.cli; ckptaudit.cli.main(['--help'])",
        "import ckptaudit.cli; ckptaudit.cli.main(['diff', '--help'])",
        "import ckptaudit; ckptaudit.identify('sample_ckpts/deeplabv3_voc.pth')",
        "import ckptaudit.cli; ckptaudit.cli.main(['show', 'sample_ckpts/deeplabv3_voc.pth'])",
        "import ckptaudit.cli; ckptaudit.cli.main(['diff', 'sample_ckpts/not_a_checkpoint.pth', '--arch', 'resnet50'])",
        "import ckptaudit; ckptaudit.open_checkpoint('sample_ckpts/tiny_unet_sharded')",
        *(
            f"import ckptaudit.cli; ckptaudit.cli.main(['probe', 'sample_ckpts/resnet50_imagenet.pth', '--arch', 'resnet50', {wrong}])"
            for wrong in ("'--preprocess', 'imagnet'", "'--read', 'argmin'", "'--images', 'docs/rules'")
        ),
    ],
)
def test_nothing_heavy_is_imported(code):
    heavy = {"torch", "numpy", "networkx", "tensorflow", "keras", "h5py", "safetensors", "torchvision", "yaml"}
    if "show" not in code and "probe" not in code:
        heavy.add("rich")
    program = f"import atexit, sys\natexit.register(lambda: print(sorted(set(sys.modules) & {heavy!r}), file=sys.stderr))\n{code}"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.stderr.splitlines()[-1] == "[]"


def test_outputs_are_written_whole_and_never_over_others(run, samples, tmp_path):
    arguments = (
        "show",
        samples / "resnet50_imagenet.pth",
        "--format",
        "json",
        "-o",
        tmp_path / "out.json",
        "--graph",
        tmp_path / "graph.graphml",
    )
    assert run(*arguments).returncode == 0
    first = (tmp_path / "out.json").read_text()
    assert json.loads(first)["checkpoint"]["tensors"] == 320
    (tmp_path / "out.json").write_text("mine")
    refused = run(*arguments)
    assert (refused.returncode, (tmp_path / "out.json").read_text()) == (3, "mine")
    assert run(*arguments, "--force").returncode == 0
    assert (tmp_path / "out.json").read_text() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph.graphml", "out.json"]


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colour_only_at_a_terminal_that_wants_it(samples, no_color):
    parent, child = pty.openpty()
    environment = (
        {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm"} | ({"NO_COLOR": no_color} if no_color else {})
    )
    with subprocess.Popen(
        [sys.executable, "-m", "ckptaudit", "show", "-q", samples / "deeplabv3_voc.pth"], stdout=child, env=environment, cwd=ROOT
    ) as process:
        process.wait(timeout=60)
    os.close(child)
    shown = os.read(parent, 65536)
    os.close(parent)
    assert (b"\x1b[" in shown) == (not no_color)
    assert b"deeplabv3_voc.pth" in shown


def test_a_reader_that_stops_reading_is_no_error():
    for command, code in (
        ("show -v sample_ckpts/resnet101_backbone.pth", 0),
        ("diff -v sample_ckpts/resnet101_backbone.pth --against sample_ckpts/deeplabv3_voc.pth", 1),
    ):
        program = f"{sys.executable} -m ckptaudit {command} | true"
        result = subprocess.run(["bash", "-o", "pipefail", "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
        assert (result.returncode, result.stderr) == (code, "")


def test_spec_stands_for_the_model(run, samples, tmp_path):
    assert run("spec", "resnet50", "-o", tmp_path / "spec.json").returncode == 0
    live, saved = (
        json.loads(run("diff", samples / "resnet50_imagenet.pth", *side, "--format", "json").stdout)
        for side in (("--arch", "resnet50"), ("--against", tmp_path / "spec.json"))
    )
    assert saved["model"]["spec"] == "file"
    for key in ("checkpoint", "verdict", "coverage", "facts", "findings", "plan"):
        assert saved[key] == live[key]


def test_against_another_checkpoint(run, samples):
    result = run("diff", samples / "dataparallel_10classes.pth", "--against", samples / "deeplabv3_voc.pth", "--format", "json")
    assert result.returncode == 1
    assert {finding["rule"] for finding in json.loads(result.stdout)["findings"]} == {"num-classes", "wrapper-prefix"}


@pytest.mark.parametrize("name", ["a b.pth", "new\nline.pth", "esc\x1b[31m.pth", "bytes-\udcff.pth", "–ü.pth"])
def test_odd_file_names(run, samples, tmp_path, name):
    path = os.fsencode(tmp_path / name)
    with open(path, "wb") as file:  # noqa: PTH123
        file.write((samples / "resnet50_imagenet.pth").read_bytes())
    for arguments in (("show", "-q"), ("show", "--format", "json")):
        result = run(arguments[0], os.fsdecode(path), *arguments[1:])
        assert result.returncode == 0, result.stderr
        assert "\x1b" not in result.stdout
        assert "new\nline" not in result.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_leave_nothing_half_written(tmp_path, number, code):
    """The signal comes right before the output gets its name, and again whenever a file is about to be taken away."""
    program = (
        "import os, sys, ckptaudit.files as files\n"
        "from ckptaudit.cli import main\n"
        "publish, unlink = files._publish, os.unlink\n"
        f"files._publish = lambda *a, **k: os.kill(os.getpid(), {int(number)}) or publish(*a, **k)\n"
        f"os.unlink = lambda *a, **k: [os.kill(os.getpid(), {int(number)}) for _ in range(3)] and unlink(*a, **k)\n"
        "main(sys.argv[1:])\n"
    )
    arguments = ["scan", "sample_ckpts/deeplabv3_voc.pth", "--format", f"json={tmp_path / 'out.json'}"]
    given = [sys.executable, "-c", program, *arguments]
    ended = subprocess.run(given, capture_output=True, text=True, cwd=ROOT, check=False, preexec_fn=heard)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert list(tmp_path.iterdir()) == []


def test_a_second_interrupt_leaves_nothing_half_written(tmp_path, monkeypatch):
    """In Python, where every Ctrl-C is heard, a notebook for instance."""
    unlink, pressed = os.unlink, []

    def interrupted(*arguments, **more):
        if not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        unlink(*arguments, **more)

    monkeypatch.setattr(os, "unlink", interrupted)
    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / ("ü" * 120)):
        raise KeyboardInterrupt
    assert pressed
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_runs_a_command_goes_on(samples):
    program = (
        "import atexit, sys\nfrom ckptaudit.cli import main\natexit.register(print, 'tidied up')\n"
        "try:\n    main()\nfinally:\n    print('and on')\n"
    )
    given = [sys.executable, "-c", program, "show", str(samples / "deeplabv3_voc.pth")]
    ended = subprocess.run(given, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.splitlines()[-2:]) == (0, ["and on", "tidied up"])


def test_size_of_headers_is_limited(run, samples):
    for command in (["show"], ["scan"], ["diff", "--against", samples / "deeplabv3_voc.pth"]):
        limited = run(*command, samples / "deeplabv3_voc.pth", "--max-header", "1K")
        assert (limited.returncode, limited.stdout) == (3, "")
        assert "more than 1,024 are not read" in limited.stderr
    assert run("show", samples / "deeplabv3_voc.pth", "--max-header", "1M").returncode == 0
    assert run("scan", samples / "deeplabv3_voc.pth", CKPTAUDIT_MAX_HEADER="huge").returncode == 2


@pytest.mark.parametrize("name", ["dataparallel_10classes.pth", "tiny_unet_sharded"])
def test_show_writes_json_as_every_verb_does(run, samples, name):
    text = run("show", samples / name, "--format", "json").stdout
    assert dump(json.loads(text)) == text
