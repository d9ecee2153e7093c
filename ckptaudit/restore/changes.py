"""Which tensors of a model have changed, for loaders that write past ``load_state_dict``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.torch_arrays import is_tensor
from ckptaudit.graph.names import parent
from ckptaudit.records import dataclass
from ckptaudit.restore.torch_values import ends, is_plain, same_values

if TYPE_CHECKING:
    import torch

_Ends = tuple["torch.Tensor", "torch.Tensor"]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Some values of every tensor at one time; none of tensors that have no values, or none that can be looked at."""

    values: Mapping[str, _Ends | None]

    @classmethod
    def of(cls, model: torch.nn.Module) -> Snapshot:
        """Look at a model: at most about a thousand values of each tensor."""
        return cls({name: _look(value) for name, value in model.state_dict().items()})

    def changed(self, state: Mapping[str, Any], known: set[str]) -> set[str]:
        """Names of ``state`` whose tensors are ``known`` to be set, or hold other values than before.

        Restoring zeros into a tensor of zeros changes nothing. So a tensor that is constant counts as set where another one of its
        layer does.
        """
        done, constant = set(known), []
        for name, value in state.items():
            now = _look(value)
            before = self.values.get(name)
            if now is None:
                continue
            if before is None or not all(map(_alike, before, now)):
                done.add(name)
            elif all(bool((end == now[0].reshape(-1)[0]).all()) for end in now if end.numel()):
                constant.append(name)
        layers = {parent(name) for name in done}
        done.update(name for name in constant if parent(name) in layers)
        return done.intersection(state)


def _look(value: Any) -> _Ends | None:
    return ends(value) if is_tensor(value) and is_plain(value) and not value.is_meta else None


def _alike(before: torch.Tensor, now: torch.Tensor) -> bool:
    """Equal up to a conversion of the whole model to another dtype."""
    return before.shape == now.shape and same_values(before.to(now.dtype), now)
