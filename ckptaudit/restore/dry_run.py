"""What ``load_state_dict`` would set, found out by running it on tensors without values."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.torch_arrays import is_tensor
from ckptaudit.graph.kinds import DERIVED_BUFFERS
from ckptaudit.graph.names import leaf
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    import torch


class Watcher:
    """A load hook of this package: it watches and changes nothing, so dry runs leave it out."""

    def __reduce__(self) -> Any:
        # A model that is copied or pickled meanwhile takes along something inert that accepts any arguments, and needs no package.
        return getattr, ("", "format")


@dataclass(frozen=True, eq=False)
class PlainLoad:
    """What a load would do to a module; all names are the module's own.

    Attributes
    ----------
    state:
        The state dict as it counts: for each tensor of the module that would be set, what it would be set to, then what of the given one is
        left over: not what a hook took out, if what it put in instead is set. Values that a hook computed are on the meta device.
    refused:
        What the load refuses for its shape, whatever ``strict`` says.
    in_place:
        The tensors of the module that would be written to: whatever shares their memory gets the values too. With ``assign=True`` there are
        none, since the module gets others in their place.
    """

    state: Mapping[str, Any]
    refused: list[str]
    in_place: Mapping[str, torch.Tensor]


def plain_load(module: torch.nn.Module, state: Mapping[str, Any], prefix: str, metadata: Mapping[str, Any], *, assign: bool) -> PlainLoad:
    """Run the load of a state dict, hooks and overridden ``_load_from_state_dict`` included, without writing to the module.

    Parameters
    ----------
    module:
        What is loaded into; of each of its modules a stand-in with meta tensors goes through the load.
    state:
        What ``load_state_dict`` was given, as the module's hooks see it.
    prefix:
        What stands before the module's own names in ``state``.
    metadata:
        The state dict's ``_metadata``, by module path.
    assign:
        Whether the load puts the state dict's own tensors into the module.
    """
    import torch

    given = {name: _without_values(value) for name, value in state.items() if name.startswith(prefix)}
    origin = {id(value): name for name, value in given.items()}
    run = _Run(metadata)
    with torch.inference_mode(mode=False), torch.no_grad(), torch.device("meta"):
        run.load(module, dict(given), prefix, frozenset())
    used = {origin[id(value)] for value in run.set.values() if id(value) in origin} | run.consumed()
    # BatchNorm makes up a counter where an old file has none: that is no tensor of the state dict.
    there = {name: value for name, value in run.set.items() if name in given or leaf(name) not in DERIVED_BUFFERS}
    counted = {name[len(prefix) :]: state[origin[id(v)]] if id(v) in origin else v for name, v in there.items()}
    left = {name[len(prefix) :]: state[name] for name in given if name not in used}
    in_place = {} if assign else {name[len(prefix) :]: tensor for name, tensor in run.in_place.items()}
    whole = counted | {name: value for name, value in left.items() if name not in counted}
    return PlainLoad(whole, [name[len(prefix) :] for name in run.refused], in_place)


class _Run:
    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        self.set: dict[str, Any] = {}
        self.refused: list[str] = []
        self.in_place: dict[str, torch.Tensor] = {}
        self._exchanged: list[tuple[set[str], set[str]]] = []

    def consumed(self) -> set[str]:
        """Names that the modules' own code took out of the state dict, to set something with them or on purpose to drop them."""
        return {name for removed, added in self._exchanged if added <= self.set.keys() for name in removed}

    def load(self, module: torch.nn.Module, state: dict[str, Any], prefix: str, above: frozenset[int]) -> None:
        """One module and those below it, as ``load_state_dict`` itself goes about it."""
        own = {name: tensor for name, tensor in (*module._parameters.items(), *module._buffers.items()) if tensor is not None}
        own = {name: tensor for name, tensor in own.items() if name not in module._non_persistent_buffers_set}
        before = set(state)
        try:
            done, replaced = self._load_own(module, state, prefix)
        except Exception:  # a hook that cannot do without values, or a module of an unusual kind: its names decide
            done = [name for name, tensor in own.items() if getattr(state.get(prefix + name), "shape", None) == tensor.shape]
            replaced = set()
        self._exchanged.append((before - state.keys(), state.keys() - before))
        for name in done:
            if name in own:
                self.set[prefix + name] = state.get(prefix + name, _without_values(own[name]))
                if name not in replaced:
                    self.in_place[prefix + name] = own[name]
        for name, child in module._modules.items():
            if child is not None and id(child) not in above:
                below = f"{prefix}{name}."
                part = {key: value for key, value in state.items() if key.startswith(below)}
                self.load(child, part, below, above | {id(module)})

    def _load_own(self, module: torch.nn.Module, state: dict[str, Any], prefix: str) -> tuple[list[str], set[str]]:
        """Names of the module's own tensors that are set, and of those for which it gets other ones."""
        stand_in = object.__new__(type(module))
        parameters = {name: _without_values(value, as_parameter=True) for name, value in module._parameters.items()}
        buffers = {name: _without_values(value) for name, value in module._buffers.items()}
        hooks = OrderedDict((key, hook) for key, hook in module._load_state_dict_pre_hooks.items() if not _watches(hook))
        stand_in.__dict__.update(module.__dict__)
        stand_in.__dict__.update(_parameters=dict(parameters), _buffers=dict(buffers), _load_state_dict_pre_hooks=hooks)
        before = {name: (value, value._version) for name, value in (*parameters.items(), *buffers.items()) if value is not None}
        local = {key: value for key, value in self.metadata.get(prefix[:-1], {}).items() if key != "assign_to_params_buffers"}
        errors: list[str] = []
        stand_in._load_from_state_dict(state, prefix, local, True, [], [], errors)
        self.refused += [prefix + name for name in before if any(text.startswith(f"size mismatch for {prefix}{name}:") for text in errors)]
        now = {**stand_in._parameters, **stand_in._buffers}
        replaced = {name for name, (value, _) in before.items() if now.get(name) is not value}
        return [name for name, (value, version) in before.items() if name in replaced or value._version != version], replaced


def _watches(hook: Any) -> bool:
    return isinstance(getattr(hook, "hook", hook), Watcher)


def _without_values(value: Any, *, as_parameter: bool = False) -> Any:
    import torch

    if not is_tensor(value):
        return value
    bare = torch.empty(value.shape, dtype=value.dtype, device="meta")
    return torch.nn.Parameter(bare, requires_grad=False) if as_parameter else bare
