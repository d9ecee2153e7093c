"""A freshly built model as the rest of the project sees it: its layer graph, and where that came from."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from ckptaudit.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ckptaudit.arch.preprocessing import Preprocessing
    from ckptaudit.graph import LayerGraph
    from ckptaudit.read.checkpoint import Checkpoint

#: The model that a file describes itself.
SELF = "self"

Provenance = Literal["live", "cache", "catalogue", "file"]


@dataclass(frozen=True, eq=False)
class Model:
    """The model that a checkpoint is held against.

    Attributes
    ----------
    arch:
        The name as the user gave it (``deeplabv3_resnet50``, ``models.py:build``), or the class name of a live object.
    source:
        Which architecture source answered: ``torchvision``, ``factory``, ``file``, ``object`` …
    graph:
        Its layers; ``graph.modules`` tells type, attributes and origin of each module.
    provenance:
        Whether it was built just now, or taken from a cache, a catalogue or a file.
    library_version:
        Version of the library that defines the architecture, where there is one.
    arguments:
        Arguments that it was built with, as the user gave them.
    call:
        The Python expression that builds it, where there is one.
    siblings:
        Yields other architectures of the same family, built with the same arguments on demand; used to name the one
        that a file really holds. Empty where the source has no families.
    preprocessing:
        What the library says of the input that its trained weights expect; None where it says nothing.
    module:
        The live ``torch.nn.Module`` or ``keras.Model``, without values where it was built for nothing; None where there is none.
    checkpoint:
        The open file that it is, where it is one: values can be compared with it.
    remarks:
        What a reader of the audit should know of how the model was found, one line each.
    """

    arch: str
    source: str
    graph: LayerGraph
    provenance: Provenance = "live"
    library_version: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    call: str | None = None
    siblings: Callable[[], Iterator[Model]] = lambda: iter(())
    remarks: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    module: Any = field(default=None, repr=False)
    checkpoint: Checkpoint | None = field(default=None, repr=False)

    @property
    def is_stored(self) -> bool:
        """Whether it is a record of a model that can be built."""
        return self.module is None and self.provenance in ("cache", "catalogue")
