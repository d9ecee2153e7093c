"""What a file says beside its tensors, reduced to JSON values within bounds: epoch, hyper-parameters, class names, versions."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from ckptaudit.read.pickles import Instance
from ckptaudit.read.torch_objects import TensorReader, numpy_scalar
from ckptaudit.read.unwrap import attributes, is_module, key_text

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_ITEMS = 1000
_MAX_KEY = 300
_MAX_TEXT = 10_000
_MAX_LEVELS = 8
_MAX_VALUES = 20_000
_PATHS = frozenset(
    f"{module}.{name}"
    for module in ("pathlib", "pathlib._local")
    for name in ("PosixPath", "WindowsPath", "Path", "PurePosixPath", "PureWindowsPath")
)
_LISTS = frozenset({"torch.Size", "collections.deque"}) | {
    f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("set", "frozenset", "list", "tuple")
}


class Metadata:
    """Reduces what lies beside the tensors to JSON values, within bounds."""

    def __init__(self, tensors: TensorReader) -> None:
        self._tensors = tensors
        self._left = _MAX_VALUES

    def of(self, root: Any) -> Mapping[str, Any]:
        """Settings at the top of the file, by name."""
        if isinstance(root, Instance) and not self._tensors.is_tensor(root):
            return self._mapping(_public(root), 1)
        return self._mapping(root, 1) if isinstance(root, dict) else {}

    def _mapping(self, mapping: Mapping[Any, Any], level: int) -> dict[str, Any]:
        reduced: dict[str, Any] = {}
        for position, (key, value) in enumerate(mapping.items()):
            if len(reduced) >= _MAX_ITEMS or self._left <= 0:
                reduced["…"] = f"{len(mapping) - position:,} more"
                break
            if self._tensors.is_tensor(value):
                continue
            kept = self._value(value, level + 1)
            if kept in ({}, []) and value:
                continue  # it held nothing but tensors
            reduced[key_text(key)[:_MAX_KEY]] = kept
        return reduced

    def _value(self, value: Any, level: int) -> Any:
        self._left -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, float):
            return value if isfinite(value) else str(value)  # JSON has no NaN
        if isinstance(value, int):
            return value if abs(value) < 2**64 else f"an integer of {value.bit_length():,} bits"
        if isinstance(value, str):
            return str(value) if len(value) <= _MAX_TEXT else f"{value[:_MAX_TEXT]}… ({len(value):,} characters)"
        if level > _MAX_LEVELS or self._left <= 0:
            return "…"
        if _is_optimizer(value):
            return {"param_groups": self._value(value["param_groups"], level + 1)}
        if isinstance(value, dict):
            return self._mapping(value, level)
        if isinstance(value, (list, tuple)):
            return self._list(value, level)
        if isinstance(value, Instance):
            return self._instance(value, level)
        name = getattr(value, "name", None)
        if isinstance(name, str):
            return name
        nbytes = getattr(value, "nbytes", None)
        return f"{nbytes:,} bytes" if isinstance(nbytes, int) else "…"

    def _list(self, values: Any, level: int) -> list[Any]:
        reduced: list[Any] = []
        for value in values:
            if len(reduced) >= _MAX_ITEMS or self._left <= 0:
                reduced.append(f"… {len(values) - len(reduced):,} more")
                break
            if not self._tensors.is_tensor(value):
                reduced.append(self._value(value, level + 1))
        return reduced

    def _instance(self, value: Instance, level: int) -> Any:
        name, args = value.class_name, value.args
        number = numpy_scalar(value)
        if number is not None:
            return number
        if name == "_codecs.encode" and args and isinstance(args[0], str):
            return f"{len(args[0]):,} bytes"
        if name in ("builtins.complex", "__builtin__.complex") and len(args) == 2 and all(isinstance(part, (int, float)) for part in args):
            return f"{args[0]}+{args[1]}j"
        if name in _PATHS:
            return "/".join(part for part in args if isinstance(part, str)).replace("//", "/")
        if name == "torch.device":
            return ":".join(str(part) for part in args if isinstance(part, (str, int)))
        if value.elements is not None or name in _LISTS:
            given = value.elements if value.elements is not None else args[0] if args and isinstance(args[0], (list, tuple)) else args
            return self._list(given, level)
        if value.entries:
            return self._mapping(value.entries, level)
        found = _public(value)
        if found:
            return self._mapping(found, level)
        return {"class": name or "<computed>", "args": self._list(args, level)}


def _public(value: Instance) -> dict[Any, Any]:
    """Attributes; of a module only those that its author set, for ``training`` and ``_parameters`` tell nothing."""
    found = attributes(value)
    if not is_module(value):
        return dict(found)
    return {key: kept for key, kept in found.items() if not (isinstance(key, str) and (key.startswith("_") or key == "training"))}


def _is_optimizer(value: Any) -> bool:
    return isinstance(value, dict) and "state" in value and isinstance(value.get("param_groups"), list)
