"""Optional libraries: imported where they are needed, and named with their install command where they are missing."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from ckptaudit.arch.deferred import deferred
from ckptaudit.arch.failures import describe_error
from ckptaudit.errors import ArchitectureError

#: Only compiling a model needs them, and they take as long to import as the rest of torch.
_COMPILER = ("torch._dynamo", "torch._dynamo.utils")


class MissingLibraryError(ArchitectureError):
    """A library that an architecture needs is not installed."""


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
        if error.name != module.partition(".")[0]:
            raise ArchitectureError(f"{module} cannot be imported: {describe_error(error)}") from error
        raise MissingLibraryError(f"{error.name} is not installed; run: pip install 'ckptaudit[{extra}]'") from error
    except Exception as error:  # a broken installation raises anything (OSError: libcudart.so …)
        raise ArchitectureError(f"{module} cannot be imported: {describe_error(error)}") from error
