"""Optional libraries: imported where they are needed, and named with their install command where they are missing."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from ckptaudit.arch.deferred import deferred
from ckptaudit.arch.failures import describe_error
from ckptaudit.errors import ArchitectureError
from ckptaudit.lazily import compiled_when_used

#: Libraries that a user's own code may import, and the extras that install them.
EXTRAS: Mapping[str, str] = MappingProxyType(
    {
        "torch": "torch",
        "torchvision": "torch",
        "timm": "timm",
        "segmentation_models_pytorch": "smp",
        "transformers": "transformers",
        "keras": "keras",
    }
)

#: The folder of a distribution's metadata, as pip names it.
_DISTRIBUTION = compiled_when_used(r"([^-]+)-([^-]+)\.(?:dist|egg)-info")

#: Only compiling a model needs them, and they take as long to import as the rest of torch.
_COMPILER = ("torch._dynamo", "torch._dynamo.utils")


class MissingLibraryError(ArchitectureError):
    """A library that an architecture needs is not installed."""


def missing_library(module: str, extra: str) -> MissingLibraryError:
    """Say how to get a library that the extra ``extra`` of this package installs."""
    return MissingLibraryError(f"{module} is not installed; run: pip install 'ckptaudit[{extra}]'")


def is_installed(module: str) -> bool:
    """Whether a top-level module could be imported; it is not."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # an import hook that refuses it, or a module without a spec
        return False


def installed_version(library: str) -> str | None:
    """The version of a library whose distribution is called like its module; None where it is not installed.

    Read off the name of the folder that pip leaves beside the library: importing ``importlib.metadata`` takes longer than that.
    """
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 (names are all that is needed of some hundred files)
        except OSError:
            continue
        for name in names:
            if name.endswith("-info") and (found := _DISTRIBUTION.match(name)) and found[1].replace("-", "_").lower() == library:
                return found[2]
    if not is_installed(library):
        return None
    from importlib.metadata import PackageNotFoundError, version  # installed in a way of its own

    try:
        return version(library)
    except PackageNotFoundError:
        return None


def import_library(module: str, extra: str) -> Any:
    """Import ``module``, which the extra ``extra`` of this package installs.

    Raises
    ------
    MissingLibraryError
        It is not installed; the message says how to get it.
    ArchitectureError
        It is installed, but cannot be imported.
    """
    try:
        with warnings.catch_warnings(), deferred(*_COMPILER):
            warnings.simplefilter("ignore")  # an optional part of the library that does not work is none of our business
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A library may be there without torch, which its users choose themselves.
        if error.name not in (module.partition(".")[0], "torch", "torchvision"):
            raise ArchitectureError(f"{module} cannot be imported: {describe_error(error)}") from error
        raise missing_library(error.name, extra) from error
    except Exception as error:  # a broken installation raises anything (OSError: libcudart.so …)
        raise ArchitectureError(f"{module} cannot be imported: {describe_error(error)}") from error
