"""Audit every ``load_weights`` on a Keras model and the models in it, and take back what set less than it should have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ckptaudit.arch.keras_values import value_of, variables_of
from ckptaudit.arch.live import model_of_object
from ckptaudit.pipeline import Audit, audit, compare
from ckptaudit.restore.demand import Demand, never_set
from ckptaudit.restore.held import checkpoint_of_state
from ckptaudit.restore.verify import check_values
from ckptaudit.rules.allowance import means, refuse_what_means_nothing

_METHOD = "load_weights"


class KerasWatch:
    """One live model. Keras has no hooks: the objects (not their class) get another ``load_weights`` for the time of the block."""

    def __init__(self, model: Any, demand: Demand) -> None:
        self.model, self.demand = model, demand
        self.audits: list[Audit] = []
        self._before: dict[str, Any] = {}
        self._set: set[int] = set()
        self._wrapped: list[tuple[Any, Any, Any]] = []

    def begin(self) -> None:
        """Watch the model and every model that is a layer of it."""
        self._before = {name: value_of(variable) for name, variable in variables_of(self.model).items()}
        refuse_what_means_nothing(self.demand.allow_missing, self._before)
        for part in [layer for layer in self.model._flatten_layers() if hasattr(layer, _METHOD)]:
            outer, watched = vars(part).get(_METHOD), self._watched(part, getattr(part, _METHOD))
            vars(part)[_METHOD] = watched  # past Keras, which would track it
            self._wrapped.append((part, watched, outer))

    def end(self) -> None:
        """Give every object back what it had."""
        for part, watched, outer in reversed(self._wrapped):
            if vars(part).get(_METHOD) is watched:
                del vars(part)[_METHOD]
                if outer is not None:
                    vars(part)[_METHOD] = outer
        self._wrapped.clear()

    def look_back(self) -> None:
        """Hold what was set, by a load or otherwise, against the demand."""
        variables = variables_of(self.model)
        done = {
            name: value_of(variable)
            for name, variable in variables.items()
            if id(variable) in self._set or (value_of(variable) != self._before[name]).any()
        }
        held = checkpoint_of_state(done, "what was restored inside the guard", "keras")
        found = compare(held, model_of_object(self.model, {}), intent=self.demand.intent, allow_missing=self.demand.allow_missing)
        if not found.verdict.fit:
            unset = [name for name in variables if name not in done]
            raise never_set(found, unset, variables)
        self.demand.check(found)

    def _may_be_missing(self, part: Any, variables: Mapping[str, Any]) -> Sequence[str]:
        """What the whole model may lack, of a part under the names that it has there."""
        if part is self.model:
            return self.demand.allow_missing
        in_whole = {id(variable): name for name, variable in variables_of(self.model).items()}
        words = self.demand.allow_missing
        return [name for name, variable in variables.items() if any(means(word, in_whole.get(id(variable), "")) for word in words)]

    def _watched(self, part: Any, load_weights: Callable[..., Any]) -> Callable[..., Any]:
        def watched(filepath: Any, *arguments: Any, **keywords: Any) -> Any:
            variables = variables_of(part)
            found = audit(
                filepath, model_of_object(part, {}), intent=self.demand.intent, allow_missing=self._may_be_missing(part, variables)
            )
            self.demand.check(found)
            before = {name: value_of(variable) for name, variable in variables.items()}
            try:
                result = load_weights(filepath, *arguments, **keywords)
                check_values(part, found)
            except BaseException:
                for name, value in before.items():
                    variables[name].assign(value)
                raise
            self.audits.append(found)
            self._set.update(id(variables[step.target]) for step in found.plan.steps)
            return result

        return watched
