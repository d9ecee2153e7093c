"""The index that ships with the package: which signatures each architecture of the catalogue has, and how often.

One file, made from the catalogue by ``tools/make_index.py``: a magic line and JSON compressed with zlib, the catalogue's checksum in it.
Architectures with the same signatures are one *class*; within a class those whose tensors have the same names are one *group*: the same
state dict. What depends on the number of classes is left out of the signatures, so that another head changes nothing.
"""

from __future__ import annotations

import json
import math
import zlib
from collections import Counter
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.catalogue import shipped as shipped_catalogue
from ckptaudit.arch.sources import built_in
from ckptaudit.identification.signature import Signature, counts, is_kernel, pieces, signature
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ckptaudit.arch.catalogue import Catalogue
    from ckptaudit.graph import LayerGraph, TensorSpec

MAGIC = b"ckptaudit-index/1\n"
#: Another number of classes, prime and unlike any width, so that what depends on it shows.
OTHER_CLASSES = 1009


@dataclass(frozen=True, eq=False)
class Entry:
    """One architecture of the catalogue, with the arguments beside the number of classes.

    Attributes
    ----------
    source, name, arguments:
        As :meth:`ckptaudit.arch.catalogue.Catalogue.model` takes them.
    classes:
        Its own number of classes; None where it has none, or is held with that one alone.
    """

    source: str
    name: str
    arguments: Mapping[str, Any]
    classes: int | None


@dataclass(frozen=True, eq=False)
class Template:
    """The tensors of an entry: those that every build has, and those that depend on the number of classes.

    Attributes
    ----------
    graph:
        Built for its own number of classes.
    fixed:
        By name, those that count (see :func:`ckptaudit.identification.signature.counts`).
    varying:
        Each as it is with its own number of classes, and its shape with ``OTHER_CLASSES``.
    """

    graph: LayerGraph
    fixed: Mapping[str, TensorSpec]
    varying: tuple[tuple[TensorSpec, tuple[int, ...]], ...]

    @classmethod
    def of(cls, entry: Entry, catalogue: Catalogue) -> Template:
        """Read an entry from the catalogue."""
        graph = _built(entry, catalogue, {})
        other = graph if entry.classes is None else _built(entry, catalogue, {str(classes_of(entry.source)): OTHER_CLASSES})
        pairs = zip(graph, other, strict=True)
        varying = tuple((spec, twin.shape) for spec, twin in pairs if spec.shape != twin.shape)
        depends = {spec.name for spec, _ in varying}
        return cls(graph, {spec.name: spec for spec in graph if counts(spec) and spec.name not in depends}, varying)

    def kernels_alone(self) -> Template:
        """The same without vectors among what every build has, and among what depends on the number of classes."""
        varying = tuple((spec, shape) for spec, shape in self.varying if is_kernel(spec))
        return Template(self.graph, {name: spec for name, spec in self.fixed.items() if is_kernel(spec)}, varying)

    @cached_property
    def sequence(self) -> list[Signature]:
        """The signature of each fixed tensor, in order."""
        return [signature(spec.shape) for spec in self.fixed.values()]

    @cached_property
    def pieces(self) -> Counter[Signature]:
        """How often each signature occurs, once what may be fused is taken apart."""
        return Counter(chain.from_iterable(pieces(self.sequence)))


def classes_of(source: str) -> str | None:
    """The argument for the number of classes, as builders of a source call it."""
    return built_in()[source].CLASSES


def channels_of(source: str) -> str | None:
    """The argument for the number of input channels."""
    return built_in()[source].CHANNELS


def _built(entry: Entry, catalogue: Catalogue, more: Mapping[str, Any]) -> LayerGraph:
    model = catalogue.model(entry.source, entry.name, {**entry.arguments, **more})
    if model is None:
        raise LookupError(f"the index was made from another catalogue: {entry.source}:{entry.name} is not held")
    return model.graph


@cache
def kernels_alone() -> Index:
    """The same index without vectors, for files in which those of BatchNorm layers are worked into others."""
    return Index(Path(__file__).with_name("index.bin").read_bytes(), kernels=True)


