"""A callback for Lightning's ``Trainer``: what it restores is audited before training or evaluation begins.

Lightning is imported with this module, under whichever of its two names is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ckptaudit.restore.watch import Guard, guard
from ckptaudit.rules.comparison import Intent

if TYPE_CHECKING:
    from lightning.pytorch import Callback
else:
    try:
        from lightning.pytorch import Callback
    except ImportError:
        from pytorch_lightning import Callback


class RestoreGuard(Callback):
    """Guard the module from its setup until its first batch; see :func:`ckptaudit.guard` for the arguments.

    ``trainer.fit(…, ckpt_path=…)`` and its siblings then raise :class:`~ckptaudit.IncompatibleCheckpoint` where the checkpoint does
    not fit, also with ``strict_loading = False``. Without a ``ckpt_path`` only what the code loads by itself is audited.
    ``load_from_checkpoint`` builds its module without a trainer: put it in ``with ckptaudit.guard(TheModule):``.
    """

    def __init__(self, *, intent: Intent = "eval", allow_missing: Sequence[str] = (), min_coverage: float | None = None) -> None:
        self._demand: dict[str, Any] = {"intent": intent, "allow_missing": tuple(allow_missing), "min_coverage": min_coverage}
        self._guard: Guard | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Begin, before the trainer restores."""
        self._dismiss()
        self._guard = guard(pl_module, **self._demand)
        self._guard.__enter__()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Leave nothing behind where no batch was ever reached."""
        self._dismiss()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave nothing behind."""
        self._dismiss()

    def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
        """All is restored."""
        self._end(trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """All is restored."""
        self._end(trainer)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """All is restored."""
        self._end(trainer)

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """All is restored."""
        self._end(trainer)

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """All is restored."""
        self._end(trainer)

    def _end(self, trainer: Any) -> None:
        ended, self._guard = self._guard, None
        if ended is None:
            return
        if trainer.ckpt_path is None:
            ended.dismiss()
        else:
            ended.__exit__(None, None, None)

    def _dismiss(self) -> None:
        if self._guard is not None:
            self._guard.dismiss()
            self._guard = None
