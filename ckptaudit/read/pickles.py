"""A pickle machine that builds and never calls.

It runs the opcodes of every pickle protocol on the bytes of a file, but no opcode imports or calls anything: a global becomes a
:class:`Global`, a call an :class:`Instance` that remembers what would have been called with what. What the pickle means is decided
afterwards, by looking at these stand-ins.

A hostile pickle gets no more memory than a small multiple of its file's size: lengths are checked against the bytes that are left, long
strings stay in the file, nothing is copied that a few bytes could ask to be copied again, and the number of opcodes is bounded. Keys that
could make hashing slow (nested tuples, chosen integers) are kept by identity.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import CheckpointError, CorruptCheckpointError
from ckptaudit.read.checkpoint import RefusedGlobal
from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from pathlib import Path

#: Opcodes that the pickles of one file may take. An honest file spends four bytes or more on each (and a tensor takes 36); an opcode can
#: cost 70 bytes of memory, so a small compressed file must not ask for many.
_OPCODES_AT_LEAST, _BYTES_PER_OPCODE, _OPCODES_AT_MOST = 1_000_000, 3, 20_000_000

#: Strings above this stay in the file; no name and no setting is that long.
_MAX_TEXT = 1 << 20

#: Elements that calls such as ``OrderedDict(pairs)`` may copy in all.
_MAX_COPIED = 1 << 20

#: Elements that one call such as ``numpy.ndarray(shape)`` may ask for, in so many dimensions: what holds values comes with its values.
_MAX_ALLOCATED, _MAX_DIMENSIONS = 1 << 20, 64

#: Bytes up to this are kept beside their place in the file.
_SMALL = 4096

#: Bytes of a large file that are read together, and at most; no opcode takes more than so many before a text or bytes.
_AHEAD, _AHEAD_AT_MOST, _LONGEST = 1 << 14, 1 << 20, 16

#: What is shown of a refused call: so many arguments, so much of each.
_SHOWN, _SHOWN_TEXT = 3, 80

_MAX_HASH = 2**61 - 1  # integers from here on can be chosen to share one hash


@dataclass(slots=True, eq=False)
class Global:
    """A class or function by name, not imported.

    Attributes
    ----------
    name:
        Dotted, as in the file.
    allowed:
        Whether it is one of those that checkpoints are made of.
    position:
        Byte offset, within its pickle, of the opcode that named it first.
    called:
        Whether the pickle would have it called.
    arguments:
        What with, shortened: of the first call of what is not allowed.
    """

    name: str
    allowed: bool
    position: int
    called: bool = False
    arguments: str = ""


@dataclass(slots=True, eq=False)
class Instance:
    """What calling ``factory`` would have given: any object of any class.

    Attributes
    ----------
    factory:
        A :class:`Global`, or another stand-in that would have been called.
    args, kwargs:
        Arguments of the call.
    state:
        What ``__setstate__`` or ``__dict__`` would have been given.
    entries, elements:
        Items that were set, and elements that were appended or added.
    """

    factory: Any
    args: tuple[Any, ...]
    kwargs: Any = None
    state: Any = None
    entries: dict[Any, Any] | None = None
    elements: list[Any] | None = None

    @property
    def class_name(self) -> str:
        """Dotted name of what was called, or ``""`` when it has none."""
        return self.factory.name if isinstance(self.factory, Global) else ""


class PickledDict(dict[Any, Any]):
    """An ``OrderedDict`` or another dictionary class. ``state`` holds its attributes (a state dict's ``_metadata``)."""

    __slots__ = ("class_name", "state")

    def __init__(self, class_name: str) -> None:
        super().__init__()
        self.class_name = class_name
        self.state: Any = None


class ByteSpan:
    """Bytes that stay in the file.

    Attributes
    ----------
    start, nbytes:
        Where they lie in the buffer that the pickle was read from.
    small:
        The bytes themselves when they are few, else None.
    text:
        Whether they are a text in UTF-8.
    """

    __slots__ = ("nbytes", "small", "start", "text")

    def __init__(self, start: int, nbytes: int, small: bytes | None, text: bool = False) -> None:
        self.text = text
        self.start = start
        self.nbytes = nbytes
        self.small = small


class OldString(str):
    """A Python 2 string: text as a key, bytes as the payload of an array. Latin-1 where it is not UTF-8."""

    __slots__ = ("nbytes", "start")
    start: int
    nbytes: int


class OpaqueKey:
    """A dictionary key that is not hashed by value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Refusals:
    """What the pickles of one file name outside the allow-list."""

    def __init__(self) -> None:
        self._found: list[tuple[Global, str]] = []

    def add(self, names: Iterable[Global], pickle: str) -> None:
        """Record the refused ones among ``names``."""
        self._found += [(name, pickle) for name in names if not name.allowed]

    @property
    def globals(self) -> tuple[RefusedGlobal, ...]:
        """One record per name and pickle, in the order of the file."""
        return tuple(RefusedGlobal(name.name, name.position, name.called, pickle, name.arguments) for name, pickle in self._found)

    @contextmanager
    def told_on_error(self) -> Iterator[None]:
        """Let an error about a file say what its pickles would have called, too: damage must not hide an attack."""
        try:
            yield
        except CheckpointError as error:
            called = list(dict.fromkeys(name.name for name, _ in self._found if name.called))
            named = called or list(dict.fromkeys(name.name for name, _ in self._found))
            if not named:
                raise
            more = f" and {len(named) - 5:,} more" if len(named) > 5 else ""
            verb = "calls" if called else "names"
            told = type(error)(error.path, f"{error.reason}; its pickle {verb} {', '.join(named[:5])}{more}")
            told.refused_globals = self.globals
            raise told from None


def _brief(args: tuple[Any, ...]) -> str:
    """The first arguments of a call, as one would write them."""
    shown = [_brief_value(value) for value in args[:_SHOWN]]
    return ", ".join([*shown, "…"] if len(args) > _SHOWN else shown)


def _brief_value(value: Any) -> str:
    if isinstance(value, str):
        return repr(value[:_SHOWN_TEXT]) if len(value) <= _SHOWN_TEXT else f"{value[:_SHOWN_TEXT]!r}…"
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and value.bit_length() <= 64):
        return repr(value)
    if isinstance(value, ByteSpan) and value.small is not None:
        return repr(value.small[:_SHOWN_TEXT]) + ("…" if value.nbytes > _SHOWN_TEXT else "")
    if isinstance(value, Global):
        return value.name[:_SHOWN_TEXT]
    if isinstance(value, Instance):
        return f"{value.class_name[:_SHOWN_TEXT]}(…)"
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], str):
        return f"[{value[0][:_SHOWN_TEXT]!r}{', …' if len(value) > 1 else ''}]"
    return "…"


class MalformedError(Exception):
    """An opcode cannot be carried out; the text says why."""


class _CutError(Exception):
    """The pickle goes on past its end."""


class _Stop(Exception):  # noqa: N818 -- the regular end of a pickle is no error
    """The STOP opcode."""


class Machine:
    """Runs the pickles of one file, one after the other.

    Parameters
    ----------
    data:
        The bytes, in memory or as :class:`~ckptaudit.read.file_bytes.FileBytes`.
    path:
        The file, for messages.
    refusals:
        Collects refused globals.
    allowed:
        Whether a dotted name needs no mention.
    persistent:
        Gives the stand-in of a persistent id, or raises :class:`MalformedError`.
    size:
        Bytes of the file, which bound the work that it can ask for.
    watched:
        Dotted name of a function whose calls matter at once.
    watch:
        Is given the machine and the arguments of each such call, and says whether they are what they should be; if not, the function is
        refused.
    """

    def __init__(
        self,
        data: Any,
        path: Path,
        refusals: Refusals,
        *,
        allowed: Callable[[str], bool],
        persistent: Callable[[Any], Any],
        size: int,
        watched: str = "",
        watch: Callable[[Machine, tuple[Any, ...]], bool] = lambda machine, args: False,
    ) -> None:
        self.data = data
        self.path = path
        self.persistent = persistent
        #: What is at hand of the data, where in the data that begins, and where in it the next byte is read.
        self.near: bytes = b""
        self._base = self.at = 0
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self._refusals = refusals
        self._allowed = allowed
        self._opcodes = min(max(size // _BYTES_PER_OPCODE, _OPCODES_AT_LEAST), _OPCODES_AT_MOST)
        self._copies = _MAX_COPIED
        self._watched, self._watch = watched, watch
        self._begin = self._end = 0
        self._globals: dict[str, Global] = {}

    @property
    def position(self) -> int:
        """Where in the data the next byte is read; behind the pickle after :meth:`run`."""
        return self._base + self.at

    @position.setter
    def position(self, position: int) -> None:
        self.at = position - self._base

    def run(self, start: int, end: int, label: str) -> Any:
        """Run the pickle that begins at ``start`` and must end before ``end``.

        Raises
        ------
        CorruptCheckpointError
            It is truncated or malformed; the message names the byte, counted from ``start``.
        """
        self._begin = start
        self._globals, self.stack, self.marks, self.memo = {}, [], [], {}
        handlers, count = _HANDLERS, 0
        try:
            near, limit = self._look(start, end)
            for count in range(self._opcodes):  # noqa: B007 -- counting costs nothing this way
                at = self.at
                if at >= limit:
                    near, limit = self._look(self._base + at, end)
                    at = self.at
                self.at = at + 1
                handlers[near[at]](self)
            raise MalformedError(f"takes more than {self._opcodes:,} operations to read, too many for a file of its size")
        except _Stop:
            return self.stack[-1]
        except MalformedError as error:
            raise self._corrupt(label, str(error)) from None
        except (_CutError, IndexError, struct.error) as error:
            if isinstance(error, IndexError) and self.at <= self._end:
                raise self._corrupt(label, "takes more from its stack than is on it") from None
            raise self._corrupt(label, f"is truncated: it goes on past its {end - start:,} bytes") from None
        except (ValueError, OverflowError) as error:
            raise self._corrupt(label, f"holds a value that cannot be decoded ({str(error)[:80]})") from None
        finally:
            self._opcodes -= count
            self._refusals.add(self._globals.values(), label)
            self.stack, self.marks, self.memo = [], [], {}

    def _corrupt(self, label: str, reason: str) -> CorruptCheckpointError:
        return CorruptCheckpointError(self.path, f"{label} {reason} (at byte {self.position - self._begin:,})")

    def _look(self, position: int, end: int) -> tuple[bytes, int]:
        """Move on to what begins at ``position``; gives it, and up to where in it an opcode may begin."""
        if position >= end:
            raise _CutError
        if isinstance(self.data, bytes):
            self.near, self.at, self._end = self.data, position, end
            return self.near, end
        # The longer a pickle goes on without a gap, the more of it is read at once; arrays within it are stepped over.
        count = min(2 * len(self.near), _AHEAD_AT_MOST) if self._base < position <= self._base + len(self.near) else _AHEAD
        stop = min(position + count, end)
        self.near, self._base, self.at, self._end = self.data[position:stop], position, 0, end - position
        return self.near, len(self.near) if stop == end else len(self.near) - _LONGEST

    def piece(self, start: int, count: int) -> bytes:
        """Bytes of an opcode's argument, whose length was checked."""
        if start + count <= len(self.near):
            return self.near[start : start + count]
        found: bytes = self.data[self._base + start : self._base + start + count]
        return found

    def take(self, count: int) -> int:
        """Step over ``count`` bytes and return where they begin."""
        start = self.at
        if count > self._end - start:
            raise _CutError
        self.at = start + count
        return start

    def take_bytes(self, count: int) -> bytes:
        """Step over ``count`` bytes and return them."""
        return self.piece(self.take(count), count)

    def take_line(self) -> bytes:
        """Step over the rest of the line and return it without its end."""
        start = self.at
        stop = self.near.find(b"\n", start, self._end)
        if stop < 0 and len(self.near) < self._end:
            stop = self.data.find(b"\n", self._base + start, self._base + min(self._end, start + _MAX_TEXT + 2)) - self._base
            if stop < 0 and self._end > start + _MAX_TEXT + 2:
                raise MalformedError(f"holds a line of more than {_MAX_TEXT:,} characters")
        if stop < 0:
            raise _CutError
        if stop - start > _MAX_TEXT:
            raise MalformedError(f"holds a line of {stop - start:,} characters")
        self.at = stop + 1
        return self.piece(start, stop - start)

    def pop_mark(self) -> list[Any]:
        """Everything above the last mark; the stack below it comes back."""
        if not self.marks:
            raise MalformedError("takes more from its stack than is on it: a mark is missing")
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def push_text(self, count: int) -> None:
        """Push ``count`` bytes of UTF-8."""
        start = self.take(count)
        if count > _MAX_TEXT:
            self.stack.append(ByteSpan(self._base + start, count, None, True))
        else:
            self.stack.append(str(self.piece(start, count), "utf-8", "surrogatepass"))

    def push_bytes(self, count: int) -> None:
        """Push ``count`` bytes, which stay where they are."""
        start = self.take(count)
        self.stack.append(ByteSpan(self._base + start, count, self.piece(start, count) if count <= _SMALL else None))

    def push_old_string(self, start: int, content: bytes) -> None:
        """Push a Python 2 string, whose content lies at ``start``; nowhere as it is if that is negative."""
        try:
            text = OldString(content, "utf-8")
        except UnicodeDecodeError:
            text = OldString(content, "latin-1")
        text.start, text.nbytes = self._base + start if start >= 0 else -1, len(content)
        self.stack.append(text)

    def find_global(self, module: Any, name: Any, at: int) -> Global:
        """The one stand-in, within this pickle, of a global; ``at`` is where its opcode stands."""
        if isinstance(module, str) and isinstance(name, str):
            dotted = f"{module}.{name}"
        else:
            dotted = ".".join(part if isinstance(part, str) else "<computed>" for part in (module, name))
        found = self._globals.get(dotted)
        if found is None:
            found = self._globals[dotted] = Global(dotted, self._allowed(dotted), self._base + at - self._begin)
        return found

    def call(self, factory: Any, args: Any, kwargs: Any = None) -> Any:
        """What calling ``factory`` gives: a dictionary for the dictionary classes, else an :class:`Instance`."""
        arguments = args if isinstance(args, tuple) else (args,)
        if not isinstance(factory, Global):
            return Instance(factory, arguments, kwargs)
        factory.called = True
        if not factory.allowed and not factory.arguments:
            factory.arguments = _brief(arguments)
        if factory.name == self._watched:
            if not self._watch(self, arguments):
                factory.allowed = False
        elif factory.name in _APPLIERS:
            self._apply(arguments)
        if factory.name in _DICTIONARIES:
            return self._dictionary(factory.name, arguments)
        if factory.name in _RECONSTRUCTORS and arguments:
            # copyreg._reconstructor(cls, object, None) is how protocols 0 and 1 spell cls.__new__(cls).
            if isinstance(arguments[0], Global):
                arguments[0].called = True
            return Instance(arguments[0], arguments[3:])
        if factory.name in _ALLOCATORS or factory.name.endswith("Storage"):
            _refuse_allocation(factory, arguments, kwargs)
        return Instance(factory, arguments, kwargs)

    def _apply(self, args: tuple[Any, ...]) -> None:
        """What a function does that calls its first argument with its third, which honest files always give as a plain tuple."""
        while len(args) > 2 and isinstance(args[0], Global):
            function, given = args[0], args[2]
            plain = isinstance(given, tuple)
            function.called = True
            if not function.allowed and not function.arguments:
                function.arguments = _brief(given if plain else (given,))
            # What an applier or a watched function is given must be known: a list does as well when the file is loaded.
            if function.name in _APPLIERS:
                if not plain:
                    function.allowed = False
                    break
            else:
                if function.name == self._watched and not (plain and self._watch(self, given)):
                    function.allowed = False
                break
            args = given

    def set_state(self, state: Any) -> None:
        """Refuse attributes that would be called behind the scenes: a watched function as ``__setstate__`` or ``append``."""
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                for value in part.values():
                    if isinstance(value, Global) and value.name == self._watched:
                        value.allowed = False

    def _dictionary(self, class_name: str, args: tuple[Any, ...]) -> PickledDict:
        built = PickledDict(class_name)
        given = args[-1] if args else None
        if isinstance(given, dict):
            pairs: Iterable[Any] = given.items()
        elif isinstance(given, (list, tuple)):
            pairs = given
        else:
            return built
        for pair in pairs:
            self._copies -= 1
            if self._copies < 0:
                raise MalformedError(f"copies more than {_MAX_COPIED:,} items")
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise MalformedError(f"makes a {class_name} of something else than pairs")
            built[as_key(pair[0])] = pair[1]
        return built


_DICTIONARIES = frozenset(
    {"collections.OrderedDict", "collections.defaultdict", "collections.Counter", "builtins.dict", "__builtin__.dict"}
)
_RECONSTRUCTORS = frozenset({"copy_reg._reconstructor", "copyreg._reconstructor"})
_APPLIERS = frozenset({"torch._tensor._rebuild_from_type_v2", "torch._tensor._rebuild_from_type"})
_BYTES = frozenset(f"{module}.{word}" for module in ("builtins", "__builtin__") for word in ("bytes", "bytearray"))
#: What makes as many elements as it is told to.
_ALLOCATORS = (
    _BYTES
    | {f"{module}.{word}" for module in ("builtins", "__builtin__") for word in ("list", "tuple", "set", "frozenset")}
    | {"numpy.ndarray", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct", "torch.Tensor", "torch.FloatTensor"}
)


def _refuse_allocation(factory: Global, args: tuple[Any, ...], kwargs: Any) -> None:
    """``bytearray(2**40)`` would take all memory when the file is loaded; nobody saves a checkpoint that way."""
    wanted = 1
    for value in (*args, *(kwargs.values() if isinstance(kwargs, dict) else ())):
        if isinstance(value, Instance) and value.class_name.endswith("range"):
            sizes: Sequence[Any] = (max((abs(n) for n in value.args if isinstance(n, int)), default=0),)
        else:
            sizes = value if isinstance(value, (tuple, list)) else (value,)
        for size in sizes[:_MAX_DIMENSIONS]:
            if isinstance(size, int) and size > 1:
                wanted *= size
            if wanted > _MAX_ALLOCATED:
                raise MalformedError(f"calls {factory.name}, which would allocate more than {_MAX_ALLOCATED:,} elements when it is loaded")
    if wanted > 1 and factory.name in _BYTES:
        factory.allowed = False


def as_key(value: Any) -> Any:
    """``value`` as a dictionary key: by value where that is cheap, else by identity."""
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < _MAX_HASH else OpaqueKey(value)
    if isinstance(value, float):
        return value
    if isinstance(value, ByteSpan) and value.small is not None:
        return value.small
    if isinstance(value, (dict, list)) or (isinstance(value, Instance) and value.class_name in ("builtins.set", "__builtin__.set")):
        raise MalformedError(f"uses a {type(value).__name__} as a dictionary key")
    return OpaqueKey(value)


# One function per opcode, by the name that pickletools gives it.
#
# The commonest ones take their few bytes without asking whether so many are left: the machine notices before the next opcode that it has
# gone too far. All that take a length ask first.

_Handler = Callable[[Machine], None]
_U16 = struct.Struct("<H").unpack_from
_U32 = struct.Struct("<I").unpack_from
_I32 = struct.Struct("<i").unpack_from
_U64 = struct.Struct("<Q").unpack_from
_F64 = struct.Struct(">d").unpack_from


def _unknown(machine: Machine) -> None:
    raise MalformedError(f"has an unknown opcode, 0x{machine.near[machine.at - 1]:02x}")


def _u8(machine: Machine) -> int:
    start = machine.at
    machine.at = start + 1
    value: int = machine.near[start]
    return value


def _u32(machine: Machine) -> int:
    start = machine.at
    machine.at = start + 4
    value: int = _U32(machine.near, start)[0]
    return value


def _u64(machine: Machine) -> int:
    value: int = _U64(machine.near, machine.take(8))[0]
    return value


def _i32(machine: Machine) -> int:
    """A signed length; pickles before protocol 4 have no other."""
    value: int = _I32(machine.near, machine.take(4))[0]
    if value < 0:
        raise MalformedError(f"declares a negative length, {value}")
    return value


def _number(line: bytes, what: str) -> int:
    if len(line) > 4000:  # int() of more digits is quadratic, and refused by Python itself
        raise MalformedError(f"holds {what} of {len(line):,} digits")
    try:
        return int(line)
    except ValueError:
        raise MalformedError(f"holds {what} that is no number") from None


def _proto(machine: Machine) -> None:
    protocol = _u8(machine)
    if protocol > 5:
        raise MalformedError(f"is of protocol {protocol}, which does not exist")


def _frame(machine: Machine) -> None:
    machine.take(8)  # frames only tell how much to read ahead; loaders differ on one that lies, so none is believed


def _stop(machine: Machine) -> None:
    if not machine.stack:
        raise MalformedError("has nothing on its stack where it ends")
    raise _Stop


def _mark(machine: Machine) -> None:
    machine.marks.append(machine.stack)
    machine.stack = []


def _pop(machine: Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_mark()


def _pop_mark(machine: Machine) -> None:
    machine.pop_mark()


def _dup(machine: Machine) -> None:
    machine.stack.append(machine.stack[-1])


def _none(machine: Machine) -> None:
    machine.stack.append(None)


def _newtrue(machine: Machine) -> None:
    machine.stack.append(True)


def _newfalse(machine: Machine) -> None:
    machine.stack.append(False)


def _int(machine: Machine) -> None:
    line = machine.take_line()
    machine.stack.append({b"00": False, b"01": True}[line] if line in (b"00", b"01") else _number(line, "an int"))


def _long(machine: Machine) -> None:
    machine.stack.append(_number(machine.take_line().removesuffix(b"L"), "a long"))


def _binint(machine: Machine) -> None:
    machine.stack.append(_I32(machine.near, machine.take(4))[0])


def _binint1(machine: Machine) -> None:
    start = machine.at
    machine.at = start + 1
    machine.stack.append(machine.near[start])


def _binint2(machine: Machine) -> None:
    machine.stack.append(_U16(machine.near, machine.take(2))[0])


def _push_long(machine: Machine, count: int) -> None:
    start = machine.take(count)
    if count > _MAX_TEXT:
        raise MalformedError(f"holds an integer of {count:,} bytes")
    machine.stack.append(int.from_bytes(machine.piece(start, count), "little", signed=True))


def _long1(machine: Machine) -> None:
    _push_long(machine, _u8(machine))


def _long4(machine: Machine) -> None:
    _push_long(machine, _i32(machine))


def _float(machine: Machine) -> None:
    line = machine.take_line()
    if len(line) > 4000:
        raise MalformedError(f"holds a float of {len(line):,} digits")
    machine.stack.append(float(line))


def _binfloat(machine: Machine) -> None:
    machine.stack.append(_F64(machine.near, machine.take(8))[0])


def _string(machine: Machine) -> None:
    start = machine.at
    line = machine.take_line()
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        raise MalformedError("holds a string without quotes")
    content, _ = codecs.escape_decode(line[1:-1])
    # Escaped bytes do not lie in the file as they are: only an unescaped string can be read in place.
    machine.push_old_string(start + 1 if content == line[1:-1] else -1, content)


def _binstring(machine: Machine) -> None:
    _push_binstring(machine, _i32(machine))


def _short_binstring(machine: Machine) -> None:
    _push_binstring(machine, _u8(machine))


def _push_binstring(machine: Machine, count: int) -> None:
    if count > _SMALL:
        machine.push_bytes(count)  # the payload of an array, or a text that no audit needs
        return
    start = machine.at
    machine.push_old_string(start, machine.take_bytes(count))


def _unicode(machine: Machine) -> None:
    machine.stack.append(str(machine.take_line(), "raw-unicode-escape"))


def _binunicode(machine: Machine) -> None:
    start = machine.at
    machine.at = start + 4
    machine.push_text(_U32(machine.near, start)[0])


def _short_binunicode(machine: Machine) -> None:
    machine.push_text(_u8(machine))


def _binunicode8(machine: Machine) -> None:
    machine.push_text(_u64(machine))


def _binbytes(machine: Machine) -> None:
    machine.push_bytes(_u32(machine))


def _short_binbytes(machine: Machine) -> None:
    machine.push_bytes(_u8(machine))


def _binbytes8(machine: Machine) -> None:
    machine.push_bytes(_u64(machine))


def _next_buffer(machine: Machine) -> None:
    raise MalformedError("refers to a buffer outside the file")


def _empty_tuple(machine: Machine) -> None:
    machine.stack.append(())


def _tuple(machine: Machine) -> None:
    items = tuple(machine.pop_mark())
    machine.stack.append(items)


def _tuple1(machine: Machine) -> None:
    machine.stack[-1] = (machine.stack[-1],)


def _tuple2(machine: Machine) -> None:
    stack = machine.stack
    stack[-2:] = [(stack[-2], stack[-1])]


def _tuple3(machine: Machine) -> None:
    stack = machine.stack
    stack[-3:] = [(stack[-3], stack[-2], stack[-1])]


def _empty_list(machine: Machine) -> None:
    machine.stack.append([])


def _list(machine: Machine) -> None:
    items = machine.pop_mark()
    machine.stack.append(items)


def _append(machine: Machine) -> None:
    value = machine.stack.pop()
    _extend(machine.stack[-1], [value])


def _appends(machine: Machine) -> None:
    items = machine.pop_mark()
    _extend(machine.stack[-1], items)


def _extend(target: Any, items: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)
    elif isinstance(target, Instance):
        if target.elements is None:
            target.elements = []
        target.elements.extend(items)
    else:
        raise MalformedError(f"appends to a {type(target).__name__}")


def _empty_set(machine: Machine) -> None:
    machine.stack.append(Instance(_SET, (), elements=[]))


def _frozenset(machine: Machine) -> None:
    items = machine.pop_mark()
    machine.stack.append(Instance(_FROZENSET, (), elements=items))


_SET = Global("builtins.set", True, 0)
_FROZENSET = Global("builtins.frozenset", True, 0)


def _empty_dict(machine: Machine) -> None:
    machine.stack.append({})


def _dict(machine: Machine) -> None:
    items = machine.pop_mark()
    built: dict[Any, Any] = {}
    _set_items(built, items)
    machine.stack.append(built)


def _setitem(machine: Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _set_items(machine.stack[-1], [key, value])


def _setitems(machine: Machine) -> None:
    items = machine.pop_mark()
    _set_items(machine.stack[-1], items)


def _set_items(target: Any, items: list[Any]) -> None:
    if isinstance(target, Instance):
        if target.entries is None:
            target.entries = {}
        target = target.entries
    elif not isinstance(target, dict):
        raise MalformedError(f"sets items of a {type(target).__name__}")
    if len(items) % 2:
        raise MalformedError("sets an item without a value")
    for position in range(0, len(items), 2):
        key = items[position]
        target[key if type(key) is str else as_key(key)] = items[position + 1]


def _put(machine: Machine) -> None:
    machine.memo[_memo_index(machine)] = machine.stack[-1]


def _binput(machine: Machine) -> None:
    start = machine.at
    machine.at = start + 1
    machine.memo[machine.near[start]] = machine.stack[-1]


def _long_binput(machine: Machine) -> None:
    start = machine.at
    machine.at = start + 4
    machine.memo[_U32(machine.near, start)[0]] = machine.stack[-1]


def _memoize(machine: Machine) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _get(machine: Machine) -> None:
    _recall(machine, _memo_index(machine))


def _binget(machine: Machine) -> None:
    start = machine.at
    machine.at = start + 1
    _recall(machine, machine.near[start])


def _long_binget(machine: Machine) -> None:
    _recall(machine, _u32(machine))


def _memo_index(machine: Machine) -> int:
    index = _number(machine.take_line(), "a memo index")
    if not 0 <= index <= 0xFFFFFFFF:
        raise MalformedError("uses a memo index out of range")
    return index


def _recall(machine: Machine, index: int) -> None:
    try:
        value = machine.memo[index]
    except KeyError:
        raise MalformedError(f"recalls memo entry {index}, which was never set") from None
    machine.stack.append(value)


def _global(machine: Machine) -> None:
    at = machine.at - 1
    module = str(machine.take_line(), "utf-8", "surrogateescape")
    name = str(machine.take_line(), "utf-8", "surrogateescape")
    machine.stack.append(machine.find_global(module, name, at))


def _stack_global(machine: Machine) -> None:
    at = machine.at - 1
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.find_global(module, name, at))


def _ext(machine: Machine, width: int) -> None:
    at = machine.at - 1
    code = int.from_bytes(machine.take_bytes(width), "little")
    machine.stack.append(machine.find_global("copyreg.extension", str(code), at))


def _ext1(machine: Machine) -> None:
    _ext(machine, 1)


def _ext2(machine: Machine) -> None:
    _ext(machine, 2)


def _ext4(machine: Machine) -> None:
    _ext(machine, 4)


def _reduce(machine: Machine) -> None:
    args = machine.stack.pop()
    machine.stack[-1] = machine.call(machine.stack[-1], args)


def _newobj_ex(machine: Machine) -> None:
    kwargs, args = machine.stack.pop(), machine.stack.pop()
    machine.stack[-1] = machine.call(machine.stack[-1], args, kwargs)


def _inst(machine: Machine) -> None:
    _global(machine)
    factory = machine.stack.pop()
    args = tuple(machine.pop_mark())
    machine.stack.append(machine.call(factory, args))


def _obj(machine: Machine) -> None:
    items = machine.pop_mark()
    factory = items[0]
    machine.stack.append(machine.call(factory, tuple(items[1:])))


def _build(machine: Machine) -> None:
    state = machine.stack.pop()
    target = machine.stack[-1]
    machine.set_state(state)
    if isinstance(target, (Instance, PickledDict)):
        target.state = state
    elif isinstance(target, Global):
        target.called = True
        target.allowed = False  # attributes of a class or function itself would be replaced; nothing honest does that
    else:
        raise MalformedError(f"sets the state of a {type(target).__name__}")


def _persid(machine: Machine) -> None:
    machine.stack.append(machine.persistent(str(machine.take_line(), "latin-1")))


def _binpersid(machine: Machine) -> None:
    machine.stack[-1] = machine.persistent(machine.stack[-1])


_OPCODES: MappingProxyType[bytes, _Handler] = MappingProxyType(
    {
        b"\x80": _proto,
        b"\x95": _frame,
        b".": _stop,
        b"(": _mark,
        b"0": _pop,
        b"1": _pop_mark,
        b"2": _dup,
        b"N": _none,
        b"\x88": _newtrue,
        b"\x89": _newfalse,
        b"I": _int,
        b"L": _long,
        b"J": _binint,
        b"K": _binint1,
        b"M": _binint2,
        b"\x8a": _long1,
        b"\x8b": _long4,
        b"F": _float,
        b"G": _binfloat,
        b"S": _string,
        b"T": _binstring,
        b"U": _short_binstring,
        b"V": _unicode,
        b"X": _binunicode,
        b"\x8c": _short_binunicode,
        b"\x8d": _binunicode8,
        b"B": _binbytes,
        b"C": _short_binbytes,
        b"\x8e": _binbytes8,
        b"\x96": _binbytes8,  # BYTEARRAY8
        b"\x97": _next_buffer,
        b"\x98": _next_buffer,  # READONLY_BUFFER
        b")": _empty_tuple,
        b"t": _tuple,
        b"\x85": _tuple1,
        b"\x86": _tuple2,
        b"\x87": _tuple3,
        b"]": _empty_list,
        b"l": _list,
        b"a": _append,
        b"e": _appends,
        b"\x8f": _empty_set,
        b"\x90": _appends,  # ADDITEMS
        b"\x91": _frozenset,
        b"}": _empty_dict,
        b"d": _dict,
        b"s": _setitem,
        b"u": _setitems,
        b"p": _put,
        b"q": _binput,
        b"r": _long_binput,
        b"\x94": _memoize,
        b"g": _get,
        b"h": _binget,
        b"j": _long_binget,
        b"c": _global,
        b"\x93": _stack_global,
        b"\x82": _ext1,
        b"\x83": _ext2,
        b"\x84": _ext4,
        b"R": _reduce,
        b"\x81": _reduce,  # NEWOBJ: class and arguments stand as function and arguments do
        b"\x92": _newobj_ex,
        b"i": _inst,
        b"o": _obj,
        b"b": _build,
        b"P": _persid,
        b"Q": _binpersid,
    }
)

#: The same by the value of the byte: a list is the fastest switch that Python has.
_HANDLERS: list[_Handler] = [_OPCODES.get(bytes((code,)), _unknown) for code in range(256)]

#: Bytes that a pickle can begin with; before protocol 2 nothing else marks one.
OPENERS = frozenset(code[0] for code in _OPCODES) - frozenset(b".01aesubQoRtdl")
