"""The catalogue that ships with the package: the specs of published architectures, with no framework at hand.

One file, made by ``tools/make_catalogue.py``. A magic line; the length of the index (eight bytes, little-endian); the index, JSON
compressed with zlib; then one block for each family of architectures, JSON compressed with lzma, so that one architecture costs the
decoding of its family alone. A block holds the modules of all its architectures, equal subtrees once. A size that depends on a number
that the builder is given is written as ``{argument: [a, b]}``, which stands for a · number + b; such arguments are called symbolic.
"""

from __future__ import annotations

import json
import lzma
import zlib
from collections.abc import Collection, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ckptaudit.arch.arguments import format_call
from ckptaudit.arch.families import by_closeness
from ckptaudit.arch.model import Model
from ckptaudit.arch.preprocessing import Preprocessing
from ckptaudit.graph import LayerGraph, Module, Origin, TensorSpec
from ckptaudit.records import dataclass

MAGIC = b"ckptaudit-catalogue/2\n"
#: What stands between a module's path and the names below it, where it is no full stop.
SEPARATORS: Mapping[str, str] = {"keras": "/"}


@cache
def shipped() -> Catalogue:
    """The catalogue of this installation."""
    return Catalogue(Path(__file__).with_name("catalogue.bin").read_bytes())


@dataclass(frozen=True, eq=False)
class Catalogue:
    """An open catalogue; ``data`` is the whole file."""

    data: bytes

    @cached_property
    def _index(self) -> dict[str, Any]:
        start = len(MAGIC) + 8
        length = int.from_bytes(self.data[len(MAGIC) : start], "little")
        index: dict[str, Any] = json.loads(zlib.decompress(self.data[start : start + length]))
        index["start"] = start + length
        return index

    @property
    def versions(self) -> Mapping[str, str]:
        """Version of each library that the specs were taken from, by the name of the source."""
        versions: dict[str, str] = self._index["versions"]
        return versions

    def names(self, source: str) -> Collection[str]:
        """Every architecture that is known of a source, in its own order."""
        names: dict[str, int] = self._index["names"].get(source, {})
        return names.keys()

    def model(self, source: str, name: str, arguments: Mapping[str, Any]) -> Model | None:
        """The spec of one architecture; None where it is not held, or not with these arguments.

        Parameters
        ----------
        source:
            ``torchvision``, ``timm`` …
        name:
            Its bare name.
        arguments:
            As for the source's builder. Those that are symbolic, as the number of classes mostly is, may be any number; those that only
            say that no weights are wanted change nothing.
        """
        family = self._index["names"].get(source, {}).get(name)
        if family is None:
            return None
        block = self._block(family)
        entry = block["architectures"][name]
        given = {key: value for key, value in arguments.items() if not (key in entry["weights"] and value in (None, False))}
        found = next(((held, sizes) for held in entry["variants"] if (sizes := _sizes(held, given)) is not None), None)
        if found is None:
            return None
        variant, sizes = found
        call = entry["call"]
        graph = _graph(block, variant, sizes)
        preprocessing = variant.get("preprocessing", entry["preprocessing"])
        return Model(
            arch=name,
            source=source,
            graph=graph,
            provenance="catalogue",
            library_version=self.versions[source],
            arguments=dict(arguments),
            call=format_call(call["function"], {**call["arguments"], **given}, *call["positional"]),
            siblings=lambda: self._siblings(source, name, arguments),
            preprocessing=Preprocessing.from_json(preprocessing) if preprocessing else None,
        )

    def variants(self, source: str, name: str) -> Iterator[tuple[Mapping[str, Any], Mapping[str, int]]]:
        """With which arguments an architecture is held; with each the symbolic ones, and what they are where they are not given."""
        for variant in self._block(self._index["names"][source][name])["architectures"][name]["variants"]:
            yield variant["arguments"], variant["symbolic"]

    def call(self, source: str, name: str, arguments: Mapping[str, Any]) -> str:
        """The Python expression that builds one architecture, whatever the arguments."""
        call = self._block(self._index["names"][source][name])["architectures"][name]["call"]
        fixed = {key: value for key, value in call["arguments"].items() if key not in arguments}
        return format_call(call["function"], {**fixed, **arguments}, *call["positional"])

    def _siblings(self, source: str, name: str, arguments: Mapping[str, Any]) -> Iterator[Model]:
        names = self._index["names"][source]
        for relative in by_closeness(name, (other for other, family in names.items() if family == names[name])):
            model = self.model(source, relative, arguments)
            if model is not None:
                yield model

    def _block(self, family: int) -> dict[str, Any]:
        return _decoded(self, family)


@cache
def _decoded(catalogue: Catalogue, family: int) -> dict[str, Any]:
    offset, length = catalogue._index["blocks"][family]
    start = catalogue._index["start"] + offset
    block: dict[str, Any] = json.loads(lzma.decompress(catalogue.data[start : start + length]))
    return block


def _sizes(variant: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, int] | None:
    """The symbolic arguments' numbers where a variant is what is asked for; None where it is another one."""
    symbolic: Mapping[str, int] = variant["symbolic"]
    if variant["arguments"] != {key: value for key, value in given.items() if key not in symbolic}:
        return None
    numbers = {**symbolic, **{key: value for key, value in given.items() if key in symbolic}}
    return numbers if all(type(number) is int and number > 0 for number in numbers.values()) else None


def _graph(block: Mapping[str, Any], variant: Mapping[str, Any], sizes: Mapping[str, int]) -> LayerGraph:
    """Unfold the tree below a root, module by module in the order of the state dict."""
    nodes, types, attributes, dtypes, sources = (block[key] for key in ("nodes", "types", "attributes", "dtypes", "sources"))
    framework = block["framework"]
    separator = SEPARATORS.get(framework, ".")
    made: dict[int, Module] = {}
    tensors: list[TensorSpec] = []
    modules: dict[str, Module] = {}
    stack: list[tuple[str, int]] = [("", variant["root"])]
    while stack:
        path, index = stack.pop()
        kind, attribute, origin, own, children = nodes[index]
        if index not in made:
            where = Origin(sources[origin[0]], origin[1]) if origin else None
            made[index] = Module(types[kind], where, MappingProxyType({k: _filled(v, sizes) for k, v in attributes[attribute].items()}))
        modules[path] = made[index]
        prefix = f"{path}{separator}" if path else ""
        for name, shape, dtype, buffer in own:
            tensors.append(TensorSpec(prefix + name, tuple([_filled(size, sizes) for size in shape]), dtypes[dtype], bool(buffer)))
        # The stack gives back the last first.
        stack.extend((prefix + children[i], children[i + 1]) for i in range(len(children) - 2, -1, -2))
    if variant["order"] is not None:
        tensors = [tensors[position] for position in variant["order"]]
    paths = list(modules) if variant["feeds"] else []
    flow = iter(variant["feeds"])
    return LayerGraph.from_tensors(
        tensors,
        framework,
        modules=MappingProxyType(modules),
        feeds=tuple((paths[producer], paths[consumer]) for producer, consumer in zip(flow, flow, strict=True)),
        tied=tuple(map(tuple, variant["tied"])),
    )


def _filled(value: Any, sizes: Mapping[str, int]) -> Any:
    """Put the numbers in, and make lists the tuples that they were."""
    if isinstance(value, list):
        return tuple([_filled(item, sizes) for item in value])
    if isinstance(value, dict):
        ((argument, (factor, offset)),) = value.items()
        return factor * sizes[argument] + offset
    return value
