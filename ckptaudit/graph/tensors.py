"""What is known of one tensor without reading its values."""

from __future__ import annotations

from math import prod
from types import MappingProxyType

from ckptaudit.records import dataclass

#: Bits of one element, by the name that torch gives the dtype. The keys are the dtype vocabulary of the whole project.
DTYPE_BITS = MappingProxyType(
    {
        "float64": 64,
        "float32": 32,
        "float16": 16,
        "bfloat16": 16,
        "float8_e4m3fn": 8,
        "float8_e4m3fnuz": 8,
        "float8_e5m2": 8,
        "float8_e5m2fnuz": 8,
        "float8_e8m0fnu": 8,
        "float4_e2m1fn_x2": 8,
        "complex32": 32,
        "complex64": 64,
        "complex128": 128,
        "int64": 64,
        "int32": 32,
        "int16": 16,
        "int8": 8,
        "uint64": 64,
        "uint32": 32,
        "uint16": 16,
        "uint8": 8,
        "bool": 8,
        "qint8": 8,
        "quint8": 8,
        "qint32": 32,
        "quint4x2": 4,
        "quint2x4": 2,
        "string": 0,
    }
)


def is_float(dtype: str) -> bool:
    """Whether ``dtype`` holds real floating-point numbers (NaN is possible, statistics make sense)."""
    return dtype.startswith(("float", "bfloat"))


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, shape and dtype of one tensor.

    Attributes
    ----------
    name:
        The name in its own framework's spelling, unchanged (``layer1.0.conv1.weight``).
    shape:
        Sizes in the order in which the framework stores them; ``()`` for a scalar.
    dtype:
        A key of :data:`DTYPE_BITS`, or the file's own word where it is none of them.
    buffer:
        True for state that no optimizer trains: running statistics, counters, index tables.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: bool = False

    @property
    def numel(self) -> int:
        """Number of elements; 1 for a scalar."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take when stored densely; 0 for a dtype of unknown width."""
        return (self.numel * DTYPE_BITS.get(self.dtype, 0) + 7) // 8
