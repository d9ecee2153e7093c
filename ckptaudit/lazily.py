"""What is loaded, or compiled, when it is first used: all of it together takes longer than many a command."""

from __future__ import annotations

import importlib
import sys

from ckptaudit.garbage import collector_paused

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping
    from typing import Any, AnyStr


def loaded_when_used(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of ``package``, whose public names stand in these modules of it; none of them has the name of such a module.

    The garbage collector pauses meanwhile: what is made stays, and in a program that has a framework loaded each of its passes walks
    all of that again.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with collector_paused():
            value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return load


def compiled_when_used(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """``re.compile(pattern, flags)``, at the first call of one of its methods; only these it has."""
    return _Expression(pattern, flags)  # type: ignore[return-value]


class _Expression:
    def __init__(self, pattern: Any, flags: int) -> None:
        self._given = pattern, flags

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # of one that is being copied, and has nothing yet
            raise AttributeError(name)
        import re

        compiled = re.compile(*self._given)
        for method in ("match", "search", "fullmatch", "sub", "subn", "split", "findall", "finditer"):
            setattr(self, method, getattr(compiled, method))  # from now on they are found without coming here
        return getattr(compiled, name)
