"""What torch and numpy write into pickles: which globals those are, and how their calls become stored tensors."""

from __future__ import annotations

import struct
from functools import partial
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import CorruptCheckpointError
from ckptaudit.graph import DTYPE_BITS
from ckptaudit.read.identity import FileIdentity, identity_of
from ckptaudit.read.pickles import ByteSpan, Global, Instance, MalformedError, OldString
from ckptaudit.read.source import opened
from ckptaudit.read.stored import Storage, StoredTensor, contiguous_strides
from ckptaudit.records import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MAX_RANK = 64
LATIN = ("latin1", "latin-1")  # with another codec the bytes would be others
_MAX_WRAPPERS = 8  # a parameter in a tensor subclass in …; nobody nests more

#: The first pickle of every legacy torch file.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

#: dtype of a typed storage, by the word before ``Storage`` in its class name.
_STORAGE_DTYPES = MappingProxyType(
    {
        "Double": "float64",
        "Float": "float32",
        "Half": "float16",
        "BFloat16": "bfloat16",
        "Long": "int64",
        "Int": "int32",
        "Short": "int16",
        "Char": "int8",
        "Byte": "uint8",
        "Bool": "bool",
        "ComplexHalf": "complex32",
        "ComplexFloat": "complex64",
        "ComplexDouble": "complex128",
        "QInt8": "qint8",
        "QUInt8": "quint8",
        "QInt32": "qint32",
        "QUInt4x2": "quint4x2",
        "QUInt2x4": "quint2x4",
        "Float8_e4m3fn": "float8_e4m3fn",
        "Float8_e5m2": "float8_e5m2",
        "Float8_e4m3fnuz": "float8_e4m3fnuz",
        "Float8_e5m2fnuz": "float8_e5m2fnuz",
        "Untyped": "",
        "_Untyped": "",
    }
)

_DTYPE_SYNONYMS = MappingProxyType(
    {
        "half": "float16",
        "float": "float32",
        "double": "float64",
        "long": "int64",
        "int": "int32",
        "short": "int16",
        "cfloat": "complex64",
        "cdouble": "complex128",
        "chalf": "complex32",
    }
)

#: dtype by numpy's type code: kind and width in bytes.
_NUMPY_CODES = MappingProxyType(
    {
        "f8": "float64",
        "f4": "float32",
        "f2": "float16",
        "i8": "int64",
        "i4": "int32",
        "i2": "int16",
        "i1": "int8",
        "u8": "uint64",
        "u4": "uint32",
        "u2": "uint16",
        "u1": "uint8",
        "b1": "bool",
        "c8": "complex64",
        "c16": "complex128",
    }
)

_SCALAR_CODES = MappingProxyType(
    {
        "float64": "d",
        "float32": "f",
        "float16": "e",
        "int64": "q",
        "int32": "i",
        "int16": "h",
        "int8": "b",
        "uint64": "Q",
        "uint32": "I",
        "uint16": "H",
        "uint8": "B",
        "bool": "?",
    }
)

_NUMPY = ("numpy.core.multiarray.", "numpy._core.multiarray.")
_NUMPY_SCALARS = frozenset(module + "scalar" for module in _NUMPY)
_NUMPY_ARRAYS = frozenset(module + "_reconstruct" for module in _NUMPY)
_NUMPY_BUFFERS = frozenset({"numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"})

#: What ``pickle.dump`` has called for each storage: it unpickles the bytes that it is given.
NESTED = "torch.storage._load_from_bytes"

