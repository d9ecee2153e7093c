"""Make ``ckptaudit/arch/catalogue.bin``: build every architecture of the installed libraries and write their specs down.

    python tools/make_catalogue.py [--only REGEX] [-o FILE]

Each architecture is built with its own number of classes and with another one; what differs is written as a function of the number
of classes. What the reader gives back is compared with the build before anything is written. Takes about half an hour on one core.
"""

from __future__ import annotations

import argparse
import ast
import json
import lzma
import re
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ckptaudit.arch import Model, sources
from ckptaudit.arch.catalogue import MAGIC, Catalogue
from ckptaudit.errors import ArchitectureError
from ckptaudit.graph import Module
from ckptaudit.graph.names import leaf, parent

#: Another number of classes, prime and unlike any width, so that what depends on it shows.
OTHER_CLASSES = 1009
#: Arguments beside the number of classes that are held, where a builder takes them: the ones that every user of these families passes.
VARIANTS: Mapping[str, tuple[Mapping[str, Any], ...]] = {"torchvision.models.segmentation": ({"aux_loss": True}, {"aux_loss": False})}
SOURCES = ("torchvision", "timm")


class NotExpressibleError(Exception):
    """An architecture that the catalogue's form cannot hold; it is left to a live build."""


class Block:
    """The architectures of one family; equal subtrees are held once."""

    def __init__(self) -> None:
        self.architectures: dict[str, dict[str, Any]] = {}
        self.framework = "torch"
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
            nodes[parent(path)]["children"][leaf(path)] = node
    for spec in model.graph:
        owner = nodes.get(parent(spec.name))
        if owner is None:
            raise NotExpressibleError(f"{spec.name} belongs to no module")
        owner["own"].append((leaf(spec.name), list(spec.shape), spec.dtype, spec.buffer))
    walked = list(_walk("", nodes[""]))
    names = list(model.graph.tensors)
    if walked == names:
        return nodes[""], None
    position = {name: index for index, name in enumerate(walked)}
    return nodes[""], [position[name] for name in names]


def _described(module: Module) -> dict[str, Any]:
    origin = None if module.origin is None else [_relative(module.origin.path), module.origin.line]
    return {"type": module.type_name, "attributes": json.loads(json.dumps(dict(module.attributes))), "origin": origin}


def _relative(path: str) -> str:
    """A file's place among the installed packages, the same on every machine."""
    return path.replace("\\", "/").rpartition("site-packages/")[2]


def _walk(path: str, node: Mapping[str, Any]) -> Iterator[str]:
    prefix = f"{path}." if path else ""
    yield from (prefix + name for name, *_ in node["own"])
    for name, child in node["children"].items():
        yield from _walk(prefix + name, child)


def with_symbols(one: Any, other: Any, classes: int) -> Any:
    """Join two builds: what is equal stays, numbers that differ become a · classes + b; anything else is not expressible."""
    if one == other and type(one) is type(other):
        return one
    if isinstance(one, dict) and isinstance(other, dict) and list(one) == list(other):
        return {key: with_symbols(one[key], other[key], classes) for key in one}
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [with_symbols(a, b, classes) for a, b in zip(one, other, strict=True)]
    if type(one) is int and type(other) is int:
        factor, rest = divmod(other - one, OTHER_CLASSES - classes)
        if not rest and factor > 0:
            return {"classes": [factor, one - factor * classes]}
    raise NotExpressibleError(f"{one!r} and {other!r} with {classes} and {OTHER_CLASSES} classes")


def class_count(one: Model, other: Model) -> int | None:
    """The number of classes of ``one``, where ``other`` was built with ``OTHER_CLASSES`` and differs; None where nothing does."""
    for spec in one.graph:
        twin = other.graph.tensors.get(spec.name)
        if twin is None or len(twin.shape) != len(spec.shape):
            raise NotExpressibleError(f"with another number of classes {spec.name} is another tensor")
        for a, b in zip(spec.shape, twin.shape, strict=True):
            if b == OTHER_CLASSES != a:
                return a
    return None


