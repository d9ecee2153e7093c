"""Watch over a model while others restore it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ContextDecorator
from types import TracebackType
from typing import Any, Protocol

from ckptaudit.arch.live import is_keras_model
from ckptaudit.errors import UsageError
from ckptaudit.pipeline import Audit
from ckptaudit.restore.demand import Demand
from ckptaudit.rules.comparison import Intent


class Watch(Protocol):
    """What looks after the models of one framework during one block."""

    audits: list[Audit]

    def begin(self) -> None:
        """Start to look at loads."""

    def end(self) -> None:
        """Leave everything as it was."""

    def look_back(self) -> None:
        """Raise IncompatibleCheckpoint when the block ends and the model was not restored in it."""


class Guard(ContextDecorator):
    """The context manager behind :func:`guard`.

    Attributes
    ----------
    audits:
        One for each restore that was seen, in their order.
    """

    def __init__(self, model: Any, demand: Demand) -> None:
        self._model, self._demand = model, demand
        self._watch: Watch | None = None
        self.audits: list[Audit] = []

    def __enter__(self) -> Guard:
        if self._watch is not None:
            raise UsageError("this guard stands already: make another one for a block within its block")
        self._watch = _watch_of(self._model, self._demand)
        self.audits = self._watch.audits
        try:
            self._watch.begin()
        except BaseException:
            self.dismiss()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        watch = self._watch
        self.dismiss()
        if kind is None and watch is not None:
            watch.look_back()

    def dismiss(self) -> None:
        """End the watch without asking that anything was restored."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.end()

    def _recreate_cm(self) -> Guard:
        """Each call of a decorated function has a guard of its own, so that it may call itself or run in several threads."""
        return Guard(self._model, self._demand)


def guard(model: Any, *, intent: Intent = "eval", allow_missing: Sequence[str] = (), min_coverage: float | None = None) -> Guard:
    """Audit every restore of a model inside a ``with`` block or a decorated function, whoever does it.

    A ``load_state_dict`` on the model, on a part of it, or on a wrapper around it is audited before anything is written, for what
    it would really set: equal names and shapes, after the model's own hooks. When it does not meet the demand it raises, and the
    model is as it was. At the end of the block, tensors that nothing has set (no audited load, and no change of their values) are
    held against the demand too. Nothing is patched: the model carries a load hook for the time of the block.

    ``load_weights`` of a Keras model, also with ``by_name`` or ``skip_mismatch``, is audited against its file before it runs. Afterwards
    values are compared, and when it did not set what it should have, the model gets its old ones back.

    Parameters
    ----------
    model:
        A live ``torch.nn.Module`` or ``keras.Model``; or a class of torch modules, for code that builds the model itself inside the
        block: then each of its objects is watched that this thread builds there.
    intent:
        ``eval``, ``finetune`` or ``resume``; a state dict holds weights alone, so ``resume`` asks the same as ``eval`` here.
    allow_missing, min_coverage:
        As of :func:`ckptaudit.load`.

    Returns
    -------
    Guard
        Also the value of ``with … as``; its ``audits`` holds one audit per load.

    Raises
    ------
    IncompatibleCheckpoint
        Inside the block, from the load that would fail silently; or when the block ends and the model was not restored.
    UsageError
        ``allow_missing`` names what the model has neither when the block begins nor when it ends: raised at its end, for Keras at
        its beginning.
    """
    return Guard(model, Demand.of(intent, allow_missing, min_coverage))


def _watch_of(model: Any, demand: Demand) -> Watch:
    import sys

    if is_keras_model(model):  # before torch: there a Keras model is a torch module too
        from ckptaudit.restore.keras_watch import KerasWatch

        return KerasWatch(model, demand)
    torch = sys.modules.get("torch")
    if torch is not None and (isinstance(model, torch.nn.Module) or (isinstance(model, type) and issubclass(model, torch.nn.Module))):
        from ckptaudit.restore.torch_watch import TorchWatch, WatchOfClass

        return WatchOfClass(model, demand) if isinstance(model, type) else TorchWatch(model, demand)
    raise UsageError(f"cannot guard a {type(model).__name__}: give a torch.nn.Module, a class of them, or a keras.Model")
