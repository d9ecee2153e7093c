"""Render an audit or a checkpoint. One module per output, named as ``--format`` names it; renderers only render.

A renderer is a module of this package, its name without a leading underscore, with ``render_audits(entries, options)`` that returns
text. Where one audit alone has a form of its own, it has ``render_audit(audit, options)`` too; where a file alone can be shown,
``render_checkpoint(checkpoint, options)``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ckptaudit.lazily import loaded_when_used
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckptaudit.pipeline import Audit
    from ckptaudit.read import Checkpoint
    from ckptaudit.report._entries import Entry
    from ckptaudit.verdict import Bar

__all__ = ["CHECKPOINT_FORMATS", "Entry", "Options", "formats", "render_audit", "render_audits", "render_checkpoint"]

#: Formats with a ``render_checkpoint``, named here so that the command line need not import the renderers.
CHECKPOINT_FORMATS = ("json", "terminal")

__getattr__ = loaded_when_used(__name__, {"Entry": "_entries"})


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
    fail_on:
        The verdict from which on an audit does not pass; without one, it passes where it is fit for its intent.
    """

    verbose: bool = False
    quiet: bool = False
    color: bool = False
    width: int = 80
    fail_on: Bar | None = None


def formats() -> tuple[str, ...]:
    """The names that ``--format`` takes; found without importing the renderers."""
    import pkgutil

    return tuple(sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_")))


def render_audit(audit: Audit, output_format: str, options: Options | None = None) -> str:
    """The audit as text in the given format, with a closing newline."""
    renderer, options = _renderer(output_format), options or Options()
    if hasattr(renderer, "render_audit"):
        return str(renderer.render_audit(audit, options))
    from ckptaudit.report._entries import Entry

    return render_audits([Entry.of(audit, options.fail_on)], output_format, options)


def render_audits(entries: Sequence[Entry], output_format: str, options: Options | None = None) -> str:
    """Several audits as one text in the given format, with a closing newline."""
    return str(_renderer(output_format).render_audits(entries, options or Options()))


def render_checkpoint(checkpoint: Checkpoint, output_format: str, options: Options | None = None) -> str:
    """What a checkpoint holds, as text in one of the :data:`CHECKPOINT_FORMATS`, with a closing newline."""
    return str(_renderer(output_format).render_checkpoint(checkpoint, options or Options()))


def _renderer(output_format: str) -> Any:
    return importlib.import_module(f"{__name__}.{output_format}")
