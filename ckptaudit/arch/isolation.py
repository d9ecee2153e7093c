"""Running foreign code so that it leaves no trace in the calling program: output, warnings, random state, torch's defaults."""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ckptaudit.arch.network import Refusals, network_refused

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def isolated(script: str) -> Iterator[Refusals]:
    """Run foreign code with no network, no warnings and no lasting effect; yields what was refused.

    Parameters
    ----------
    script:
        What the code sees as ``sys.argv[0]``, without arguments: a file that parses the command line when it is imported must
        not see ours.
    """
    with ExitStack() as stack:
        stack.enter_context(_attributes_kept())
        sys.argv = [script]
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(_random_state_kept())
        stack.enter_context(_torch_defaults_kept())
        yield stack.enter_context(network_refused())


@contextmanager
def output_to_stderr() -> Iterator[None]:
    """Send to stderr what the block writes to stdout: a report goes there, and must stay readable by programs.

    What it writes appears when the block is left. A block that raises is one that will be tried in another way or reported by its
    error: its output is dropped.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as written:
        with _stdout_as(written.fileno()):
            # A real file, for code that asks for sys.stdout.buffer or .fileno().
            outer, sys.stdout = sys.stdout, written
            try:
                yield
            finally:
                sys.stdout = outer
        written.seek(0)
        shutil.copyfileobj(written, sys.stderr)


@contextmanager
def _stdout_as(descriptor: int) -> Iterator[None]:
    """Point the process's own stdout at another file, for what does not go through ``sys.stdout`` (C code, child processes)."""
    try:
        sys.stdout.flush()
        saved = os.dup(1)
    except (OSError, ValueError, AttributeError):  # there is no stdout
        yield
        return
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let ``import`` find modules in ``folder``, and forget afterwards those that it found there.

    Two versions of one project can so be built one after the other in one process, each with its own modules.
    """
    known = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name not in known]:
            file = Path(getattr(sys.modules[name], "__file__", None) or "")
            # Installed packages stay, and so does this one, should the folder be its own repository; compiled modules load only once.
            installed = "site-packages" in file.parts or name.partition(".")[0] == __name__.partition(".")[0]
            if file.is_relative_to(folder) and file.suffix == ".py" and not installed:
                del sys.modules[name]


@contextmanager
def _attributes_kept() -> Iterator[None]:
    """Keep what foreign code likes to change in ``sys`` and ``os``."""
    path, argv, bytecode = list(sys.path), sys.argv, sys.dont_write_bytecode
    folder = os.open(".", os.O_RDONLY)  # a descriptor, because the folder may have no path any more
    try:
        yield
    finally:
        sys.path[:], sys.argv, sys.dont_write_bytecode = path, argv, bytecode
        os.fchdir(folder)
        os.close(folder)


@contextmanager
def _random_state_kept() -> Iterator[None]:
    state = random.getstate()
    numpy_state = numpy.random.get_state() if (numpy := sys.modules.get("numpy")) else None
    try:
        yield
    finally:
        random.setstate(state)
        if numpy and numpy_state is not None:
            numpy.random.set_state(numpy_state)


@contextmanager
def _torch_defaults_kept() -> Iterator[None]:
    """Keep torch's random state, default dtype, default device and grad mode; nothing to keep before torch is imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    random_state, dtype, device, grad = (
        torch.get_rng_state(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
    )
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        torch.set_rng_state(random_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)
