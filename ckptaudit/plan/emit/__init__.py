"""A plan as code that others run without ckptaudit. One module per form, named as ``--emit`` names it (with ``-`` for ``_``).

An emitter is a module of this package, its name without a leading underscore, with ``emit(plan)`` that returns Python source, or
raises PlanError where the form cannot say what the plan does.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from ckptaudit.plan.applying import refuse_ambiguous

if TYPE_CHECKING:
    from ckptaudit.plan.plan import Plan


def forms() -> tuple[str, ...]:
    """The names that ``--emit`` takes; found without importing the emitters."""
    return tuple(sorted(found.name.replace("_", "-") for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_")))


def emit(plan: Plan, form: str) -> str:
    """The plan as Python source in one of :func:`forms`.

    Raises
    ------
    PlanError
        The plan is ambiguous, or the form cannot say what it does.
    """
    refuse_ambiguous(plan, False)
    return str(importlib.import_module(f"{__name__}.{form.replace('-', '_')}").emit(plan))
