"""Models on the meta device: they get memory for the time of a restore, and lose it again when that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import UsageError
from ckptaudit.graph.names import leaf

if TYPE_CHECKING:
    import torch

    from ckptaudit.plan import Plan


@contextmanager
def materialised(model: Any, plan: Plan, device: Any) -> Iterator[None]:
    """Within, no tensor of the model is on the meta device; when the block raises, those that were are there again.

    Raises
    ------
    UsageError
        There are such tensors and no device is given, or one of them would have no values afterwards.
    """
    import torch

    found = [
        (tensors, name, tensor, f"{path}.{name}" if path else name)
        for path, module in model.named_modules(remove_duplicate=False)
        for tensors in (module._parameters, module._buffers)
        for name, tensor in tensors.items()
        if tensor is not None and tensor.is_meta
    ]
    if not found:
        yield
        return
    if device is None:
        raise UsageError(
            f"{found[0][3]} is on the meta device and has no memory to restore into: give load() a device, or build the model for real"
        )
    made: dict[int, torch.Tensor] = {id(tensor): torch.empty_like(tensor, device=device) for _, _, tensor, _ in found}
    _refuse_unset(model, plan, found, made)
    for _, _, tensor, _ in found:
        if isinstance(tensor, torch.nn.Parameter):
            made[id(tensor)] = torch.nn.Parameter(made[id(tensor)].detach(), tensor.requires_grad)
    for tensors, name, tensor, _ in found:
        tensors[name] = made[id(tensor)]
    try:
        yield
    except BaseException:
        for tensors, name, tensor, _ in found:
            tensors[name] = tensor
        raise


def _refuse_unset(model: Any, plan: Plan, found: list[tuple[Any, str, Any, str]], made: dict[int, torch.Tensor]) -> None:
    """Refuse to leave a tensor without values. A counter of batches starts at 0, which is what it would hold anyway."""
    targets = {step.target for step in plan.steps}
    by_name = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    held = {id(tensor) for name, tensor in by_name.items() if name in targets}
    for _, name, tensor, path in found:
        if id(tensor) in held:
            continue
        if leaf(name) != "num_batches_tracked":
            raise UsageError(
                f"{path} is on the meta device and the checkpoint does not set it: build the model for real, so that it has a value"
            )
        made[id(tensor)].zero_()
