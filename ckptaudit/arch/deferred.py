"""Put off imports that a library makes for functions which describing a model never calls."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


@contextmanager
def deferred(*names: str) -> Iterator[None]:
    """While the block imports something, let functions of the modules ``names`` import their module when they are called.

    torchvision takes one function from ``torch._dynamo.utils``, which brings in the whole compiler: half of the time of
    ``import torchvision``, for something that only ``roi_align`` asks at run time. What was taken from a stand-in keeps
    working afterwards, since calling it calls the real function. Modules that are imported already are left alone, and
    nothing of the stand-ins stays in ``sys.modules``.
    """
    stand_ins: dict[str, ModuleType] = {}
    for name in names:
        if name not in sys.modules:
            stand_ins[name] = _StandIn(name, stand_ins)
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        _withdraw(stand_ins)


def _withdraw(stand_ins: dict[str, ModuleType]) -> None:
    for name, module in stand_ins.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]


class _StandIn(ModuleType):
    """A module whose every attribute is a function that calls the real one."""

    def __init__(self, name: str, all_stand_ins: dict[str, ModuleType]) -> None:
        super().__init__(name)
        self.__path__: list[str] = []  # a package, so that submodules can be named
        self.__spec__ = ModuleSpec(name, None, is_package=True)
        self._all = all_stand_ins

    def __getattr__(self, attribute: str) -> Callable[..., Any]:
        if attribute.startswith("__"):
            raise AttributeError(attribute)

        def call(*arguments: Any, **keywords: Any) -> Any:
            _withdraw(self._all)
            return getattr(importlib.import_module(self.__name__), attribute)(*arguments, **keywords)

        return call
