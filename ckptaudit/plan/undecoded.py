"""Dtypes that only their own library decodes."""

from __future__ import annotations

from ckptaudit.errors import PlanError

#: Dtypes whose stored elements are not their values: what reads them gives integers, or pairs.
_UNDECODED = ("q", "complex32", "float4_", "float6_", "string")


def refuse_undecoded(dtype: str) -> None:
    """Raise PlanError for dtypes whose stored elements are not their values."""
    if dtype.startswith(_UNDECODED):
        raise PlanError(f"values of the dtype {dtype} are not remapped")
