"""Architecture sources: libraries that build models by name. One module each; a new source is a new file here.

A module in this package, or the target of an entry point of the group ``ckptaudit.arch_sources``, is a :class:`Source`: its name is
the prefix in ``torchvision:resnet50``. It imports nothing heavy by itself; the library is imported when names or a model are asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast

from ckptaudit.arch.failures import describe_error
from ckptaudit.errors import ArchitectureError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ckptaudit.arch.model import Model

ENTRY_POINT_GROUP = "ckptaudit.arch_sources"


class Source(Protocol):
    """What a module of this package offers."""

    #: Its turn among those that are asked for a name without prefix; the lowest is asked first, and with None it is not asked.
    RANK: int | None
    #: The distribution that defines its architectures: its version is looked up without importing it.
    LIBRARY: str
    #: Other distributions whose version decides what it builds.
    BUILT_ON: tuple[str, ...]
    #: Arguments that ask for weights, and that mean nothing when they are None or False.
    WEIGHTS: tuple[str, ...]
    #: The arguments for the number of classes and for that of input channels; None where there is none that all builders know.
    CLASSES: str | None
    CHANNELS: str | None

    def names(self) -> Collection[str]:
        """Every architecture that it builds. Raises MissingLibraryError when its library is not installed."""

    def build(self, name: str, arguments: Mapping[str, Any]) -> Model:
        """Build one of them; ``Model.arch`` is the bare name. Raises ArchitectureError."""

    def relatives(self, name: str, arguments: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
        """Names and arguments of what a file could hold instead, the most likely first."""

    # Three more may be there. ``files(name)``: files that the architecture is read from. ``is_foreign(name)``: whether a program has
    # registered it with the library, so that another process may mean something else by it. ``is_configured()``: whether the user's
    # settings of the library make it build otherwise than the catalogue tells.


def find(prefix: str) -> Source | None:
    """Find one source by its name, wherever it comes from; None where there is none.

    Raises
    ------
    ArchitectureError
        An installed package offers it, and cannot be imported.
    """
    return built_in().get(prefix) or third_party(prefix).get(prefix)


@cache
def built_in() -> dict[str, Source]:
    """Find the sources of this package by name, in the order in which they are asked."""
    found = {
        info.name: cast("Source", importlib.import_module(f"{__name__}.{info.name}"))
        for info in pkgutil.iter_modules(__path__)
        if not info.name.startswith("_")
    }
    return dict(sorted(found.items(), key=lambda item: (item[1].RANK is None, item[1].RANK or 0, item[0])))


def third_party(only: str | None = None) -> dict[str, Source]:
    """Find the sources that installed packages offer, by the names of their entry points; ``only`` this one, where it is known.

    Raises
    ------
    ArchitectureError
        One of them cannot be imported.
    """
    from importlib.metadata import entry_points

    found: dict[str, Source] = {}
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        if only is not None and point.name != only:
            continue
        try:
            found[point.name] = point.load()
        except Exception as error:
            raise ArchitectureError(
                f"the architecture source {point.name!r} ({point.value}) cannot be imported: {describe_error(error)}"
            ) from error
    return found
