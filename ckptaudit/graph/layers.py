"""The layer graph: what a checkpoint and a model both become before anything is compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from sys import intern
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.graph.kinds import canonical_roles, infer_kind
from ckptaudit.graph.names import natural, parent, split_leaf
from ckptaudit.graph.tensors import TensorSpec
from ckptaudit.records import dataclass, field, replace

if TYPE_CHECKING:
    import networkx

    from ckptaudit.graph.computation import Computation


@dataclass(frozen=True, slots=True)
class Origin:
    """The line of source code that attached a layer to its model."""

    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Module:
    """What a live model says of one of its modules, whether it owns tensors or only contains others.

    ``attributes`` holds what shapes cannot show: eps, momentum, stride, padding, dilation, groups, activation arguments.
    """

    type_name: str
    origin: Origin | None = None
    attributes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Layer:
    """The tensors that one module owns itself, by canonical role.

    Attributes
    ----------
    path:
        The module's path; ``""`` for tensors at the top.
    kind:
        See :func:`ckptaudit.graph.kinds.infer_kind`.
    tensors:
        Role (``weight``, ``bias``, ``running_mean`` …) to the tensor; the tensor keeps its own name.
    index:
        Position in definition order, from 0.
    """

    path: str
    kind: str
    tensors: Mapping[str, TensorSpec]
    index: int


@dataclass(frozen=True, eq=False)
class LayerGraph:
    """Layers with three kinds of edges: *contains*, *precedes* and *feeds*.

    Attributes
    ----------
    tensors:
        Every tensor by its name, in definition order. The one source of truth; layers are derived from it.
    framework:
        ``torch``, ``keras``, ``tensorflow``, ``onnx`` or ``unknown``: decides the layout of kernels.
    modules:
        What a live model says of its modules, by path; empty for a file that does not tell.
    feeds:
        Pairs of layer paths (producer, consumer), where the dataflow is known.
    tied:
        Groups of names that share one memory.
    places:
        Where Keras puts each tensor in a file, by layout: ``3/0`` is the first weight of the fourth layer of a ``legacy`` file,
        ``layers/conv2d_1/vars/0`` a path of a ``numbered`` one, ``head/0`` the first weight of the layer that ``by_name``
        finds. A model tells all, a file its own; empty where it is not known.
    computation:
        What the network computes, operation by operation, where that is known.
    """

    tensors: Mapping[str, TensorSpec]
    framework: str = "torch"
    modules: Mapping[str, Module] = field(default_factory=lambda: MappingProxyType({}))
    feeds: tuple[tuple[str, str], ...] = ()
    tied: tuple[tuple[str, ...], ...] = ()
    places: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    computation: Computation | None = None

    @classmethod
    def from_tensors(cls, tensors: Iterable[TensorSpec], framework: str = "torch", **rest: Any) -> LayerGraph:
        """Build a graph from tensors in definition order. Of two tensors with one name the first is kept."""
        by_name: dict[str, TensorSpec] = {}
        for spec in tensors:
            by_name.setdefault(spec.name, spec)
        return cls(MappingProxyType(by_name), framework, **rest)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Layers in the order in which their first tensors are defined."""
        owned: dict[str, dict[str, TensorSpec]] = {}
        for name, spec in self.tensors.items():
            path, word = split_leaf(name)
            owned.setdefault(path, {})[intern(word)] = spec  # few last segments, in very many names
        layers = []
        for index, (path, names) in enumerate(owned.items()):
            roles = canonical_roles(names, self.framework)
            if roles == names:
                roles = names  # not kept twice
            module = self.modules.get(path)
            kind = infer_kind(roles, path, self.framework, module.type_name if module else "")
            layers.append(Layer(path, kind, MappingProxyType(roles), index))
        return tuple(layers)

    @cached_property
    def by_path(self) -> Mapping[str, Layer]:
        """Layers by path."""
        return {layer.path: layer for layer in self.layers}

    @cached_property
    def is_alphabetical(self) -> bool:
        """Whether the names stand in the order of the alphabet, numbers as such or by their digits, and not in that of definition."""
        return in_alphabetical_order(self) or in_alphabetical_order(self, natural)

    @cached_property
    def norms_behind(self) -> Mapping[str, Layer]:
        """See :func:`ckptaudit.graph.norms.norms_behind`."""
        from ckptaudit.graph.norms import norms_behind

        return norms_behind(self)

    @property
    def is_export(self) -> bool:
        """Whether it tells what is computed with its tensors, as ONNX does, and names them as exporters do."""
        return self.framework == "onnx" and self.computation is not None

    @property
    def parameters(self) -> int:
        """Number of trained values: elements of all tensors but buffers, tied ones counted once."""
        repeated = {name for group in self.tied for name in group[1:]}
        return sum(spec.numel for spec in self.tensors.values() if not spec.buffer and spec.name not in repeated)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors stored densely, tied ones counted once."""
        repeated = {name for group in self.tied for name in group[1:]}
        return sum(spec.nbytes for spec in self.tensors.values() if spec.name not in repeated)

    def __len__(self) -> int:
        return len(self.tensors)

    def __iter__(self) -> Iterator[TensorSpec]:
        return iter(self.tensors.values())

    def select(self, names: Iterable[str]) -> LayerGraph:
        """The graph of these tensors alone, in definition order."""
        wanted = set(names)
        return LayerGraph(
            MappingProxyType({name: spec for name, spec in self.tensors.items() if name in wanted}),
            self.framework,
            self.modules,
            self.feeds,
            tuple(kept for group in self.tied if len(kept := tuple(n for n in group if n in wanted)) > 1),
        )

    def in_order_of(self, other: LayerGraph) -> LayerGraph:
        """The graph in the order of another one that has all its names; as it is where one is lacking."""
        if not self.tensors.keys() <= other.tensors.keys():
            return self
        return replace(self, tensors=MappingProxyType({name: self.tensors[name] for name in other.tensors if name in self.tensors}))

    def to_networkx(self) -> networkx.MultiDiGraph:
        """The graph for algorithms and exports: see :func:`ckptaudit.graph.export.to_networkx`."""
        from ckptaudit.graph.export import to_networkx

        return to_networkx(self)


def in_alphabetical_order(tensors: Iterable[TensorSpec], key: Callable[[str], Any] = str) -> bool:
    """Whether the tensors stand by name: all of them, or those of each dtype, as safetensors has them, which sorts by dtype first."""
    seen: set[str] = set()
    dtype, last = "", None
    throughout = within = True
    for spec in tensors:
        place = key(spec.name)
        falls = last is not None and place < last
        throughout = throughout and not falls
        within = within and not (falls if spec.dtype == dtype else spec.dtype in seen)
        if not (throughout or within):
            return False
        seen.add(spec.dtype)
        dtype, last = spec.dtype, place
    return True


def module_paths(names: Sequence[str]) -> Iterator[str]:
    """Every module path that contains one of ``names``, each once, outermost first."""
    seen: set[str] = set()
    for name in names:
        chain = []
        path = parent(name)
        while path and path not in seen:
            seen.add(path)
            chain.append(path)
            path = parent(path)
        yield from reversed(chain)