_ALLOWED = (
    frozenset(
        f"{module}.{name}"
        for module in ("builtins", "__builtin__")
        for name in (
            "set",
            "frozenset",
            "dict",
            "list",
            "tuple",
            "int",
            "long",
            "float",
            "complex",
            "bool",
            "str",
            "unicode",
            "bytes",
            "bytearray",
            "slice",
            "range",
            "xrange",
            "object",
        )
    )
    | {"collections.OrderedDict", "collections.defaultdict", "collections.Counter", "collections.deque"}
    | {"_codecs.encode", "copy_reg._reconstructor", "copyreg._reconstructor"}
    | {
        f"torch._utils.{name}"
        for name in (
            "_rebuild_tensor",
            "_rebuild_tensor_v2",
            "_rebuild_tensor_v3",
            "_rebuild_parameter",
            "_rebuild_parameter_with_state",
            "_rebuild_qtensor",
            "_rebuild_sparse_tensor",
            "_rebuild_nested_tensor",
            "_rebuild_meta_tensor_no_storage",
            "_rebuild_device_tensor_from_numpy",
            "_rebuild_device_tensor_from_cpu_tensor",
            "_rebuild_wrapper_subclass",
        )
    }
    | {
        "torch._tensor._rebuild_from_type_v2",
        "torch._tensor._rebuild_from_type",
        "torch.Size",
        "torch.device",
        NESTED,
        "torch.Tensor",
        "torch.FloatTensor",
    }
    | {"torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "torch.serialization._get_layout", "torch.storage.TypedStorage"}
    | {"torch.per_tensor_affine", "torch.per_channel_affine", "torch.per_tensor_symmetric", "torch.per_channel_symmetric"}
    | {"torch.per_channel_affine_float_qparams", "torch.strided", "torch.sparse_coo", "torch.sparse_csr"}
    | _NUMPY_SCALARS
    | _NUMPY_ARRAYS
    | _NUMPY_BUFFERS
    | {"numpy.ndarray", "numpy.dtype"}
)


def is_allowed(name: str) -> bool:
    """Whether a global is part of every honest torch file: containers, tensors, storages, dtypes and numpy values."""
    return name in _ALLOWED or storage_dtype(name) is not None or torch_dtype(name) is not None


def storage_dtype(name: str) -> str | None:
    """Give the dtype of the storage class ``name``: ``""`` for untyped bytes, None when it is no storage class."""
    module, _, word = name.rpartition(".")
    if module not in ("torch", "torch.cuda", "torch.storage") or not word.endswith("Storage"):
        return None
    return _STORAGE_DTYPES.get(word.removesuffix("Storage"))


def torch_dtype(name: str) -> str | None:
    """Give the dtype that the global ``name`` (``torch.float32``) stands for, or None."""
    module, _, word = name.rpartition(".")
    word = _DTYPE_SYNONYMS.get(word, word)
    return word if module == "torch" and word in DTYPE_BITS else None


@dataclass(slots=True, eq=False)
class StorageRef:
    """A storage as a persistent id declares it.

    Attributes
    ----------
    key:
        Its name within the file.
    dtype:
        Of its elements; ``""`` for untyped bytes.
    nbytes:
        Declared size.
    device:
        Where it lived (``cpu``, ``cuda:0``, ``meta``).
    offset:
        First byte within the storage ``key``: not 0 only for the views of old legacy files.
    """

    key: str
    dtype: str
    nbytes: int
    device: str
    offset: int = 0

    @property
    def elements(self) -> int:
        """Declared number of elements."""
        return self.nbytes * 8 // DTYPE_BITS[self.dtype or "uint8"]


class StorageTable:
    """The storages that the pickles of one file declare, by key."""

    def __init__(self) -> None:
        self.declared: dict[str, StorageRef] = {}

    def __call__(self, identity: Any) -> Any:
        """Stand-in of a persistent id: ``('storage', class, key, device, elements[, view])``.

        Raises
        ------
        MalformedError
            It is no such id, or contradicts an earlier one.
        """
        if not isinstance(identity, tuple) or not identity:
            raise MalformedError("uses a persistent id that is no tuple")
        if identity[0] == "module" and len(identity) == 4 and isinstance(identity[1], Global):
            return identity[1]  # a class with its source code, as legacy files of whole modules have them
        if identity[0] != "storage" or not 5 <= len(identity) <= 6:
            raise MalformedError("uses a persistent id that is no storage")
        _, kind, key, device, elements = identity[:5]
        dtype = storage_dtype(kind.name) if isinstance(kind, Global) else None
        if dtype is None:
            raise MalformedError("uses a persistent id whose storage class is unknown")
        if isinstance(key, int):
            key = str(key)
        if not isinstance(key, str) or not isinstance(elements, int) or not 0 <= elements < 2**62:
            raise MalformedError("uses a persistent id whose key or size is not one")
        nbytes = _bytes_of(elements, dtype or "uint8")
        ref = self.declared.get(key)
        if ref is None:
            ref = self.declared[key] = StorageRef(key, dtype, nbytes, device if isinstance(device, str) else "")
        elif ref.nbytes != nbytes or ref.dtype != dtype:
            if ref.nbytes != nbytes:
                raise MalformedError(f"declares storage {key!r} with {ref.nbytes:,} bytes and again with {nbytes:,}")
            ref = StorageRef(key, dtype, nbytes, ref.device)
        if len(identity) == 6 and identity[5] is not None:
            return self._view(ref, identity[5])
        return ref

    def _view(self, root: StorageRef, view: Any) -> StorageRef:
        if not isinstance(view, (tuple, list)) or len(view) != 3 or not all(isinstance(n, int) and 0 <= n < 2**62 for n in view[1:]):
            raise MalformedError("uses a persistent id whose storage view is none")
        offset, nbytes = (_bytes_of(count, root.dtype or "uint8") for count in view[1:])
        if offset + nbytes > root.nbytes:
            raise MalformedError(f"declares a view of storage {root.key!r} that reaches to byte {offset + nbytes:,} of {root.nbytes:,}")
        return StorageRef(root.key, root.dtype, nbytes, root.device, offset)


def _bytes_of(elements: int, dtype: str) -> int:
    return (elements * DTYPE_BITS[dtype] + 7) // 8


class _BadTensorError(Exception):
    """A tensor contradicts itself; the text says how."""


class TensorReader:
    """Turns stand-ins of tensors and arrays into stored tensors.

    Parameters
    ----------
    path:
        The file.
    locate:
        Gives the storage that a reference declares; raises CorruptCheckpointError when the file does not hold it.
    inline:
        Whether offsets in the pickle's buffer are offsets in the file, so that arrays in the pickle can be read in place.
    nested:
        Reads a storage that lies within the pickle, as ``pickle.dump`` writes them.
    """

    def __init__(
        self,
        path: Path,
        locate: Callable[[StorageRef], Storage],
        *,
        inline: bool,
        nested: Callable[[ByteSpan], tuple[StorageRef, Storage]] | None = None,
    ) -> None:
        self._path = path
        self._locate = locate
        self._nested_storage = nested
        self._nested_refs: dict[int, StorageRef] = {}
        self._inline = inline
        self._storages: dict[str, Storage] = {}
        self._spans: dict[int, Storage] = {}
        self._made: dict[int, StoredTensor] = {}
        self._rebuilders: dict[str, Callable[..., StoredTensor]] = {
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._tensor_v3,
            "torch._utils._rebuild_qtensor": self._tensor,
            "torch._utils._rebuild_sparse_tensor": self._sparse,
            "torch._utils._rebuild_meta_tensor_no_storage": self._meta,
            "torch._utils._rebuild_device_tensor_from_numpy": self._from_array,
            "torch._utils._rebuild_device_tensor_from_cpu_tensor": self._from_array,
            "torch._utils._rebuild_wrapper_subclass": self._wrapper,
            "torch._utils._rebuild_nested_tensor": self._nested,
            **dict.fromkeys(_NUMPY_BUFFERS, self._buffer),
        }

    def is_tensor(self, value: Any) -> bool:
        """Whether ``value`` stands for a tensor or for an array of numbers."""
        if not isinstance(value, Instance):
            return False
        name = unwrapped(value)[0].class_name
        if name in _NUMPY_ARRAYS:
            return _array_state(unwrapped(value)[0]) is not None
        return name in self._rebuilders

    def tensor(self, value: Instance, name: str) -> StoredTensor:
        """The stored tensor that ``value`` stands for.

        Raises
        ------
        CorruptCheckpointError
            Its sizes, strides or storage contradict each other or the file; the message calls it ``name``.
        """
        if id(value) in self._made:
            return self._made[id(value)]
        inner, parameter = unwrapped(value)
        try:
            rebuild = self._array if inner.class_name in _NUMPY_ARRAYS else self._rebuilders[inner.class_name]
            made = rebuild(inner) if rebuild == self._array else rebuild(*inner.args)
        except TypeError:
            raise self._corrupt(name, "is rebuilt with arguments that do not fit") from None
        except _BadTensorError as error:
            raise self._corrupt(name, str(error)) from None
        if parameter:
            made = replace(made, parameter=True)
        self._made[id(value)] = made
        return made

    def _corrupt(self, name: str, reason: str) -> CorruptCheckpointError:
        return CorruptCheckpointError(self._path, f"tensor {name!r} {reason}")

    # One method per way of rebuilding; the parameters are torch's own.

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> StoredTensor:
        ref = self._storage_ref(storage)
        if not ref.dtype:
            raise _BadTensorError("views untyped bytes without a dtype")
        made = self._view(ref, ref.dtype, offset, size, stride)
        lazy = rest[2] if len(rest) > 2 and isinstance(rest[2], dict) else {}
        if lazy.get("conj") or lazy.get("neg"):
            # torch conjugates and negates on access; the bytes in the file are those before.
            why = "the tensor is conjugated or negated on access, which is not decoded"
            made = replace(made, storage=replace(made.storage, key=f"{made.storage.key} (lazy)", unavailable=why))
        return made

    def _tensor_v3(self, storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any) -> StoredTensor:
        return self._view(self._storage_ref(storage), _dtype(dtype), offset, size, stride)

    def _view(self, ref: StorageRef, dtype: str, offset: Any, size: Any, stride: Any) -> StoredTensor:
        shape = _sizes(size, "size")
        strides = _sizes(stride, "stride")
        if len(shape) != len(strides):
            raise _BadTensorError(f"has {len(shape)} sizes and {len(strides)} strides")
        if type(offset) is not int or not 0 <= offset < 2**62:
            raise _BadTensorError("has a storage offset that is none")
        if 0 not in shape:
            span = offset + 1 + sum((s - 1) * t for s, t in zip(shape, strides, strict=True))
            if (reach := _bytes_of(span, dtype)) > ref.nbytes:
                raise _BadTensorError(
                    f"views {reach:,} bytes of a storage of {ref.nbytes:,} (size {list(shape)}, stride {list(strides)}, offset {offset:,})"
                )
        storage = self._storage(ref)
        if ref.offset:
            width = DTYPE_BITS[dtype] // 8 or 1
            if ref.offset % width:
                raise _BadTensorError("begins within an element of its storage")
            offset += ref.offset // width
        return StoredTensor(shape, strides, dtype, offset, storage)

    def _storage_ref(self, value: Any) -> StorageRef:
        if isinstance(value, Instance) and isinstance(value.kwargs, dict):  # TypedStorage(wrap_storage=…)
            value = value.kwargs.get("wrap_storage", value)
        if isinstance(value, Instance) and value.class_name == NESTED and len(value.args) == 1:
            return self._nested_ref(value.args[0])
        if not isinstance(value, StorageRef):
            raise _BadTensorError("has no storage")
        return value

    def _nested_ref(self, content: Any) -> StorageRef:
        if not isinstance(content, ByteSpan) or self._nested_storage is None:
            raise _BadTensorError("has a storage whose bytes are written as text; saving it with a pickle protocol above 2 avoids that")
        ref = self._nested_refs.get(content.start)
        if ref is None:
            ref, storage = self._nested_storage(content)
            if not self._inline:
                storage = Storage(storage.key, self._path, 0, storage.nbytes, "the values lie in a compressed pickle")
            self._nested_refs[content.start] = ref
            self._storages[ref.key] = storage
        return ref

    def _storage(self, ref: StorageRef) -> Storage:
        storage = self._storages.get(ref.key)
        if storage is None:
            if ref.device == "meta":
                storage = Storage(ref.key, self._path, 0, ref.nbytes, "the tensor was saved from the meta device, without values")
            else:
                storage = self._locate(ref)
            self._storages[ref.key] = storage
        return storage

    def _placeholder(self, shape: tuple[int, ...], dtype: str, why: str) -> StoredTensor:
        key = f"placeholder-{len(self._made)}"
        return StoredTensor(shape, contiguous_strides(shape), dtype, 0, Storage(key, self._path, 0, 0, why))

    def _meta(self, dtype: Any, size: Any, _stride: Any = (), *_: Any) -> StoredTensor:
        return self._placeholder(_sizes(size, "size"), _dtype(dtype), "the tensor was saved from the meta device, without values")

    def _wrapper(self, _class: Any, dtype: Any, size: Any, *_: Any) -> StoredTensor:
        return self._placeholder(_sizes(size, "size"), _dtype(dtype), "the values of a tensor subclass lie elsewhere")

    def _sparse(self, _layout: Any, data: Any) -> StoredTensor:
        if not isinstance(data, tuple) or len(data) < 3:
            raise _BadTensorError("is sparse, without indices, values and size")
        # COO: indices, values, size; CSR and its kin: two index tensors, values, size.
        values, size = (data[1], data[2]) if len(data) <= 4 and not self.is_tensor(data[2]) else (data[2], data[3] if len(data) > 3 else ())
        dtype = self.tensor(values, "values of a sparse tensor").dtype if self.is_tensor(values) else "float32"
        return self._placeholder(_sizes(size, "size"), dtype, "the tensor is sparse, and its values are not decoded")

    def _nested(self, buffer: Any, *_: Any) -> StoredTensor:
        if not self.is_tensor(buffer):
            raise _BadTensorError("is nested, without a buffer")
        return self.tensor(buffer, "buffer of a nested tensor")

    def _from_array(self, data: Any, *_: Any) -> StoredTensor:
        if not self.is_tensor(data):
            raise _BadTensorError("is rebuilt from something that is no array")
        return replace(self.tensor(data, "array of a device tensor"), is_array=False)

    def _array(self, array: Instance) -> StoredTensor:
        state = _array_state(array)
        if state is None:
            raise _BadTensorError("is an array of something else than numbers")
        shape, dtype, big, fortran, data = state
        return self._dense(_sizes(shape, "shape"), dtype, data, big_endian=big, fortran=fortran)

    def _buffer(self, data: Any, dtype: Any, shape: Any, order: Any = "C", *_: Any) -> StoredTensor:
        if isinstance(data, Instance) and len(data.args) == 1:  # bytearray(b"…")
            data = data.args[0]
        found = _numpy_dtype(dtype)
        if found is None:
            raise _BadTensorError("is an array of something else than numbers")
        return self._dense(_sizes(shape, "shape"), found[0], data, big_endian=found[1], fortran=order == "F")

    def _dense(self, shape: tuple[int, ...], dtype: str, data: Any, *, big_endian: bool, fortran: bool) -> StoredTensor:
        strides = tuple(reversed(contiguous_strides(shape[::-1]))) if fortran else contiguous_strides(shape)
        need = _bytes_of(prod(shape), dtype)
        why = ""
        if isinstance(data, (ByteSpan, OldString)):
            start, have = data.start, data.nbytes
        elif isinstance(data, Instance) and data.class_name == "_codecs.encode":
            return StoredTensor(shape, strides, dtype, 0, self._written_as_text(data, need, big_endian), is_array=True)
        else:
            raise _BadTensorError("is an array without data")
        if need != have:
            raise _BadTensorError(f"is an array of shape {list(shape)} over {have:,} bytes, {need:,} of which it needs")
        if not why and (not self._inline or start < 0):
            why = "the values lie in a compressed pickle"
        storage = self._spans.get(start) if start >= 0 else None
        if storage is None:
            key = f"inline-{start}" if start >= 0 else f"inline-{len(self._made)}-encoded"
            storage = Storage(key, self._path, max(start, 0), have, why, big_endian)
            self._spans[start] = storage
        return StoredTensor(shape, strides, dtype, 0, storage, is_array=True)

    def _written_as_text(self, data: Instance, need: int, big_endian: bool) -> Storage:
        """Bytes that protocols 0 to 2 spell as a text, each a character of Latin-1: decoded when they are read."""
        key = f"inline-{len(self._made)}-encoded"
        text = data.args[0] if len(data.args) == 2 and data.args[1] in LATIN else None
        if isinstance(text, str) and len(text) == need and max(text, default="") <= "\xff":
            return Storage(key, self._path, 0, need, "", big_endian, partial(text.encode, "latin-1"))
        if isinstance(text, ByteSpan) and text.text and need <= text.nbytes <= 2 * need:
            if not self._inline:
                return Storage(key, self._path, 0, need, "the values lie in a compressed pickle", big_endian)
            return Storage(key, self._path, text.start, need, "", big_endian, partial(_latin, identity_of(self._path), text, need))
        return Storage(key, self._path, 0, need, "the values are written as a text that is not one of their bytes", big_endian)


def _latin(file: FileIdentity, text: ByteSpan, need: int) -> bytes:
    file.check()
    with opened(file.path, 0) as source:
        spelled = bytes(source.data[text.start : text.start + text.nbytes])
    try:
        content = spelled.decode("utf-8").encode("latin-1")
    except UnicodeError:
        content = b""
    if len(content) != need:
        raise CorruptCheckpointError(file.path, f"an array is written as a text that is not one of {need:,} bytes")
    return content


def unwrapped(value: Instance) -> tuple[Instance, bool]:
    """The tensor within parameters and subclasses, and whether one of them was a parameter."""
    parameter = False
    for _ in range(_MAX_WRAPPERS):
        name, args = value.class_name, value.args
        if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state", "torch.nn.parameter.Parameter"):
            inner, parameter = args[0] if args else None, True
        elif name in ("torch._tensor._rebuild_from_type_v2", "torch._tensor._rebuild_from_type"):
            inner = Instance(args[0], args[2]) if len(args) > 2 and isinstance(args[0], Global) and isinstance(args[2], tuple) else None
            parameter = parameter or (len(args) > 1 and isinstance(args[1], Global) and args[1].name == "torch.nn.parameter.Parameter")
        else:
            break
        if not isinstance(inner, Instance):
            break
        value = inner
    return value, parameter


def _sizes(value: Any, what: str) -> tuple[int, ...]:
    if isinstance(value, Instance) and value.class_name == "torch.Size" and value.args:
        value = value.args[0]
    if not isinstance(value, (tuple, list)):
        raise _BadTensorError(f"has a {what} that is no list of numbers")
    if len(value) > _MAX_RANK:
        raise _BadTensorError(f"has {len(value):,} dimensions")
    numel = 1
    for number in value:
        if type(number) is not int or number < 0:
            raise _BadTensorError(f"has a {what} with something else than non-negative numbers")
        numel *= number or 1
        if numel >= 2**63 and what != "stride":
            raise _BadTensorError(f"has more than 2**63 elements by its {what}")
        if number >= 2**63:
            raise _BadTensorError(f"has a {what} of 2**63 or more")
    return tuple(value)


def _dtype(value: Any) -> str:
    name = value.name if isinstance(value, Global) else ""
    dtype = torch_dtype(name)
    if dtype is None:
        raise _BadTensorError(f"has the unknown dtype {name or 'None'}")
    return dtype


def _numpy_dtype(value: Any) -> tuple[str, bool] | None:
    """Name of a pickled ``numpy.dtype`` of numbers, and whether its bytes stand in big-endian order; None for another."""
    if not isinstance(value, Instance) or value.class_name != "numpy.dtype" or not value.args or not isinstance(value.args[0], str):
        return None
    code = value.args[0]
    order = code[0] if code[:1] in "<>|=" else ""
    dtype = _NUMPY_CODES.get(code.lstrip("<>|="))
    if isinstance(value.state, tuple) and len(value.state) > 1 and isinstance(value.state[1], str):
        order = value.state[1] or order
    return None if dtype is None else (dtype, order == ">")


def _array_state(array: Instance) -> tuple[Any, str, bool, bool, Any] | None:
    """Shape as in the file, dtype, big-endian, Fortran order and data of a pickled ``ndarray`` of numbers; None for another."""
    state = array.state
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        return None
    shape, dtype, fortran, data = state[-4:]
    found = _numpy_dtype(dtype)
    if found is None:
        return None
    return shape, found[0], found[1], fortran is True or fortran == 1, data


def numpy_scalar(value: Instance) -> int | float | bool | None:
    """The value of a pickled numpy scalar, or None when it is none, or none of a simple kind."""
    if value.class_name not in _NUMPY_SCALARS or len(value.args) != 2:
        return None
    found, content = _numpy_dtype(value.args[0]), small_bytes(value.args[1])
    if found is None or found[0] not in _SCALAR_CODES:
        return None
    layout = struct.Struct((">" if found[1] else "<") + _SCALAR_CODES[found[0]])
    if content is None or len(content) != layout.size:
        return None
    number: int | float | bool = layout.unpack(content)[0]
    return number


def small_bytes(value: Any) -> bytes | None:
    """A few bytes, in any of the ways that pickles spell them; None for anything else."""
    if isinstance(value, ByteSpan):
        return value.small
    if isinstance(value, OldString):
        content = value.encode("utf-8")
        return content if len(content) == value.nbytes else value.encode("latin-1")
    if isinstance(value, Instance) and value.class_name == "_codecs.encode" and value.args and isinstance(value.args[0], str):
        try:
            return value.args[0][:4096].encode("latin-1")
        except UnicodeEncodeError:
            return None
    return None