@cache
def shipped() -> Index:
    """The index of this installation."""
    return Index(Path(__file__).with_name("index.bin").read_bytes())


class Index:
    """An open index; ``data`` is the whole file.

    Attributes
    ----------
    classes:
        For each class its groups, for each group its entries.
    weights:
        What an occurrence of each signature is worth, in nats: the rarer, the more. Inverse document frequency (Spärck Jones 1972).
    unknown:
        What one is worth that no architecture has.
    catalogue:
        CRC-32 of the catalogue that it was made from.
    totals:
        What all signatures of each class are worth together.
    kernels:
        Vectors are left out.
    """

    def __init__(self, data: bytes, kernels: bool = False) -> None:
        self.kernels = kernels
        content = json.loads(zlib.decompress(data[len(MAGIC) :]))
        self.catalogue: int = content["catalogue"]
        self.classes: list[list[list[Entry]]] = [
            [[Entry(source, name, MappingProxyType(arguments), own) for source, name, arguments, own in group] for group in groups]
            for groups in content["classes"]
        ]
        #: Signature → pairs of a class and how often it has it, flattened.
        self._postings: dict[Signature, list[int]] = {
            tuple(key): pairs for key, pairs in content["postings"] if not kernels or len(key) > 1
        }
        number = len(self.classes)
        self.weights = {key: math.log1p(2 * number / len(pairs)) for key, pairs in self._postings.items()}
        self.unknown = math.log1p(number)
        self.totals = [0.0] * number
        for key, pairs in self._postings.items():
            weight = self.weights[key]
            for position in range(0, len(pairs), 2):
                self.totals[pairs[position]] += weight * pairs[position + 1]

    def weigh(self, signatures: Mapping[Signature, int]) -> float:
        """What all of these are worth together."""
        return sum(self.weights.get(key, self.unknown) * number for key, number in signatures.items())

    def shared(self, signatures: Mapping[Signature, int]) -> dict[int, float]:
        """What each class has in common with these; classes with nothing in common are left out."""
        found: dict[int, float] = {}
        for key, number in signatures.items():
            pairs = self._postings.get(key)
            if pairs is None:
                continue
            weight = self.weights[key]
            for position in range(0, len(pairs), 2):
                held = pairs[position + 1]
                known = pairs[position]
                found[known] = found.get(known, 0.0) + weight * (number if number < held else held)
        return found

    def first_source(self, name: str) -> str:
        """The source that answers to a name without prefix: the catalogue lists them in the order in which they are asked."""
        return next(source for source in shipped_catalogue().versions if name in shipped_catalogue().names(source))


def build_index(catalogue: Catalogue) -> bytes:
    """The index of a catalogue, as it stands in the file."""
    classes: dict[tuple[tuple[Signature, int], ...], dict[tuple[object, ...], list[Entry]]] = {}
    for entry in _entries(catalogue):
        template = Template.of(entry, catalogue)
        other = {spec.name: shape for spec, shape in template.varying}
        key = tuple(sorted(template.pieces.items()))
        state_dict = tuple((spec.name, other.get(spec.name, spec.shape)) for spec in template.graph)
        classes.setdefault(key, {}).setdefault(state_dict, []).append(entry)
    postings: dict[Signature, list[int]] = {}
    for position, key in enumerate(classes):
        for one, number in key:
            postings.setdefault(one, []).extend((position, number))
    content = {
        "catalogue": zlib.crc32(catalogue.data),
        "classes": [
            [[[entry.source, entry.name, dict(entry.arguments), entry.classes] for entry in group] for group in groups.values()]
            for groups in classes.values()
        ],
        "postings": sorted(postings.items()),
    }
    return MAGIC + zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 9)


def _entries(catalogue: Catalogue) -> Iterator[Entry]:
    for source in catalogue.versions:
        for name in catalogue.names(source):
            variants = [
                Entry(source, name, given, symbolic.get(str(classes_of(source)))) for given, symbolic in catalogue.variants(source, name)
            ]
            # What an architecture is without its head is found as that architecture: a head is not asked for.
            yield from (entry for entry in variants if entry.classes is not None or variants[0].classes is None)
