"""``ckptaudit scan``: which files, what is found in them, and with which exit code."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import pty
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from argparse import Namespace
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from safetensors.torch import save_file

import ckptaudit
from ckptaudit.scanning import scan, scan_file
from ckptaudit.scanning.checks import RULES

ROOT = Path(__file__).parent.parent.parent
SCHEMA = json.loads((ROOT / "docs/scan-1.schema.json").read_text())


class Evil:
    def __reduce__(self):
        return os.system, ("echo pwned; exit 1",)


def rules(path, **options):
    return {(finding.rule, finding.severity) for finding in scan_file(path, **options).findings}


@pytest.fixture
def good(tmp_path):
    torch.save({"w": torch.ones(3)}, tmp_path / "good.pth")
    return tmp_path / "good.pth"


def repacked(path, extra=(), gap=b""):
    """The same torch zip with more members, and bytes between the members and the directory."""
    out = path.with_name("repacked.pth")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
        for name, content in extra:
            new.writestr(name, content)
    if gap:
        data = bytearray(out.read_bytes())
        end = data.rfind(b"PK\x05\x06")
        start = struct.unpack_from("<L", data, end + 16)[0]
        struct.pack_into("<L", data, end + 16, start + len(gap))
        out.write_bytes(data[:start] + gap + data[start:])
    return out


def pth(value):
    return lambda folder: torch.save(value, folder / "f.pth") or folder / "f.pth"


def pickled(value):
    def make(folder):
        (folder / "f.pkl").write_bytes(pickle.dumps(value))
        return folder / "f.pkl"

    return make


def repacking(**how):
    def make(folder):
        torch.save({"w": torch.ones(3)}, folder / "good.pth")
        return repacked(folder / "good.pth", **how)

    return make


def script(code):
    def make(folder):
        class Module(torch.nn.Module):
            def forward(self, x):
                return x + 1

        torch.jit.script(Module()).save(str(folder / "s.pt"))
        if not code:
            return folder / "s.pt"
        out = folder / "t.pt"
        with zipfile.ZipFile(folder / "s.pt") as old, zipfile.ZipFile(out, "w") as new:
            for member in old.infolist():
                content = old.read(member)
                new.writestr(
                    member.filename, content.replace(b"return", code + b"\n    return") if member.filename.endswith(".py") else content
                )
        return out

    return make


def message(number, content):
    return (content if isinstance(content, bytes) else b"") and bytes([number << 3 | 2, len(content)]) + content


def saved_model(*ops):
    def make(folder):
        nodes = b"".join(message(1, message(1, b"n") + message(2, op)) for op in ops)
        (folder / "saved_model.pb").write_bytes(b"\x08\x01" + message(2, message(2, nodes)))
        return folder / "saved_model.pb"

    return make


def keras(class_name):
    def make(folder):
        config = json.dumps({"class_name": class_name, "config": {"name": "l", "function": "4wEAAAA="}}).encode()
        node = message(5, config)
        (folder / "keras_metadata.pb").write_bytes(message(1, node))
        return folder / "keras_metadata.pb"

    return make


def onnx_external(folder):
    tensor = numpy_helper.from_array(np.ones(4, "f4"), "w")
    model = helper.make_model(helper.make_graph([], "g", [], [], [tensor]))
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return folder / "m.onnx"


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (pth({"w": torch.ones(3)}), set()),
        (pth({"w": torch.ones(3), "args": Namespace(lr=1)}), {("refused-global", "note")}),
        (pth({"w": torch.ones(3), "x": Evil()}), {("refused-global", "error")}),
        (pth(torch.optim.SGD([torch.ones(3)], 0.1)), {("refused-global", "note")}),
        (pth({"state_dict": {"a.weight": torch.ones(3)}, "callbacks": {"Best{}": {"kth_value": torch.tensor(float("inf"))}}}), set()),
        (pickled(Evil()), {("refused-global", "error")}),
        (pth({"w": torch.tensor([1.0, float("nan")])}), {("non-finite-values", "warning")}),
        (pth({"w": torch.tensor([1.0, float("inf")])}), {("non-finite-values", "warning")}),
        (pth({"mask": torch.tensor([0.0, float("-inf")])}), set()),
        (repacking(), set()),
        (repacking(extra=[("archive/evil.pkl", pickle.dumps(Evil()))]), {("refused-global", "error"), ("unreferenced-bytes", "warning")}),
        (repacking(extra=[("good/data/77", b"hidden")]), {("unreferenced-bytes", "warning")}),
        (repacking(extra=[("good/ckptaudit.json", b'{"tool": "ckptaudit", "source": "a.pth"}')]), set()),
        (repacking(extra=[("good/ckptaudit.json", b'{"tool": "another"}')]), {("unreferenced-bytes", "warning")}),
        (repacking(extra=[("good/ckptaudit.json", b'{"tool": "ckptaudit", "more": [1]}')]), {("unreferenced-bytes", "warning")}),
        (repacking(extra=[("good/ckptaudit.json", b'{"tool": "ckptaudit"}hidden')]), {("unreferenced-bytes", "warning")}),
        (repacking(extra=[("good/ckptaudit.json", b'{"tool": "ckptaudit"}'.ljust(70_000))]), {("unreferenced-bytes", "warning")}),
        (repacking(extra=[("ckptaudit.json", b'{"tool": "ckptaudit"}')]), {("unreferenced-bytes", "warning")}),
        (repacking(gap=b"hidden" * 50), {("unreferenced-bytes", "warning")}),
        (script(b""), {("torchscript-code", "note")}),
        (script(b"torch.save(x, 'f')"), {("torchscript-code", "note"), ("torchscript-code", "warning")}),
        (saved_model(b"Conv2D", b"SaveV2", b"RestoreV2"), set()),
        (saved_model(b"WriteFile"), {("tensorflow-file-access", "error")}),
        (saved_model(b"ReadFile"), {("tensorflow-file-access", "warning")}),
        (saved_model(b"PyFunc"), {("tensorflow-file-access", "error")}),
        (keras("Dense"), set()),
        (keras("Lambda"), {("keras-code", "warning")}),
        (onnx_external, {("external-data", "note")}),
    ],
)
def test_findings(tmp_path, make, expected):
    assert rules(make(tmp_path)) == expected


@pytest.mark.parametrize(("broken", "words"), [(1, "less than 1%"), (25_000, "25%"), (99_999, "more than 99%")])
def test_deep_looks_at_every_value(tmp_path, broken, words):
    path, values = tmp_path / "a.safetensors", torch.zeros(100_000)
    values[-broken:] = float("nan")
    save_file({"0.weight": values[None]}, path)
    model = torch.nn.Sequential(torch.nn.Linear(100_000, 1, bias=False))
    assert bool(rules(path)) == (broken == 99_999)
    for findings in (scan_file(path, deep=True).findings, ckptaudit.audit(path, model, deep=True).findings):
        (message,) = (finding.message for finding in findings if finding.rule == "non-finite-values")
        assert message.endswith(f"`0.weight`: {words} of its values.")


def test_overlapping_external_data(tmp_path):
    path = onnx_external(tmp_path)
    model = onnx.load(path, load_external_data=False)
    (tmp_path / "w.bin").write_bytes(np.ones(8, "f4").tobytes())
    for name, offset in (("a", "8"), ("b", "0")):
        copy = model.graph.initializer.add()
        copy.CopyFrom(model.graph.initializer[0])
        copy.name = name
        for entry in copy.external_data:
            if entry.key == "offset":
                entry.value = offset
    path.write_bytes(model.SerializeToString())
    assert ("overlapping-storage", "warning") in rules(path)


def test_exit_codes_and_lines(run, tmp_path, good):
    torch.save({"w": torch.ones(3), "x": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "cut.pth").write_bytes(good.read_bytes()[:300])
    clean, found, cut = (run("scan", path) for path in (good, tmp_path / "evil.pth", tmp_path / "cut.pth"))
    both = run("scan", good, tmp_path / "evil.pth", tmp_path / "cut.pth")
    assert (clean.returncode, found.returncode, cut.returncode, both.returncode) == (0, 1, 3, 3)
    assert "clean" in clean.stdout
    assert "system('echo pwned; exit 1') (byte" in " ".join(found.stdout.split())
    assert cut.stdout == ""
    assert len(cut.stderr.splitlines()) == 1
    assert "cut.pth: a truncated zip" in cut.stderr
    assert "3 files: 1 clean, 1 with findings, 1 not readable" in both.stdout
    assert f"? {tmp_path / 'cut.pth'}\n    a truncated zip" in both.stdout
    assert both.stderr.splitlines() == cut.stderr.splitlines()


@pytest.mark.parametrize("arguments", [[], ["--quiet"], ["--fail-on", "error"], ["--max-header", "1M"]], ids=" ".join)
def test_at_a_terminal_what_cannot_be_read_is_told_once(tmp_path, good, arguments):
    (tmp_path / "cut.pth").write_bytes(good.read_bytes()[:300])
    for files, where in (([good, tmp_path / "cut.pth"], "page"), ([tmp_path / "cut.pth"], "line")):
        parent, child = pty.openpty()
        command = [sys.executable, "-m", "ckptaudit", "scan", *files, *arguments]
        ended = subprocess.run(command, stdout=child, stderr=child, cwd=ROOT, env={**os.environ, "TERM": "dumb"}, check=False)
        shown = os.read(parent, 1 << 16).decode()
        os.close(child)
        os.close(parent)
        assert (ended.returncode, shown.count("a truncated zip")) == (3, 1), shown
        assert ("ckptaudit: " in shown) == (where == "line")


def test_fail_on(run, tmp_path):
    torch.save({"w": torch.ones(3), "args": Namespace(lr=1)}, tmp_path / "a.pth")
    torch.save({"w": torch.tensor(float("nan"))}, tmp_path / "b.pth")
    codes = {
        (name, bar): run("scan", "--fail-on", bar, tmp_path / name).returncode
        for name in ("a.pth", "b.pth")
        for bar in ("note", "warning", "error")
    }
    assert codes == {
        ("a.pth", "note"): 1,
        ("a.pth", "warning"): 0,
        ("a.pth", "error"): 0,
        ("b.pth", "note"): 1,
        ("b.pth", "warning"): 1,
        ("b.pth", "error"): 0,
    }


def test_json_follows_its_schema(run, tmp_path, good):
    torch.save({"w": torch.ones(3), "x": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "cut.pkl").write_bytes(pickle.dumps(Evil())[:-1])
    result = json.loads(run("scan", tmp_path, "--format", "json").stdout)
    jsonschema.validate(result, SCHEMA)
    assert result["summary"] == {"files": 3, "clean": 1, "findings": 1, "unreadable": 1, "skipped": 0}
    cut = next(file for file in result["files"] if file["status"] == "unreadable")
    assert "truncated" in cut["reason"]
    assert cut["refused_globals"][0]["grade"] == "dangerous"
    assert cut["refused_globals"][0]["arguments"] == "'echo pwned; exit 1'"
    assert [finding["rule"] for finding in cut["findings"]] == ["refused-global"]


def test_folders_and_patterns(tmp_path, good, samples):
    shutil.copytree(samples / "tiny_unet_sharded", tmp_path / "sharded")
    good.rename(tmp_path / "unknown.name")
    (tmp_path / "README.txt").write_text("Not a checkpoint.")
    (tmp_path / "broken.bin").write_text("Not a checkpoint either.")
    found = scan([tmp_path])
    assert {(file.path.name, file.status()) for file in found.files} == {
        ("unknown.name", "clean"),
        ("broken.bin", "unreadable"),
        ("model.safetensors.index.json", "clean"),
    }
    assert found.skipped == 1
    assert [file.path.name for file in scan([tmp_path / "*.name"]).files] == ["unknown.name"]
    assert len(scan([tmp_path / "unknown.name", tmp_path / "*.name", tmp_path]).files) == 3
    assert scan([tmp_path / "nothing*"]).files[0].status() == "unreadable"


def tar(path, *members):
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path.read_bytes()


def saved(save, *arrays):
    file = io.BytesIO()
    save(file, *arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("best.pth.tar", "good", ("clean", "")),
        ("best.pth.tar", "cut", ("unreadable", "a truncated zip")),
        ("best.pth.tar", "old", ("unreadable", "a tar archive: torch's tar layout (before 0.2), which is not read")),
        ("best.pth.tar", "old evil", ("unreadable", "which is not read; its pickle calls posix.system")),
        ("kept.data", "old evil", ("unreadable", "which is not read; its pickle calls posix.system")),
        ("best.CKPT.gz", "gzip", ("unreadable", "a gzip archive: unpack it first")),
        ("best.pt.bak", "text", ("unreadable", "a text file, not a checkpoint")),
        ("kept.data", "evil", ("findings", "")),
        ("points.npy", "array evil", ("unreadable", "a numpy array file (.npy), not a checkpoint; its pickle calls posix.system")),
        ("points.npy", "array spelt otherwise", ("unreadable", "its pickle calls posix.system")),
        ("points.npz", "arrays evil", ("unreadable", "a numpy archive (.npz), not a checkpoint; its pickle calls posix.system")),
        ("points.npz", "arrays packed evil", ("unreadable", "its pickle calls posix.system")),
        ("points.tar", "tar of arrays", ("unreadable", "its pickle calls posix.system")),
        ("points.npy", "array of numbers", None),
        ("points.npy", "array of objects", None),
        ("points.npz", "arrays of numbers", None),
        ("best.pth.sha256", "text", None),
        ("user.model.ts", "text", None),
        ("sources.tar", "other tar", None),
    ],
)
def test_names_in_a_folder(run, tmp_path, good, name, content, expected):
    folder = tmp_path / "folder"
    folder.mkdir()
    evil, objects = pickle.dumps(Evil(), 2), np.array([Evil()], dtype=object)
    contents = {
        "good": good.read_bytes(),
        "cut": good.read_bytes()[:300],
        "evil": evil,
        "old": tar(tmp_path / "tar", *((part, pickle.dumps({}, 2)) for part in ("sys_info", "pickle", "storages", "tensors"))),
        "old evil": tar(tmp_path / "tar", ("storages", pickle.dumps(0, 2) + evil), ("pickle", pickle.dumps({}, 2))),
        "other tar": tar(tmp_path / "tar", ("notes", b"text")),
        "gzip": gzip.compress(b"packed"),
        "text": b"Not a checkpoint.",
        "array evil": (array := saved(np.save, objects)),
        "array spelt otherwise": array.replace(b"'|O'", rb"'\x7cO'").replace(b"), }   ", b"), }"),
        "arrays evil": saved(np.savez, np.ones(3 << 20), objects),
        "arrays packed evil": saved(np.savez_compressed, np.ones(3 << 20), objects),
        "tar of arrays": tar(tmp_path / "tar", ("a", b"text"), ("b", array)),
        "array of numbers": saved(np.save, np.frombuffer(evil, np.uint8)),
        "array of objects": saved(np.save, np.array([{}, "text"], dtype=object)),
        "arrays of numbers": saved(np.savez, np.ones(3), np.frombuffer(evil, np.uint8)),
    }
    assert contents["array spelt otherwise"] != array
    (folder / name).write_bytes(contents[content])
    good.rename(folder / "good.pth")
    found = scan([folder])
    [other] = [file for file in found.files if file.path.name == name] or [None]
    assert (other and other.status()) == (expected and expected[0])
    assert expected is None or expected[1] in other.reason
    assert found.skipped == (expected is None)
    if expected is None:
        assert "1 file: 1 clean · 1 other file passed over" in run("scan", folder).stdout


def test_shards_of_a_broken_index_are_scanned(tmp_path, samples):
    shutil.copytree(samples / "tiny_unet_sharded", tmp_path / "s")
    shards = sorted((tmp_path / "s").glob("*.safetensors"))
    shards[0].unlink()
    found = {file.path.name: file.status() for file in scan([tmp_path]).files}
    assert found == {"model.safetensors.index.json": "unreadable", **{shard.name: "clean" for shard in shards[1:]}}


def test_folder_without_a_checkpoint(run, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    result = run("scan", tmp_path)
    assert (result.returncode, result.stdout) == (3, "")
    assert "a directory that holds no checkpoint" in result.stderr


def test_links_are_followed_within_the_folder_only(tmp_path, good):
    folder = tmp_path / "folder"
    folder.mkdir()
    good.rename(folder / "good.pth")
    torch.save({"w": torch.ones(1)}, tmp_path / "secret.pth")
    (folder / "inside.pth").symlink_to("good.pth")
    (folder / "outside.pth").symlink_to("../secret.pth")
    (folder / "dangling.pth").symlink_to("nothing")
    os.mkfifo(folder / "fifo.pth")
    found = {file.path.name: file.reason for file in scan([folder]).files}
    assert found["good.pth"] == found["inside.pth"] == ""
    assert "leaves the folder" in found["outside.pth"]
    assert "no such file" in found["dangling.pth"]
    assert "fifo.pth" not in found


def test_every_rule_is_documented():
    page = (ROOT / "docs/scan.md").read_text()
    assert [rule.id for rule in RULES if f"`{rule.id}`" not in page] == []
