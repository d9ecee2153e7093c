"""The fixture ``assert_restores`` for pytest: a released checkpoint still fits the model as the code is now."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from ckptaudit.pipeline import Audit


class AssertRestores(Protocol):
    """What the fixture is."""

    def __call__(
        self,
        checkpoint: str | os.PathLike[str],
        model: Any,
        *,
        intent: Any = "eval",
        allow_missing: Sequence[str] = (),
        min_coverage: float | None = None,
        branch: str | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> Audit:
        """Audit, and fail the test with the short report unless the checkpoint serves the intent; the model is only looked at."""


@pytest.fixture(scope="session")
def assert_restores() -> AssertRestores:
    """``assert_restores(checkpoint, model)``: the test fails, with the reasons, unless the checkpoint fits the model.

    ``model`` is a live model or the name of an architecture; the keywords are those of :func:`ckptaudit.load`, and ``arguments`` for
    an architecture.
    """

    def check(
        checkpoint: str | os.PathLike[str],
        model: Any,
        *,
        intent: Any = "eval",
        allow_missing: Sequence[str] = (),
        min_coverage: float | None = None,
        branch: str | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> Audit:
        __tracebackhide__ = True
        from ckptaudit.errors import CkptAuditError
        from ckptaudit.pipeline import audit
        from ckptaudit.restore.demand import Demand

        demand = Demand.of(intent, allow_missing, min_coverage)
        try:
            found = audit(checkpoint, model, arguments=arguments, intent=intent, branch=branch, allow_missing=allow_missing)
            demand.check(found)
        except CkptAuditError as error:
            pytest.fail(str(error), pytrace=False)
        return found

    return check
