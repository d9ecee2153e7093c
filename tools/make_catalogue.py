"""Make ``ckptaudit/arch/catalogue.bin``: build every architecture of the installed libraries and write their specs down.

    python tools/make_catalogue.py [SOURCE ...] [--only REGEX] [-o FILE]

With names of sources, those alone are built, and what the file holds of the others is kept; their libraries must have the versions that
it was made from. ``keras`` needs a backend on which it builds all of its models: ``KERAS_BACKEND=jax``, since NASNetMobile refuses torch.

Each architecture is built with its own number of classes and input channels, and with others; what differs is written as a function of
these numbers. What the reader gives back is compared with the build before anything is written. Takes about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import ast
import json
import lzma
import platform
import re
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ckptaudit.arch import Model, sources
from ckptaudit.arch.catalogue import MAGIC, SEPARATORS, Catalogue
from ckptaudit.arch.keras_build import import_keras
from ckptaudit.errors import ArchitectureError
from ckptaudit.graph import Module
from ckptaudit.graph.names import parent

#: Another number of classes, and one of input channels: prime and unlike any width, so that what depends on them shows.
OTHER_CLASSES, OTHER_CHANNELS = 1009, 1013
#: Arguments beside the number of classes that are held, where a builder takes them: the ones that every user of these families, or of
#: all families of a source, passes.
VARIANTS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "torchvision.models.segmentation": ({"aux_loss": True}, {"aux_loss": False}),
    "keras": ({"include_top": False},),
}
SOURCES = ("torchvision", "timm", "keras")


TARGET = Path(__file__).parent.parent / "ckptaudit" / "arch" / "catalogue.bin"


class NotExpressibleError(Exception):
    """An architecture that the catalogue's form cannot hold; it is left to a live build."""


class Block:
    """The architectures of one family; equal subtrees are held once."""

    def __init__(self) -> None:
        self.architectures: dict[str, dict[str, Any]] = {}
        self.framework = ""
        self._tables: dict[str, dict[str, int]] = {key: {} for key in ("nodes", "types", "attributes", "dtypes", "sources")}

    def add(self, table: str, value: Any) -> int:
        """Position of ``value`` in a table, where it is put if it is new."""
        entries = self._tables[table]
        return entries.setdefault(json.dumps(value, separators=(",", ":")), len(entries))

    def root(self, tree: Mapping[str, Any]) -> int:
        """Add a tree; its root's position."""
        children: list[Any] = []
        for name, child in tree["children"].items():
            children += [name, self.root(child)]
        own = [[name, shape, self.add("dtypes", dtype), int(buffer)] for name, shape, dtype, buffer in tree["own"]]
        origin = tree["origin"] and [self.add("sources", tree["origin"][0]), tree["origin"][1]]
        return self.add("nodes", [self.add("types", tree["type"]), self.add("attributes", tree["attributes"]), origin, own, children])

    def packed(self) -> bytes:
        """The block as it stands in the file."""
        content: dict[str, Any] = {key: [json.loads(entry) for entry in entries] for key, entries in self._tables.items()}
        content |= {"framework": self.framework, "architectures": self.architectures}
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
        return lzma.compress(json.dumps(content, separators=(",", ":")).encode(), lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=filters)


def tree_of(model: Model) -> tuple[dict[str, Any], list[int] | None]:
    """A model's modules as nested dictionaries, and where the state dict puts the tensors of a walk through them."""
    nodes: dict[str, dict[str, Any]] = {}
    for path, module in model.graph.modules.items():
        node = nodes[path] = {**_described(module), "own": [], "children": {}}
        if path:
            above, name = _owner(path, nodes)
            above["children"][name] = node
    for spec in model.graph:
        above, name = _owner(spec.name, nodes)
        above["own"].append((name, list(spec.shape), spec.dtype, spec.buffer))
    walked = list(_walk("", nodes[""], SEPARATORS.get(model.graph.framework, ".")))
    names = list(model.graph.tensors)
    if walked == names:
        return nodes[""], None
    position = {name: index for index, name in enumerate(walked)}
    return nodes[""], [position[name] for name in names]


def _owner(name: str, nodes: Mapping[str, Any]) -> tuple[Any, str]:
    """The nearest module above a name, and what remains of the name below it: Keras has paths of which not every part is a layer."""
    above = parent(name)
    while above not in nodes:
        above = parent(above)
    return nodes[above], name[len(above) + 1 if above else 0 :]


def _described(module: Module) -> dict[str, Any]:
    origin = None if module.origin is None else [_relative(module.origin.path), module.origin.line]
    return {"type": module.type_name, "attributes": json.loads(json.dumps(dict(module.attributes))), "origin": origin}


def _relative(path: str) -> str:
    """A file's place among the installed packages, the same on every machine."""
    return path.replace("\\", "/").rpartition("site-packages/")[2]


def _walk(path: str, node: Mapping[str, Any], separator: str) -> Iterator[str]:
    prefix = f"{path}{separator}" if path else ""
    yield from (prefix + name for name, *_ in node["own"])
    for name, child in node["children"].items():
        yield from _walk(prefix + name, child, separator)


