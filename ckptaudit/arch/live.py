"""Models that exist already: a ``torch.nn.Module`` of the calling program."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.model import Model
from ckptaudit.arch.torch_build import BuiltModule
from ckptaudit.arch.torch_module import layer_graph
from ckptaudit.errors import ArchitectureError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


def model_of_object(live: object, arguments: Mapping[str, Any]) -> Model:
    """Describe a live object; it is only looked at.

    Raises
    ------
    ArchitectureError
        It is no ``torch.nn.Module``.
    UsageError
        There are arguments: it is built already.
    """
    # Whoever has a torch model has imported torch: it need not be imported to rule one out.
    torch = sys.modules.get("torch")
    name = type(live).__name__
    if torch is None or not isinstance(live, torch.nn.Module):
        raise ArchitectureError(f"cannot audit against a {name}: give a torch.nn.Module or the name of an architecture")
    if arguments:
        raise UsageError(f"a live {name} takes no arguments")
    graph = layer_graph(BuiltModule(live), name)
    return Model(arch=name, source="object", graph=graph, library_version=str(torch.__version__), module=live)