def variant(block: Block, build: Any, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], list[Model]]:
    """One entry of an architecture's variants, and the models that it must reproduce."""
    one = build(arguments)
    tree, order = tree_of(one)
    try:
        other = build({**arguments, "num_classes": OTHER_CLASSES})
    except ArchitectureError:
        other = None
    classes, models = None, [one]
    if other is not None:
        try:
            classes = class_count(one, other)
            if classes is not None:
                tree = with_symbols(tree, tree_of(other)[0], classes)
                models.append(other)
        except NotExpressibleError as error:
            classes = None
            print(f"  one number of classes only: {error}", file=sys.stderr)
    tied = [list(group) for group in one.graph.tied]
    held = {"arguments": dict(arguments), "classes": classes, "symbolic": classes is not None, "root": block.root(tree), "order": order}
    return {**held, "tied": tied}, models


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
    if list(read.graph) != list(model.graph) or read.graph.tied != model.graph.tied or read.call != model.call:
        raise SystemExit(f"{told} reads back differently")
    modules = {path: replace(module, origin=None) for path, module in read.graph.modules.items()}
    if modules != {path: replace(module, origin=None) for path, module in model.graph.modules.items()}:
        raise SystemExit(f"{told}: its modules read back differently")


def written(blocks: Mapping[tuple[str, str], Block], versions: Mapping[str, str]) -> bytes:
    """The whole file."""
    names: dict[str, dict[str, int]] = {}
    places, body = [], b""
    for position, ((source, _), block) in enumerate(blocks.items()):
        names.setdefault(source, {}).update(dict.fromkeys(block.architectures, position))
        packed = block.packed()
        places.append([len(body), len(packed)])
        body += packed
    ordered = {source: dict(sorted(found.items())) for source, found in names.items()}
    index = zlib.compress(json.dumps({"versions": versions, "names": ordered, "blocks": places}, separators=(",", ":")).encode(), 9)
    return MAGIC + len(index).to_bytes(8, "little") + index + body


def main() -> None:
    """Build, write, read back."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="regular expression that SOURCE:NAME must contain")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent.parent / "ckptaudit" / "arch" / "catalogue.bin")
    options = parser.parse_args()
    blocks: dict[tuple[str, str], Block] = {}
    versions: dict[str, str] = {}
    expected: list[Model] = []
    for source_name in SOURCES:
        source: Any = sources.built_in()[source_name]
        versions[source_name] = version(source.LIBRARY).partition("+")[0]
        for name in sorted(source.names()):
            if not re.search(options.only, f"{source_name}:{name}"):
                continue
            started = time.monotonic()
            family = source.family(name)
            block = blocks.setdefault((source_name, family), Block())
            try:
                entry: dict[str, Any] = {"weights": list(source.WEIGHTS), "variants": []}
                models: list[Model] = []
                for arguments in ({}, *VARIANTS.get(family, ())):
                    try:
                        held, built = variant(block, lambda given, n=name, s=source: s.build(n, given), arguments)
                    except ArchitectureError as error:
                        if not arguments:
                            raise
                        print(f"  {name}: not with {arguments}: {error}", file=sys.stderr)
                        continue
                    entry["variants"].append(held)
                    models += built
                entry["call"] = call_of(models[0])
                told = models[0].preprocessing
                entry["preprocessing"] = None if told is None else told.to_json()
            except (ArchitectureError, NotExpressibleError) as error:
                print(f"LEFT OUT {source_name}:{name}: {error}", file=sys.stderr)
                continue
            block.architectures[name] = entry
            expected += [replace(model, module=None, siblings=lambda: iter(())) for model in models]
            print(f"{source_name}:{name} {time.monotonic() - started:.1f} s", file=sys.stderr)
    data = written({key: block for key, block in blocks.items() if block.architectures}, versions)
    catalogue = Catalogue(data)
    for model in expected:
        check(catalogue, model)
    options.output.write_bytes(data)
    print(f"{len({(model.source, model.arch) for model in expected})} architectures in {len(data):,} bytes: {options.output}")


if __name__ == "__main__":
    main()
