"""Every operation by its name, and how one is read from a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ckptaudit.align.ops.base import Op, Param
from ckptaudit.align.ops.biases import Sum
from ckptaudit.align.ops.fill import Fill
from ckptaudit.align.ops.fuse import Fuse
from ckptaudit.align.ops.inflate import Inflate
from ckptaudit.align.ops.interpolate import Interpolate
from ckptaudit.align.ops.layout import Permute, Reshape, Squeeze, Unsqueeze
from ckptaudit.align.ops.merge import Merge
from ckptaudit.align.ops.parts import Concat, Slice, Split
from ckptaudit.align.ops.rows import Rows
from ckptaudit.errors import PlanError

__all__ = ["OPS", "op_from_json"]

#: Every operation by its name in a plan.
OPS: Mapping[str, type[Op]] = {
    kind.__name__.lower(): kind
    for kind in (Permute, Reshape, Squeeze, Unsqueeze, Split, Slice, Concat, Rows, Inflate, Interpolate, Fuse, Merge, Sum, Fill)
}


def op_from_json(value: object) -> Op:
    """The operation that ``{"op": name, parameter: value …}`` describes.

    Raises
    ------
    PlanError
        There is no such operation, or a parameter is missing, unknown or of another type.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("op"), str):
        raise PlanError("an operation is a mapping with the key 'op'")
    kind = OPS.get(value["op"])
    if kind is None:
        raise PlanError(f"there is no operation {value['op']!r}; there are {', '.join(OPS)}")
    given = {key: item for key, item in value.items() if key != "op"}
    if unknown := [str(key) for key in given if key not in kind.__dataclass_fields__]:
        raise PlanError(f"{value['op']} has no parameter {unknown[0]!r}")
    from dataclasses import fields  # only whoever reads a plan needs it

    params: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in given:
            params[field.name] = _param(f"{value['op']}: {field.name}", str(field.type), given[field.name])
    try:
        return kind(**params)
    except TypeError:
        missing = [name for name in kind.__dataclass_fields__ if name not in params]
        raise PlanError(f"{value['op']} lacks its parameter {missing[0]!r}") from None


def _param(where: str, kind: str, value: object) -> Param:
    if kind == "tuple[int, ...]":
        if isinstance(value, (list, tuple)) and all(type(item) is int for item in value):
            return tuple(value)
        raise PlanError(f"{where} is a list of integers")
    if kind == "float" and type(value) in (int, float):
        return float(value)  # type: ignore[arg-type]
    if type(value).__name__ == kind and isinstance(value, (int, str, bool)):
        return value
    raise PlanError(f"{where} is of the type {kind}")
