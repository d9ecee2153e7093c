"""Specs of models that were built before, on disk: the second audit against an architecture imports no framework.

An entry is found by everything that decides what is built: the source, the name, the arguments, the versions of the libraries and where
they are installed, the content of files that the architecture is read from, and the version of what describes it. What is not known to
be decided by these is not kept: factories of the user, which may read anything, and libraries that are being developed where they lie.

An audit never fails because of the cache: what cannot be read is built again, and what cannot be written is not kept.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit._version import __version__
from ckptaudit.arch.spec import MalformedSpecError, from_document, to_document
from ckptaudit.errors import OutputError
from ckptaudit.files import write_file
from ckptaudit.records import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ckptaudit.arch.model import Model

SCHEMA = "ckptaudit.cache/2"

_PLAIN = (type(None), bool, int, float, str)


@dataclass(frozen=True)
class Key:
    """What decides a model: its fields as JSON text, the name of its entry."""

    text: str

    @property
    def file_name(self) -> str:
        """The entry's name below the cache's folder."""
        import hashlib

        return f"{hashlib.sha256(self.text.encode()).hexdigest()[:40]}.json"


@dataclass(frozen=True)
class Entry:
    """A kept model, and what its file could hold instead: names and arguments of its relatives, the closest first."""

    model: Model
    relatives: Sequence[tuple[str, Mapping[str, Any]]]


def folder() -> Path | None:
    """Where entries lie: ``CKPTAUDIT_CACHE_DIR``, or the user's cache folder; None where there is no home to put it in."""
    given = os.environ.get("CKPTAUDIT_CACHE_DIR")
    if given:
        return Path(given)
    try:
        import platformdirs

        return platformdirs.user_cache_path("ckptaudit", appauthor=False) / "specs"
    except (OSError, RuntimeError):  # no home folder
        return None


def key_of(source: str, name: str, arguments: Mapping[str, Any], libraries: Iterable[str], files: Iterable[Path] = ()) -> Key | None:
    """Make the key of a model; None where something that decides it cannot be told.

    Parameters
    ----------
    source, name, arguments:
        What is built.
    libraries:
        Distributions whose code builds it.
    files:
        Files that it is read from.
    """
    if os.environ.get("CKPTAUDIT_NO_CACHE"):
        return None
    import hashlib
    from importlib.metadata import PackageNotFoundError

    try:
        installed = [_installed(library) for library in libraries]
        contents = [[os.path.abspath(file), hashlib.sha256(file.read_bytes()).hexdigest()] for file in files]  # noqa: PTH100
    except (OSError, PackageNotFoundError):
        return None
    if None in installed or not _is_plain(arguments):
        return None
    fields = {
        "schema": SCHEMA,
        "ckptaudit": __version__,
        "source": source,
        "name": name,
        "arguments": repr(sorted(arguments.items())),
        "libraries": installed,
        "files": contents,
    }
    return Key(json.dumps(fields, separators=(",", ":")))


def get(key: Key | None, arguments: Mapping[str, Any]) -> Entry | None:
    """Find a model that was kept under ``key``; None where there is none, or none that can be read.

    Parameters
    ----------
    key:
        See :func:`key_of`.
    arguments:
        What the model is built with; the same as in the key, but as they were given.
    """
    content = _read(key)
    try:
        document = content["spec"]
        here = os.getcwd() + os.sep  # noqa: PTH109
        for module in document["modules"].values():
            if module["origin"] is not None:
                module["origin"]["path"] = module["origin"]["path"].removeprefix(here)
        model = replace(from_document(document), provenance="cache", arguments=dict(arguments), remarks=tuple(map(str, content["remarks"])))
        return Entry(model, tuple((str(name), dict(given)) for name, given in content["relatives"]))
    except (KeyError, TypeError, ValueError, AttributeError, OSError, MalformedSpecError):
        return None


def put(key: Key | None, entry: Entry) -> None:
    """Keep a model that was built just now; nothing happens where it cannot be."""
    document = to_document(entry.model)
    # The working directory of the next audit is another.
    for module in document["modules"].values():
        if module["origin"] is not None:
            module["origin"]["path"] = os.path.abspath(module["origin"]["path"])  # noqa: PTH100
    relatives = [[name, dict(given)] for name, given in entry.relatives if _is_plain(given)]
    _write(key, {"spec": document, "remarks": list(entry.model.remarks), "relatives": relatives})


def get_names(key: Key | None) -> list[str] | None:
    """Find the names that a source was known to offer."""
    names = _read(key).get("names")
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def put_names(key: Key | None, names: Iterable[str]) -> None:
    """Keep the names that a source offers."""
    _write(key, {"names": list(names)})


def entries() -> list[Path]:
    """Files of the cache, and of unfinished writes of processes that were killed."""
    where = folder()
    try:
        return sorted(path for path in where.iterdir() if path.name.endswith(".json") or ".json." in path.name) if where else []
    except OSError:
        return []


def clear() -> int:
    """Delete every entry; how many there were.

    Raises
    ------
    OutputError
        One of them cannot be deleted.
    """
    found = entries()
    for path in found:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{path} cannot be deleted: {error.strerror or error}") from None
    return len(found)


def _read(key: Key | None) -> Mapping[str, Any]:
    where = folder()
    if key is None or where is None:
        return MappingProxyType({})
    try:
        content = json.loads((where / key.file_name).read_bytes())
    except (OSError, ValueError, RecursionError):
        return MappingProxyType({})
    # The key is in the entry too: a file under a wrong name, or the same hash by chance, is none.
    return content if isinstance(content, dict) and content.get("key") == key.text else MappingProxyType({})


def _write(key: Key | None, content: Mapping[str, Any]) -> None:
    where = folder()
    if key is None or where is None:
        return
    try:
        where.mkdir(parents=True, exist_ok=True)
        # Under a temporary name first, and renamed: of several writers each writes a whole entry, and they are all the same.
        write_file(where / key.file_name, json.dumps({"key": key.text, **content}, separators=(",", ":"), default=repr), force=True)
    except (OSError, OutputError):
        return


def _installed(library: str) -> list[str] | None:
    """Name, version and place of a distribution, without importing it; None while it is being developed where it lies."""
    from importlib.metadata import distribution

    found = distribution(library)
    told = found.read_text("direct_url.json")
    if told is not None and json.loads(told).get("dir_info", {}).get("editable"):
        return None
    return [library, found.version, str(found.locate_file(""))]


def _is_plain(value: Any) -> bool:
    """Whether ``repr`` tells the value whole."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    return type(value) in _PLAIN
