"""Tensors that lie in a file: where their bytes are, and how to get them one tensor at a time."""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Callable, Mapping
from math import isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import CheckpointError, CorruptCheckpointError, ValuesUnavailableError
from ckptaudit.graph import DTYPE_BITS
from ckptaudit.read.ahead import taken_ahead
from ckptaudit.read.identity import UNKNOWN, FileIdentity, identity_of, unreadable
from ckptaudit.records import dataclass, field, replace

if TYPE_CHECKING:
    from pathlib import Path

    import numpy

#: numpy's (or ml_dtypes') name of a dtype, where it differs from torch's. Quantised values are given as their integers.
_NUMPY_NAMES = MappingProxyType(
    {"qint8": "int8", "quint8": "uint8", "qint32": "int32", "quint4x2": "uint8", "quint2x4": "uint8", "float4_e2m1fn_x2": "uint8"}
)
#: Dimensions that every version of numpy can handle.
_MAX_RANK = 32
#: Dtypes that Python's own arrays hold, by their type codes, or :mod:`struct` does, or that are the first half of one that they hold.
_PLAIN = MappingProxyType({"float32": "f", "float64": "d", "float16": "e", "bfloat16": "f"} if sys.byteorder == "little" else {})
#: A view with gaps is looked at together with them while they are no more than so many times its values.
_MAX_SPREAD = 8
_ML_DTYPES = frozenset({"bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"})


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of bytes in a file that one or more tensors look at.

    Attributes
    ----------
    key:
        Equal for tensors that share memory, unique within a checkpoint.
    path:
        The file that holds the bytes.
    offset:
        Where they begin in it, in bytes.
    nbytes:
        How many there are.
    unavailable:
        Why they cannot be read, or ``""``.
    big_endian:
        Elements of several bytes have the most significant one first.
    fetch:
        Gives the bytes where they do not lie in the file as they are: compressed, in pieces, or within a packed archive. Then ``offset``
        means nothing.
    file:
        The file at ``path`` as it was when the storage was found in it; taken by itself.
    fetch_part:
        Gives only so many of the bytes that ``fetch`` gives, from one of them on, where that takes less.
    """

    key: str
    path: Path
    offset: int
    nbytes: int
    unavailable: str = ""
    big_endian: bool = False
    fetch: Callable[[], bytes] | None = field(default=None, compare=False)
    file: FileIdentity = field(default=UNKNOWN, compare=False, repr=False)
    fetch_part: Callable[[int, int], bytes] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.file is UNKNOWN:
            object.__setattr__(self, "file", identity_of(self.path))


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A strided view of a storage.

    Attributes
    ----------
    shape, strides:
        In elements. Stride 0 (an expanded tensor) is allowed; negative strides are not.
    dtype:
        A key of :data:`ckptaudit.graph.DTYPE_BITS`.
    offset:
        First element, counted from the start of the storage.
    storage:
        Where the bytes are.
    parameter:
        Whether the file marks it as a parameter; None where it does not tell.
    is_array:
        Whether it is an array of numpy in a torch file or a pickle.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    offset: int
    storage: Storage
    parameter: bool | None = None
    is_array: bool = False

    @property
    def address(self) -> tuple[Any, ...]:
        """Equal for two tensors that are the same view of the same memory (tied weights)."""
        return (self.storage.key, self.offset, self.shape, self.strides)

    def read(self) -> numpy.ndarray[Any, Any]:
        """Copy the values out of the file, densely, in the tensor's own shape.

        Only the span of the file that the view touches is read. ``complex32`` gets a last axis of 2 (real, imaginary)
        of float16; quantised dtypes give their stored integers.

        Raises
        ------
        ValuesUnavailableError
            The bytes are not in the file.
        CorruptCheckpointError
            The file is shorter than its own header says, or is not the one that was checked.
        CheckpointError
            The system does not let it be read.
        """
        return self._copied(self.shape)

    def numbers(self, elements: int | None = None) -> array[float] | None:
        """Like :meth:`read`, or with ``elements`` like :meth:`sample`, but flat and without numpy, whose import takes longer than the rest.

        None where it takes numpy: other dtypes than these of 16, 32 and 64 bits, other layouts than a dense one.
        """
        shape = self.shape if elements is None else self._sampled(elements)
        if self.strides != contiguous_strides(self.shape) or 0 in shape:
            return None
        return self._plain(_numel(shape))

    def surely_finite(self, elements: int) -> bool:
        """Whether all numbers in the run of the file where :meth:`sample` looks are finite; False also where it takes numpy to tell.

        Raises
        ------
        CheckpointError
            As :meth:`read`.
        """
        shape, span = self._sampled(elements), 1
        for size, stride in zip(shape, self._strides_of(shape), strict=True):
            span += (size - 1) * stride
        found = self._plain(span) if 0 not in shape and span <= _MAX_SPREAD * elements else None
        # A sum is finite only if everything in it is.
        return found is not None and isfinite(sum(found))

    def _plain(self, count: int) -> array[float] | None:
        """So many numbers from the first on, as they lie in the file; None where it takes numpy to read them."""
        if self.storage.unavailable:
            raise ValuesUnavailableError(self.storage.path, self.storage.unavailable)
        code = _PLAIN.get(self.dtype)
        if code is None:
            return None
        width = DTYPE_BITS[self.dtype] // 8
        start, nbytes = self._span(width, count)
        if self.storage.fetch is None:
            content = self._bytes(start, nbytes)
        else:
            content = self._fetched(self.storage.fetch, start - self.storage.offset, nbytes)
        if self.storage.big_endian:
            turned = array({2: "H", 4: "I", 8: "Q"}[width], bytes(content))
            turned.byteswap()
            content = turned.tobytes()
        if self.dtype == "float16":
            return array("f", struct.unpack(f"<{len(content) // 2}e", content))
        if self.dtype == "bfloat16":
            wide = bytearray(2 * len(content))
            wide[2::4], wide[3::4] = content[::2], content[1::2]
            content = wide
        values: array[float] = array(code)
        values.frombytes(content)
        return values

    @property
    def lies_as_it_is(self) -> bool:
        """Whether the file holds the values dense, in C order and in this machine's byte order, as :meth:`read_into` takes them."""
        storage = self.storage
        return (
            storage.fetch is None
            and not storage.unavailable
            and not storage.big_endian
            and DTYPE_BITS[self.dtype] >= 8
            and self.dtype != "complex32"
            and self.strides == contiguous_strides(self.shape)
        )

    def read_into(self, memory: memoryview, first: int = 0) -> None:
        """Read the values of a tensor that :attr:`lies_as_it_is` straight into ``memory``, as many of its bytes from ``first`` on.

        Raises
        ------
        CheckpointError
            As :meth:`read`; part of the memory may have been written to.
        """
        itemsize = DTYPE_BITS[self.dtype] // 8
        start, count = self._span(itemsize, _numel(self.shape))
        if not 0 <= first <= first + len(memory) <= count:
            raise ValueError(f"{len(memory):,} bytes from byte {first:,} on, of a tensor of {count:,}")
        self._fill(memory, start + first)

    def ends(self, elements: int) -> tuple[bytes | bytearray, bytes | bytearray]:
        """The bytes of so many elements from the first on and of the last ones, of a tensor that :attr:`lies_as_it_is`.

        Raises
        ------
        CheckpointError
            As :meth:`read`.
        """
        itemsize = DTYPE_BITS[self.dtype] // 8
        start, count = self._span(itemsize, _numel(self.shape))
        part = elements * itemsize
        if count <= 2 * part:  # then one read does for both
            whole = self._bytes(start, count)
            return whole, whole
        return self._bytes(start, part), self._bytes(start + count - part, part)

    def sample(self, elements: int, *, last: bool = False) -> numpy.ndarray[Any, Any]:
        """Like :meth:`read`, but flat, and of a tensor with more than ``elements`` values only some rows from its start, or its end."""
        shape = self._sampled(elements)
        if not last:
            return self._copied(shape).reshape(-1)
        taken = (*(1 for _ in range(len(self.shape) - len(shape))), *shape)
        skipped = sum((size - kept) * stride for size, kept, stride in zip(self.shape, taken, self.strides, strict=True))
        return replace(self, offset=self.offset + skipped)._copied(shape).reshape(-1)

    def _sampled(self, elements: int) -> tuple[int, ...]:
        """The shape of some rows from the start."""
        shape = self.shape
        while shape and _numel(shape) > elements:
            if _numel(shape[1:]) >= elements:
                shape = shape[1:]
            else:
                return (max(1, elements // max(1, _numel(shape[1:]))), *shape[1:])
        return shape

    def _copied(self, shape: tuple[int, ...]) -> numpy.ndarray[Any, Any]:
        import numpy

        values = self._view(shape)
        own = self.storage.fetch is None and values.flags.c_contiguous
        return values if own else numpy.array(values, copy=True, order="C")

    def _view(self, shape: tuple[int, ...]) -> numpy.ndarray[Any, Any]:
        import numpy

        if self.storage.unavailable:
            raise ValuesUnavailableError(self.storage.path, self.storage.unavailable)
        dtype = numpy_dtype(self.dtype)
        if self.dtype == "complex32":
            shape = (*shape, 2)
        strides = self._strides_of(shape)
        if len(shape) > _MAX_RANK:
            raise ValuesUnavailableError(self.storage.path, f"a tensor of {len(shape)} dimensions, more than an array can have")
        if 0 in shape:
            return numpy.empty(shape, dtype)
        if DTYPE_BITS[self.dtype] < 8:
            raise ValuesUnavailableError(self.storage.path, f"values of packed dtype {self.dtype} are not decoded")
        span = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        start, count = self._span(dtype.itemsize, span)
        if self.storage.fetch is not None:
            held: bytes | numpy.ndarray[Any, Any] = self._fetched(self.storage.fetch, start - self.storage.offset, count)
        else:
            held = numpy.empty(count, numpy.uint8)  # which nobody fills with zeros first
            self._fill(held.data, start)
        values: numpy.ndarray[Any, Any] = numpy.ndarray(shape, dtype, held, 0, [s * dtype.itemsize for s in strides])
        return _swapped(numpy.array(values, copy=True, order="C")) if self.storage.big_endian else values

    def _fetched(self, fetch: Callable[[], bytes], first: int, count: int) -> bytes:
        storage = self.storage
        storage.file.check()
        whole = storage.fetch_part is None or count == storage.nbytes
        content = fetch() if whole or storage.fetch_part is None else storage.fetch_part(first, count)
        storage.file.check()
        expected = storage.nbytes if whole else count
        if len(content) != expected:
            raise CorruptCheckpointError(storage.path, f"{len(content):,} bytes were unpacked where {expected:,} should be")
        return content[first : first + count] if whole and count < expected else content

    def _span(self, itemsize: int, elements: int) -> tuple[int, int]:
        """Where the tensor begins in the file and how many bytes these elements take, within the storage."""
        first, count = self.offset * (2 if self.dtype == "complex32" else 1) * itemsize, elements * itemsize
        if first + count > self.storage.nbytes:
            raise CorruptCheckpointError(
                self.storage.path, f"a tensor reaches {first + count:,} bytes into a storage of {self.storage.nbytes:,}"
            )
        return self.storage.offset + first, count

    def _bytes(self, start: int, count: int) -> bytes | bytearray:
        """Read, not mapped: a file that is cut short meanwhile kills a process that has it mapped."""
        try:
            if (ahead := taken_ahead(self.storage.file, start, count)) is not None:
                return ahead
        except OSError as error:
            raise CheckpointError(self.storage.path, unreadable(error)) from None
        content = bytearray(count)
        with memoryview(content) as memory:
            self._fill(memory, start)
        return content

    def _fill(self, memory: memoryview, start: int) -> None:
        count, done = len(memory), 0
        descriptor = self.storage.file.open()
        try:
            while done < count and (got := os.preadv(descriptor, [memory[done:]], start + done)):
                done += got
            self.storage.file.confirm(descriptor)
        except OSError as error:
            raise CheckpointError(self.storage.path, unreadable(error)) from None
        finally:
            os.close(descriptor)
        if done < count:
            raise CorruptCheckpointError(self.storage.path, f"ends before byte {start + count:,}, where a tensor's values should be")

    def _strides_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.dtype == "complex32":
            return (*(2 * s for s in self.strides[len(self.strides) - len(shape) + 1 :]), 1)
        return self.strides[len(self.strides) - len(shape) :]


def _swapped(values: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
    # numpy knows no byte order of the dtypes that ml_dtypes adds; their bits do.
    if values.dtype.kind == "V" and values.dtype.itemsize > 1:
        return values.view(f"u{values.dtype.itemsize}").byteswap().view(values.dtype)
    return values.byteswap()


def numpy_dtype(dtype: str) -> numpy.dtype[Any]:
    """The numpy dtype (ml_dtypes for bfloat16 and float8) that holds values of the torch dtype named ``dtype``."""
    import numpy

    if dtype == "complex32":
        return numpy.dtype("float16")
    if dtype in _ML_DTYPES:
        import ml_dtypes

        extended: numpy.dtype[Any] = numpy.dtype(getattr(ml_dtypes, dtype))
        return extended
    return numpy.dtype(_NUMPY_NAMES.get(dtype, dtype))


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of a dense tensor in C order."""
    if len(shape) < 3:  # nearly all, and there may be very many
        return (max(1, shape[1]), 1) if len(shape) == 2 else (1,) * len(shape)
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(1, size)
    return tuple(reversed(strides))


def _numel(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


#: What a reader gives for each tensor, by name, in the file's order.
StoredTensors = Mapping[str, StoredTensor]