@dataclass(frozen=True)
class Other:
    """The same built with another ``number`` for one argument, which was ``own``."""

    built: Any
    own: int
    number: int


def with_symbols(one: Any, others: Mapping[str, Other]) -> Any:
    """Join builds: what is equal in all stays, a number that differs in one becomes a · number + b; anything else is not expressible."""
    differing = {key: other for key, other in others.items() if other.built != one or type(other.built) is not type(one)}
    if not differing:
        return one
    if isinstance(one, dict) and all(isinstance(o.built, dict) and list(o.built) == list(one) for o in differing.values()):
        return {key: with_symbols(one[key], {k: replace(o, built=o.built[key]) for k, o in differing.items()}) for key in one}
    if isinstance(one, list | tuple) and all(isinstance(o.built, list | tuple) and len(o.built) == len(one) for o in differing.values()):
        return [with_symbols(item, {k: replace(o, built=o.built[i]) for k, o in differing.items()}) for i, item in enumerate(one)]
    if len(differing) == 1:
        ((argument, other),) = differing.items()
        if type(one) is int and type(other.built) is int:
            factor, rest = divmod(other.built - one, other.number - other.own)
            if not rest and factor > 0:
                return {argument: [factor, one - factor * other.own]}
    raise NotExpressibleError(f"{one!r} and { ({key: other.built for key, other in differing.items()})!r}")


