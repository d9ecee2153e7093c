"""Render an audit or a checkpoint. One module per output, named as ``--format`` names it; renderers only render.

A renderer is a module of this package, its name without a leading underscore, with ``render_audit(audit, options)`` and
``render_checkpoint(checkpoint, options)`` that return text.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckptaudit.pipeline import Audit
    from ckptaudit.read import Checkpoint


@dataclass(frozen=True, slots=True)
class Options:
    """How to render.

    Attributes
    ----------
    verbose:
        Show every name instead of folded patterns.
    quiet:
        The diagnosis alone.
    color:
        Whether escape sequences for colours may be used.
    width:
        Columns of the output.
    """

    verbose: bool = False
    quiet: bool = False
    color: bool = False
    width: int = 80


def formats() -> tuple[str, ...]:
    """The names that ``--format`` takes; found without importing the renderers."""
    return tuple(sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_")))


def render_audit(audit: Audit, output_format: str, options: Options | None = None) -> str:
    """The audit as text in the given format, with a closing newline."""
    return str(importlib.import_module(f"{__name__}.{output_format}").render_audit(audit, options or Options()))


def render_checkpoint(checkpoint: Checkpoint, output_format: str, options: Options | None = None) -> str:
    """What a checkpoint holds, as text in the given format, with a closing newline."""
    return str(importlib.import_module(f"{__name__}.{output_format}").render_checkpoint(checkpoint, options or Options()))
