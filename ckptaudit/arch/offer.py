"""What a source offers, from the cheapest place that has it: the shipped catalogue, then the library itself."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.catalogue import shipped
from ckptaudit.arch.libraries import MissingLibraryError

if TYPE_CHECKING:
    from ckptaudit.arch.model import Model
    from ckptaudit.arch.sources import Source


@dataclass(frozen=True, eq=False)
class Offer:
    """One source and how to ask it.

    The catalogue answers where the library is not installed, or installed in the very version that the catalogue was made from. Where
    another version is installed, that one is asked: what will be restored into is built by it.

    Attributes
    ----------
    prefix:
        What the source is called in ``torchvision:resnet50``.
    source:
        The source.
    fresh:
        Never ask the catalogue.
    """

    prefix: str
    source: Source
    fresh: bool = False

    @cached_property
    def _installed(self) -> str | None:
        """Version of the library, without importing it and without what stands behind a ``+``."""
        try:
            return version(self.source.LIBRARY).partition("+")[0]
        except PackageNotFoundError:
            return None

    @cached_property
    def _catalogued(self) -> str | None:
        return shipped().versions.get(self.prefix)

    @property
    def _from_catalogue(self) -> bool:
        if self.fresh or self._catalogued is None:
            return False
        return self._installed in (None, self._catalogued)

    def names(self) -> Collection[str]:
        """Every architecture that it offers.

        Raises
        ------
        MissingLibraryError
            The library is not installed, and the catalogue does not know it either.
        """
        return shipped().names(self.prefix) if self._from_catalogue else self.source.names()

    def knows(self, name: str) -> bool:
        """Whether there is such an architecture. A program that has imported the library may have registered more than it ships.

        Raises
        ------
        MissingLibraryError
            As :meth:`names`.
        """
        return name in self.names() or (self.source.LIBRARY in sys.modules and name in self.source.names())

    def model(self, name: str, arguments: Mapping[str, Any]) -> Model:
        """The model, built live where the catalogue does not have it with these arguments.

        Raises
        ------
        ArchitectureError
            See the source.
        """
        held = shipped().model(self.prefix, name, arguments) if self._from_catalogue else None
        if held is not None:
            return held
        try:
            model = self.source.build(name, arguments)
        except MissingLibraryError as error:
            if not self._from_catalogue:
                raise
            given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            raise MissingLibraryError(f"the catalogue has {self.prefix}:{name}, but not with {given}; {error}") from error
        if self.fresh or self._catalogued is None or self._catalogued == self._installed:
            return model
        told = f"built with {self.source.LIBRARY} {self._installed}, which is installed; the catalogue holds {self._catalogued}"
        return replace(model, remarks=(*model.remarks, told))

    def means(self, name: str, arguments: Mapping[str, Any], other: Model) -> bool:
        """Whether it is known, at no cost, that this source means by ``name`` exactly the tensors of ``other``."""
        held = shipped().model(self.prefix, name, arguments)
        return held is not None and list(held.graph) == list(other.graph)
