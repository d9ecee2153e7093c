"""The parts of a file in which a network of its own may lie: the whole, and the largest modules."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from itertools import chain

from ckptaudit.align.by_name.wrappers import unwrap
from ckptaudit.graph import LayerGraph, TensorSpec
from ckptaudit.graph.names import parent
from ckptaudit.identification.signature import Signature, counts, is_kernel, pieces, signature
from ckptaudit.records import dataclass, field

#: A part has at least this share of the file's tensors, and this many.
_MIN_SHARE, _MIN_TENSORS = 0.15, 8
#: No more parts than this are looked at, the largest first; none lies deeper.
_MAX_PARTS, _MAX_DEPTH = 12, 8


@dataclass(eq=False)
class Part:
    """The tensors below one module.

    Attributes
    ----------
    prefixes:
        Paths that all of them share, the outermost first: nested modules with nothing beside each other. Wrapper segments are left out.
    named:
        Name without wrapper segments → tensor, in the file's order.
    telling:
        Those of them that say something of the architecture: see :func:`ckptaudit.identification.signature.counts`.
    """

    prefixes: tuple[str, ...]
    named: dict[str, TensorSpec] = field(default_factory=dict)
    telling: list[TensorSpec] = field(default_factory=list)

    @cached_property
    def sequence(self) -> list[Signature]:
        """The signature of each telling tensor, in order."""
        return [signature(spec.shape) for spec in self.telling]

    @cached_property
    def pieces(self) -> Counter[Signature]:
        """How often each signature occurs, once what may be fused is taken apart."""
        return Counter(chain.from_iterable(pieces(self.sequence)))

    @cached_property
    def below(self) -> dict[str, dict[str, TensorSpec]]:
        """For each prefix the tensors by their names relative to it."""
        return {prefix: {name[len(prefix) + 1 if prefix else 0 :]: spec for name, spec in self.named.items()} for prefix in self.prefixes}


def parts_of(graph: LayerGraph, kernels: bool = False) -> list[Part]:
    """The whole first, then modules by size; with ``kernels`` vectors tell nothing."""
    named = {unwrap(spec.name)[0]: spec for spec in graph}
    telling = {
        name: None for name, spec in named.items() if counts(spec) and (not kernels or is_kernel(spec))
    }  # in the file's order: among equal parts the first is taken
    ancestors = {name: _ancestors(name) for name in named}
    sizes = Counter(path for name in telling for path in ancestors[name])
    enough = max(_MIN_TENSORS, _MIN_SHARE * len(telling))
    chains: dict[str, list[str]] = {"": [""]}
    home = {"": ""}
    for path in sorted((path for path, size in sizes.items() if size >= enough), key=lambda path: path.count(".") + path.count("/")):
        above = parent(path)
        outer = home.get(above, "")
        if sizes[path] == (sizes[above] if above else len(telling)):
            chains[outer].append(path)
            home[path] = outer
        else:
            chains[path] = [path]
            home[path] = path
    kept = ["", *sorted((path for path in chains if path), key=lambda path: -sizes[path])][:_MAX_PARTS]
    parts = {path: Part(tuple(chains[path])) for path in kept}
    for name, spec in named.items():
        for path in ("", *ancestors[name]):
            if path in parts:
                parts[path].named[name] = spec
                if name in telling:
                    parts[path].telling.append(spec)
    return list(parts.values())


def _ancestors(name: str) -> list[str]:
    """Paths of the modules that hold ``name``, the outermost first."""
    paths: list[str] = []
    position = -1
    for _ in range(_MAX_DEPTH):
        ends = [end for end in (name.find(".", position + 1), name.find("/", position + 1)) if end >= 0]
        if not ends:
            break
        position = min(ends)
        paths.append(name[:position])
    return paths