def own_number(one: Model, other: Model, number: int) -> int | None:
    """The number in ``one``, where ``other`` was built with ``number`` and differs; None where nothing does, or where it does not show.

    A size may be a multiple of it: one output for each class and anchor.
    """
    found = set()
    for spec in one.graph:
        twin = other.graph.tensors.get(spec.name)
        if twin is None or len(twin.shape) != len(spec.shape):
            raise NotExpressibleError(f"with {number} {spec.name} is another tensor")
        for a, b in zip(spec.shape, twin.shape, strict=True):
            factor, rest = divmod(b, number)
            if a != b and factor and not rest and not a % factor:
                found.add(a // factor)
    return found.pop() if len(found) == 1 else None


def variant(block: Block, build: Any, arguments: Mapping[str, Any], symbolic: Mapping[str, int]) -> tuple[dict[str, Any], list[Model]]:
    """One entry of an architecture's variants, and the models that it must reproduce.

    ``symbolic`` are the arguments that are tried with another number; that of the classes comes first and is the last to be given up.
    """
    one = build(arguments)
    tree, order = tree_of(one)
    block.framework = one.graph.framework
    others: dict[str, Other] = {}
    models = [one]
    for argument, number in symbolic.items():
        try:
            other = build({**arguments, argument: number})
            own = own_number(one, other, number)
            if own is None:
                continue
            tried = {**others, argument: Other(tree_of(other)[0], own, number)}
            with_symbols(tree_of(one)[0], tried)
        except ArchitectureError:
            continue
        except NotExpressibleError as error:
            print(f"  one {argument} only: {error}", file=sys.stderr)
            continue
        others = tried
        models.append(other)
    paths = {path: position for position, path in enumerate(_paths("", tree, SEPARATORS.get(one.graph.framework, ".")))}
    return {
        "arguments": dict(arguments),
        "symbolic": {argument: other.own for argument, other in others.items()},
        "root": block.root(with_symbols(tree, others)),
        "order": order,
        "feeds": [paths[path] for pair in one.graph.feeds for path in pair],
        "tied": [list(group) for group in one.graph.tied],
    }, models


def _paths(path: str, node: Mapping[str, Any], separator: str) -> Iterator[str]:
    yield path
    for name, child in node["children"].items():
        yield from _paths(f"{path}{separator}{name}" if path else name, child, separator)


def call_of(model: Model) -> dict[str, Any]:
    """The call that builds a model, taken apart."""
    call = ast.parse(model.call or "", mode="eval").body
    if not isinstance(call, ast.Call):
        raise NotExpressibleError(f"the call {model.call!r}")
    return {
        "function": ast.unparse(call.func),
        "positional": [ast.unparse(argument) for argument in call.args],
        "arguments": {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords},
    }


def check(catalogue: Catalogue, model: Model) -> None:
    """Hold what the reader gives back against what was built."""
    read = catalogue.model(model.source, model.arch, model.arguments)
    told = f"{model.source}:{model.arch} with {dict(model.arguments)}"
    if read is None:
        raise SystemExit(f"{told} is not found again")
    same = ("framework", "feeds", "tied")
    if list(read.graph) != list(model.graph) or any(getattr(read.graph, key) != getattr(model.graph, key) for key in same):
        raise SystemExit(f"{told} reads back differently")
    if (read.call, read.preprocessing) != (model.call, model.preprocessing):
        raise SystemExit(f"{told} reads back differently")
    modules = {path: replace(module, origin=None) for path, module in read.graph.modules.items()}
    if modules != {path: replace(module, origin=None) for path, module in model.graph.modules.items()}:
        raise SystemExit(f"{told}: its modules read back differently")


@dataclass(frozen=True)
class Packed:
    """A block as it stands in a file, and the names of its architectures."""

    source: str
    names: list[str]
    content: bytes


def kept(catalogue: Catalogue, source: str) -> Iterator[Packed]:
    """What a catalogue holds of one source, as it is."""
    inside: dict[int, list[str]] = {}
    for name, position in catalogue._index["names"][source].items():
        inside.setdefault(position, []).append(name)
    for position, names in inside.items():
        offset, length = catalogue._index["blocks"][position]
        start = catalogue._index["start"] + offset
        yield Packed(source, names, catalogue.data[start : start + length])


def written(blocks: list[Packed], versions: Mapping[str, str], made_with: Mapping[str, Mapping[str, str]]) -> bytes:
    """The whole file."""
    names: dict[str, dict[str, int]] = {}
    places, body = [], b""
    for position, block in enumerate(blocks):
        names.setdefault(block.source, {}).update(dict.fromkeys(block.names, position))
        places.append([len(body), len(block.content)])
        body += block.content
    ordered = {source: dict(sorted(found.items())) for source, found in names.items()}
    index = {"versions": versions, "made_with": made_with, "names": ordered, "blocks": places}
    packed = zlib.compress(json.dumps(index, separators=(",", ":")).encode(), 9)
    return MAGIC + len(packed).to_bytes(8, "little") + packed + body


def built(source_name: str, only: str) -> tuple[list[Packed], list[Model]]:
    """The blocks of one source, and every model that they must reproduce."""
    source: Any = sources.built_in()[source_name]
    symbolic = {argument: number for argument, number in ((source.CLASSES, OTHER_CLASSES), (source.CHANNELS, OTHER_CHANNELS)) if argument}
    blocks: dict[str, Block] = {}
    expected: list[Model] = []
    for name in sorted(source.names()):
        if not re.search(only, f"{source_name}:{name}"):
            continue
        started = time.monotonic()
        family = source.family(name)
        block = blocks.setdefault(family, Block())
        try:
            entry: dict[str, Any] = {"weights": list(source.WEIGHTS), "variants": []}
            models: list[Model] = []
            for arguments in ({}, *VARIANTS.get(family, VARIANTS.get(source_name, ()))):
                try:
                    held, found = variant(block, lambda given, n=name: source.build(n, given), arguments, symbolic)
                except ArchitectureError as error:
                    if not arguments:
                        raise
                    print(f"  {name}: not with {arguments}: {error}", file=sys.stderr)
                    continue
                entry["variants"].append(held)
                models += found
                if arguments and found[0].preprocessing != models[0].preprocessing:
                    held["preprocessing"] = None if found[0].preprocessing is None else found[0].preprocessing.to_json()
            entry["call"] = call_of(models[0])
            told = models[0].preprocessing
            entry["preprocessing"] = None if told is None else told.to_json()
        except (ArchitectureError, NotExpressibleError) as error:
            print(f"LEFT OUT {source_name}:{name}: {error}", file=sys.stderr)
            continue
        block.architectures[name] = entry
        expected += [replace(model, module=None, siblings=lambda: iter(())) for model in models]
        print(f"{source_name}:{name} {time.monotonic() - started:.1f} s", file=sys.stderr)
    return [Packed(source_name, list(block.architectures), block.packed()) for block in blocks.values() if block.architectures], expected


def made_with(source: Any) -> dict[str, str]:
    """What else had a say in the specs of a source: the libraries that it stands on, or Keras' backend."""
    told = {library: version(library) for library in source.BUILT_ON}
    if source.LIBRARY == "keras":
        backend = import_keras().backend.backend()
        told = {"backend": f"{backend} {version(backend)}"}
    return {"python": platform.python_version(), **told}


def main() -> None:
    """Build, write, read back."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help=f"build these anew, and keep the others (of {', '.join(SOURCES)})")
    parser.add_argument("--only", default="", help="regular expression that SOURCE:NAME must contain")
    parser.add_argument("-o", "--output", type=Path, default=TARGET)
    options = parser.parse_args()
    before = Catalogue(TARGET.read_bytes()) if options.sources else None
    blocks: list[Packed] = []
    versions: dict[str, str] = {}
    circumstances: dict[str, Mapping[str, str]] = {}
    expected: list[Model] = []
    for name in SOURCES:
        source: Any = sources.built_in()[name]
        versions[name] = version(source.LIBRARY).partition("+")[0]
        if before is not None and name not in options.sources:
            if before.versions[name] != versions[name]:
                raise SystemExit(
                    f"{name} {versions[name]} is installed, and the catalogue was made from {before.versions[name]}: build it anew"
                )
            blocks += kept(before, name)
            circumstances[name] = before._index["made_with"][name]
            continue
        found, models = built(name, options.only)
        blocks += found
        expected += models
        circumstances[name] = made_with(source)
    data = written(blocks, versions, circumstances)
    catalogue = Catalogue(data)
    for model in expected:
        check(catalogue, model)
    options.output.write_bytes(data)
    print(f"{sum(len(block.names) for block in blocks)} architectures in {len(data):,} bytes: {options.output}")


if __name__ == "__main__":
    main()
