"""Building leaves no trace in the calling program: no output, no state, no memory, no network."""

import random
import subprocess
import sys
import textwrap
import threading

import pytest
import torch

from ckptaudit.arch import build_model
from ckptaudit.arch.network import DownloadRefusedError, network_refused
from ckptaudit.errors import ArchitectureError


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda text: (tmp_path / "models.py").write_text(textwrap.dedent(text))


RUDE = """
import os, random, sys, warnings
import numpy, torch
def build(fail=False):
    random.seed(1); numpy.random.seed(1); torch.manual_seed(1)
    torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False); torch.set_default_device("meta")
    sys.path.insert(0, "/nowhere"); os.chdir("/"); warnings.warn("rude")
    if fail:
        raise ValueError("failed")
    return torch.nn.Linear(2, 2)
"""


@pytest.mark.parametrize("fail", [False, True])
def test_state_of_the_process_is_as_before(write, tmp_path, fail):
    import numpy

    write(RUDE)
    hooks = torch.nn.modules.module._global_module_registration_hooks

    def state():
        return (
            random.getstate(),
            numpy.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
            (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_default_device()),
            (list(sys.path), list(sys.argv), sys.stdout, sys.dont_write_bytecode),
            dict(hooks),
            torch.empty(1).device,
        )

    before = state()
    if fail:
        with pytest.raises(ArchitectureError, match="ValueError: failed"):
            build_model("models.py:build", {"fail": True})
    else:
        build_model("models.py:build")
    assert state() == before
    assert tmp_path.samefile(".")


def test_what_a_factory_prints_goes_to_stderr_once(write, capfd):
    write("""
        import os, sys
        import torch
        print("imported")
        def build():
            print("printed"); os.write(1, b"written\\n"); os.system("echo echoed"); sys.stdout.buffer.write(b"raw\\n"); sys.stdout.flush()
            m = torch.nn.Linear(2, 2)
            m.weight.tolist()
            return m
    """)
    build_model("models.py:build")
    out, err = capfd.readouterr()
    assert out == ""
    assert [err.count(word) for word in ("imported", "printed", "written", "echoed", "raw")] == [1] * 5


def test_the_command_line_is_not_the_factorys(write):
    write("import argparse, torch\nargparse.ArgumentParser().parse_args()\ndef build(): return torch.nn.Linear(1, 1)")
    assert len(build_model("models.py:build").graph) == 2


@pytest.mark.parametrize(
    ("body", "target"),
    [
        ("torch.hub.load_state_dict_from_url('https://weights.example/net.pth', model_dir='.')", "https://weights.example/net.pth"),
        ("urllib.request.urlopen('http://weights.example/x')", "http://weights.example/x"),
        ("socket.create_connection(('weights.example', 443))", "weights.example:443"),
        ("with socket.socket() as s: s.connect(('127.0.0.1', 9))", "127.0.0.1:9"),
        ("thread = threading.Thread(target=connect); thread.start(); thread.join(); raise RuntimeError('offline')", "127.0.0.1:9"),
    ],
)
def test_downloads_are_refused_and_told(write, body, target):
    write(f"""
        import contextlib, socket, threading, urllib.request
        import torch
        def connect():
            with contextlib.suppress(OSError), socket.socket() as s:
                s.connect(("127.0.0.1", 9))
        def build():
            {body}
    """)
    message = f"^models.py:build: the factory tried to download weights from {target}; pass weights=None / pretrained=False"
    with pytest.raises(ArchitectureError, match=message):
        build_model("models.py:build")


def test_factory_that_goes_on_without_the_network_is_fine(write):
    write("""
        import urllib.request
        import torch
        def build():
            try:
                urllib.request.urlopen("http://weights.example/x")
            except OSError:
                pass
            return torch.nn.Linear(1, 1)
    """)
    assert len(build_model("models.py:build").graph) == 2


def test_network_is_refused_only_inside_and_not_to_threads_that_ran_before():
    import socket

    outcomes = []
    go, done = threading.Event(), threading.Event()

    def earlier():
        go.wait()
        try:
            socket.getaddrinfo("127.0.0.1", 9)
            outcomes.append("allowed")
        except DownloadRefusedError:
            outcomes.append("refused")
        done.set()

    thread = threading.Thread(target=earlier)
    thread.start()
    with network_refused() as refusals:
        go.set()
        done.wait()
        with pytest.raises(DownloadRefusedError):
            socket.getaddrinfo("127.0.0.1", 9)
    thread.join()
    socket.getaddrinfo("127.0.0.1", 9)
    assert outcomes == ["allowed"]
    assert refusals.targets == ["127.0.0.1:9"]


def run(code):
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True).stdout.strip()


def test_nothing_heavy_is_imported_with_the_package():
    heavy = "{'torch', 'torchvision', 'numpy', 'networkx'}"
    assert run(f"import sys, ckptaudit.arch.sources; ckptaudit.arch.sources.built_in(); print({heavy} & sys.modules.keys())") == "set()"
    assert (
        run(f"""
        import sys, ckptaudit.arch, ckptaudit.errors
        try:
            ckptaudit.arch.build_model({{}})
        except ckptaudit.errors.ArchitectureError:
            print({heavy} & sys.modules.keys())
    """)
        == "set()"
    )


@pytest.mark.parametrize("arch", ["resnet50?width_per_group=3", "torchvision:resnet50?width_per_group=3", "models.py:build"])
def test_missing_library_is_named_with_its_install_command(write, arch):
    write("import torch")
    printed = run(f"""
        import sys
        class Missing:
            def find_spec(self, name, path=None, target=None):
                if name in ("torch", "torchvision"):
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        sys.meta_path.insert(0, Missing())
        from ckptaudit.arch import build_model
        try:
            build_model({arch!r})
        except Exception as error:
            print(type(error).__name__, error)
    """)
    assert printed.startswith("MissingLibraryError ")
    assert printed.endswith("is not installed; run: pip install 'ckptaudit[torch]'")


def test_weights_take_no_memory():
    extra = run("""
        import resource, torch, torchvision
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        imported = peak()
        from ckptaudit.arch import build_model
        for name in ("vit_h_14", "regnet_y_128gf"):
            assert build_model(name).graph.nbytes > 2 * 2**30
            print(peak() - imported)
    """)
    assert len(extra.split()) == 2
    assert all(float(more) < 100 for more in extra.split()), extra
