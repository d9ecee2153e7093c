"""The promises of docs/security.md that no other test holds: nothing else is opened or run, and faults end in one line."""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ckptaudit.errors import CkptAuditError
from ckptaudit.read import open_checkpoint
from ckptaudit.scanning import scan

ROOT = Path(__file__).parent.parent.parent

#: Runs the command given by its arguments and prints each file that it opened for good, and each program or connection.
WATCHED = """
import os, sys
from ckptaudit.cli import main
import ckptaudit.scanning, ckptaudit.report._scan, ckptaudit.report.json, h5py, numpy, ml_dtypes
import ckptaudit.read.opening as opening
opening.formats()
def watch(event, arguments):
    if event in ("open", "import", "os.system", "subprocess.Popen", "socket.connect", "os.exec", "os.rename", "os.remove"):
        print(event, arguments[0], file=sys.__stderr__)
sys.addaudithook(watch)
main(sys.argv[1:])
"""


class Evil:
    def __reduce__(self):
        return os.system, ("touch PWNED",)


def test_only_the_named_file_is_opened_and_nothing_is_imported(tmp_path):
    torch.save({"w": torch.ones(3), "x": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "secret.pth").write_bytes(b"secret")
    command = [sys.executable, "-c", WATCHED, "scan", "--format", "json", str(tmp_path / "evil.pth")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert ended.returncode == 1
    assert not (tmp_path / "PWNED").exists()
    events = ended.stderr.splitlines()
    assert not [event for event in events if event.split()[0] not in ("open", "import")]
    assert {"import posix", "import os", "import torch"}.isdisjoint(events)
    opened = {event.split()[1] for event in events if event.startswith("open ")}
    assert {path for path in opened if path.startswith(str(tmp_path))} == {str(tmp_path / "evil.pth")}


@pytest.mark.parametrize("size", [1000, 5_000_000, 20_000_000])
def test_a_file_that_is_cut_short_meanwhile_is_told(tmp_path, size):
    """Reading a mapping of it would kill the process by SIGBUS."""
    path = tmp_path / "a.safetensors"
    save_file({"w": torch.ones(size)}, path)
    read = open_checkpoint(path)
    os.truncate(path, 4096)
    with pytest.raises(CkptAuditError, match="changed"):
        read.read("w")
    path.unlink()
    with pytest.raises(CkptAuditError, match="no such file"):
        read.sample("w", 10)


@pytest.mark.parametrize(
    "name", [b"sp ace.pth", b"new\nline.pth", b"not-utf8-\xff\xfe.pth", b"\xe2\x80\xaebidi.pth", b"esc\x1b[31m.pth", b"-rf.pth"]
)
def test_odd_names(run, tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    torch.save({"w": torch.ones(1)}, tmp_path / "a")
    (tmp_path / "a").rename(path)
    for options in ([], ["--format", "json"]):
        ended = run("scan", *options, "--", path)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert all(c.isprintable() or c == "\n" for c in ended.stdout)
    assert scan([tmp_path]).count("clean") == 1


def test_outputs_that_cannot_be_written(run, tmp_path, samples):
    sample = samples / "deeplabv3_voc.pth"
    (tmp_path / "file").write_text("")
    for output in ("/dev/full", tmp_path / "nothing/out.json", tmp_path / "file/out.json", tmp_path):
        ended = run("scan", sample, "--format", "json", "--force", "-o", output)
        assert ended.returncode in (2, 3), output
        assert "Traceback" not in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_nothing(tmp_path, samples):
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    command = [sys.executable, "-m", "ckptaudit", "scan", str(samples / "deeplabv3_voc.pth"), "--format", f"json={tmp_path / 'out.json'}"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, preexec_fn=limited, check=False)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert len(ended.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"a": (v,)}, lambda v: {"w": np.ones(2), "v": v}])
def test_code_is_found_wherever_it_stands(tmp_path, protocol, wrap):
    path = tmp_path / "a.bin"
    path.write_bytes(pickle.dumps(wrap(Evil()), protocol))
    (found,) = scan([path]).files
    assert [(g.name, g.arguments) for g in found.refused_globals if g.called] == [("posix.system", "'touch PWNED'")]
    assert found.findings[0].severity == "error"
    path.write_bytes(path.read_bytes()[:-1])
    (cut,) = scan([path]).files
    assert cut.reason
    assert cut.findings[0].severity == "error"
