"""What a source offers, from the cheapest place that has it: the shipped catalogue, the cache, then the library itself."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from ckptaudit.arch import cache
from ckptaudit.arch.catalogue import shipped
from ckptaudit.arch.libraries import MissingLibraryError, installed_version
from ckptaudit.arch.sources import built_in
from ckptaudit.arch.suggest import did_you_mean
from ckptaudit.errors import ArchitectureError
from ckptaudit.records import dataclass, replace

if TYPE_CHECKING:
    from ckptaudit.arch.model import Model
    from ckptaudit.arch.sources import Source

#: Relatives that are kept with an entry: a rule looks at half as many.
_MAX_RELATIVES = 16


@dataclass(frozen=True, eq=False)
class Offer:
    """One source and how to ask it.

    The cache answers where the same was built before with the same versions of everything, the catalogue where the library is not
    installed, or installed in the very version that the catalogue was made from. Where another version is installed, or the user has set
    it up in an unusual way, the library is asked: what will be restored into is built by it.

    Attributes
    ----------
    prefix:
        What the source is called in ``torchvision:resnet50``.
    source:
        The source.
    fresh:
        Ask neither cache nor catalogue for a model; what there is, they know.
    """

    prefix: str
    source: Source
    fresh: bool = False

    @cached_property
    def _installed(self) -> str | None:
        """Version of the library, without importing it and without what stands behind a ``+``."""
        found = installed_version(self.source.LIBRARY)
        return None if found is None else found.partition("+")[0]

    @cached_property
    def _catalogued(self) -> str | None:
        return shipped().versions.get(self.prefix)

    @property
    def _catalogue_holds(self) -> bool:
        """Whether the catalogue speaks for what is installed here."""
        return self._catalogued is not None and self._installed in (None, self._catalogued) and not self._is_configured

    @cached_property
    def _is_configured(self) -> bool:
        """Whether settings of the user's decide what is built; where the library is not installed, they decide nothing."""
        ask = getattr(self.source, "is_configured", None)
        return ask is not None and self._installed is not None and bool(ask())

    def names(self) -> Collection[str]:
        """Every architecture that it offers.

        Raises
        ------
        MissingLibraryError
            The library is not installed, and the catalogue does not know it either.
        """
        if self._catalogue_holds:
            return shipped().names(self.prefix)
        if self.source.LIBRARY in sys.modules:
            return self.source.names()
        key = self._key("", {})
        if (kept := cache.get_names(key)) is not None:
            return kept
        names = self.source.names()
        if isinstance(names, list):  # all that there are; transformers has more than can be listed
            cache.put_names(key, names)
        return names

    def knows(self, name: str) -> bool:
        """Whether there is such an architecture. A program that has imported the library may have registered more than it ships.

        Raises
        ------
        MissingLibraryError
            As :meth:`names`.
        """
        return name in self.names() or (self.source.LIBRARY in sys.modules and name in self.source.names())

    def model(self, name: str, arguments: Mapping[str, Any]) -> Model:
        """The model, built live where neither cache nor catalogue have it with these arguments.

        Raises
        ------
        ArchitectureError
            There is no such architecture, or it cannot be built: see the source.
        """
        foreign = self._is_foreign(name)
        held = shipped().model(self.prefix, name, arguments) if self._catalogue_holds and not self.fresh and not foreign else None
        if held is not None:
            return replace(held, siblings=lambda: map(self._in_full, held.siblings()))
        key = None if foreign else self._key(name, arguments)
        if not self.fresh and (entry := cache.get(key, arguments)) is not None:
            return replace(entry.model, siblings=lambda: self._siblings(entry.relatives, arguments))
        if not self.knows(name):
            raise ArchitectureError(f"{self.prefix} has no architecture named {name!r}{did_you_mean(name, self.names())}")
        model = self._built(name, arguments)
        relatives = [] if foreign else list(islice(self.source.relatives(name, arguments), _MAX_RELATIVES))
        cache.put(key, cache.Entry(model, relatives))
        return replace(model, siblings=lambda: self._siblings(relatives, arguments))

    def _built(self, name: str, arguments: Mapping[str, Any]) -> Model:
        try:
            model = self.source.build(name, arguments)
        except MissingLibraryError as error:
            if self.fresh or not self._catalogue_holds:
                raise
            given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            raise MissingLibraryError(f"the catalogue has {self.prefix}:{name}, but not with {given}; {error}") from error
        if self.fresh or self._catalogued is None or self._catalogued == self._installed:
            return model
        told = f"built with {self.source.LIBRARY} {self._installed}, which is installed; the catalogue holds {self._catalogued}"
        return replace(model, remarks=(*model.remarks, told))

    def _siblings(self, relatives: Iterable[tuple[str, Mapping[str, Any]]], own: Mapping[str, Any]) -> Iterator[Model]:
        """Make the architectures that a file could hold instead, each when it is asked for; those that cannot be built are left out.

        ``own`` are the arguments of the model that they are relatives of: what differs is part of their names.
        """
        for name, arguments in relatives:
            try:
                model = self.model(name, arguments)
            except ArchitectureError:
                continue
            differing = "&".join(f"{key}={value}" for key, value in arguments.items() if own.get(key) != value)
            yield self._in_full(replace(model, arch=f"{name}?{differing}") if differing else model)

    def _in_full(self, model: Model) -> Model:
        """The same model under a name that means this source, and no other, to everyone."""
        return model if self.prefix == next(iter(built_in())) else replace(model, arch=f"{self.prefix}:{model.arch}")

    def _key(self, name: str, arguments: Mapping[str, Any]) -> cache.Key | None:
        if self._is_configured:
            return None
        libraries = (self.source.LIBRARY, *self.source.BUILT_ON)
        files = getattr(self.source, "files", lambda _: ())(name)
        return cache.key_of(self.prefix, name, arguments, libraries, files)

    def _is_foreign(self, name: str) -> bool:
        """Whether this very program has registered the architecture: it is built live, and not kept for others."""
        ask = getattr(self.source, "is_foreign", None)
        imported = self._installed is not None and self.source.LIBRARY in sys.modules
        return ask is not None and imported and name in self.source.names() and bool(ask(name))

    def means(self, name: str, arguments: Mapping[str, Any], other: Model) -> bool:
        """Whether it is known, at no cost, that this source means by ``name`` exactly the tensors of ``other``."""
        held = shipped().model(self.prefix, name, arguments)
        return held is not None and list(held.graph) == list(other.graph)
