"""Building the models of a project's contracts as its code is now."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ckptaudit.arch import Model, build_model
from ckptaudit.arch.arguments import is_file
from ckptaudit.errors import ArchitectureError
from ckptaudit.lock.contracts import Contract, Project

#: Set for the process that builds another revision: the tree of this one, from which nothing may be imported there.
OTHER_TREE = "CKPTAUDIT_OTHER_TREE"


@contextmanager
def project_first(project: Project) -> Iterator[None]:
    """Within, imports look into the project's own folders first."""
    before = list(sys.path)
    sys.path[:0] = map(str, project.paths)
    try:
        yield
    finally:
        sys.path[:] = before


def build_contract(project: Project, contract: Contract) -> Model:
    """Build the model of one contract; those of several contracts share what they import.

    Raises
    ------
    ArchitectureError
        It cannot be built, or is not of the tree that it should be of.
    """
    file, _, rest = contract.arch.rpartition(":")
    arch = contract.arch
    if is_file(file) and not Path(file).is_absolute():
        # A path in the configuration is one from its folder; shown from where the user is.
        arch = f"{os.path.relpath(project.root / file)}:{rest}"
        arch = arch if "/" in arch else f"./{arch}"
    model = build_model(arch, contract.arguments, fresh=True)  # the installed library, not a catalogue of some version of it
    _refuse_other_tree()
    return model


def _refuse_other_tree() -> None:
    """An editable install can lead to the tree of the working copy: a wrong model, silently."""
    other = os.environ.get(OTHER_TREE)
    if not other:
        return
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "/")
        if file.is_relative_to(other) and not {"site-packages", "ckptaudit"} & set(file.relative_to(other).parts):
            raise ArchitectureError(
                f"{name} was imported from the working copy ({file}), not from the revision; name its folder in tool.ckptaudit.paths"
            )
