"""The part of the standard library's dataclasses that this project needs, where a command is over before those are imported.

``dataclasses`` imports ``inspect`` and compiles seven functions for each class: together a third of the time of scanning a small file.
Here one function is compiled, the constructor, and that for classes that many objects are made of. Type checkers see the original;
``dataclasses.replace``, ``fields`` and ``asdict`` work on these classes too. ``tests/test_records.py`` holds both against each other.
"""

from __future__ import annotations

from functools import partial
from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
    from typing import Any

__all__ = ["dataclass", "field", "replace"]

_NONE: Any = object()
#: Objects of a class that are made without compiling its constructor, which takes as long as making forty of them otherwise.
_FEW = 16


class _Field:
    """What :func:`field` tells of a field."""

    __slots__ = ("compare", "default", "factory", "repr")

    def __init__(self, default: Any = _NONE, factory: Any = _NONE, compare: bool = True, repr: bool = True) -> None:  # noqa: A002
        self.default, self.factory, self.compare, self.repr = default, factory, compare, repr

    @property
    def required(self) -> bool:
        """Whether whoever makes an object has to give it."""
        return self.default is _NONE and self.factory is _NONE


class _Original:
    """``__dataclass_fields__`` or ``__dataclass_params__``, made when the standard library asks for it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: Any) -> Any:
        import dataclasses

        made: list[tuple[str, Any, Any]] = []
        for name, own in owner._fields.items():
            told = {"default": own.default, "default_factory": own.factory}
            told = {key: value for key, value in told.items() if value is not _NONE}
            made.append((name, owner.__annotations__[name], dataclasses.field(compare=own.compare, repr=own.repr, **told)))
        original: Any = dataclasses.make_dataclass(owner.__name__, made, frozen=owner._frozen)
        owner.__dataclass_fields__, owner.__dataclass_params__ = original.__dataclass_fields__, original.__dataclass_params__
        return getattr(owner, self._name)


if not TYPE_CHECKING:

    def field(*, default=_NONE, default_factory=_NONE, compare=True, repr=True):  # noqa: A002
        """A field with a default, or one that takes no part in comparisons or in the text of an object."""
        return _Field(default, default_factory, compare, repr)

    def replace(made, /, **changes):
        """The same object with other values in some fields."""
        return made.__class__(**{name: getattr(made, name) for name in made.__match_args__} | changes)

    def dataclass(*, frozen=False, slots=False, eq=True):
        """Give a class a constructor for its annotated fields, not for inherited ones; see :func:`dataclasses.dataclass`."""

        def make(cls):
            body = dict(cls.__dict__)
            fields = {}
            for name in body.get("__annotations__", {}):
                given = body.get(name, _NONE)
                fields[name] = given if isinstance(given, _Field) else _Field(given)
                if isinstance(given, _Field) or slots:
                    body.pop(name, None)
            body |= {"_fields": fields, "__match_args__": tuple(fields), "_frozen": frozen, "__repr__": body.get("__repr__", _repr)}
            if cls.__reduce__ is object.__reduce__:
                body["__reduce__"] = _reduce
            body |= {name: _Original(name) for name in ("__dataclass_fields__", "__dataclass_params__")}
            if eq:
                compared = [name for name, own in fields.items() if own.compare]
                body |= {"__eq__": _eq, "_compared": attrgetter(*compared) if compared else _nothing, "__hash__": None}
            if frozen:
                body |= {"__setattr__": _refuse, "__delattr__": _refuse} | ({"__hash__": _hash} if eq else {})
            for gone in ("__dict__", "__weakref__"):
                body.pop(gone, None)
            if slots:
                body["__slots__"] = tuple(fields)
            made = type(cls)(cls.__name__, cls.__bases__, body)
            made.__qualname__ = cls.__qualname__
            made.__init__ = _Constructor(made, fields, frozen, slots)
            return made

        return make

    class _Constructor:
        """``__init__``: of a class that many objects are made of, compiled; the few of most classes are made before that would be done."""

        def __init__(self, *told):
            self._told, self._few = told, _FEW

        def __get__(self, instance, owner):
            self._few -= 1
            if instance is not None and self._few >= 0:
                return partial(self._make, instance)
            return self._compile() if instance is None else self._compile().__get__(instance)

        def _compile(self):
            made = self._told[0]
            made.__init__ = compiled = _compiled(*self._told)
            return compiled

        def _make(self, instance, /, *given, **named):
            fields = self._told[1]
            values = dict(zip(fields, given, strict=False)) | named
            absent = [name for name in fields if name not in values]
            if len(given) + len(named) + len(absent) != len(fields) or any(fields[name].required for name in absent):
                self._compile()(instance, *given, **named)  # which raises what Python raises
                return
            for name in absent:
                values[name] = fields[name].default if fields[name].factory is _NONE else fields[name].factory()
            for name in fields:
                object.__setattr__(instance, name, values[name])
            if hasattr(instance, "__post_init__"):
                instance.__post_init__()

    def _compiled(cls, fields, frozen, slots):
        names: dict[str, Any] = {}
        parameters, lines = [], []
        for name, own in fields.items():
            value = name
            if own.factory is not _NONE:
                names[f"_make_{name}"], names["_NONE"] = own.factory, _NONE
                parameters.append(f"{name}=_NONE")
                value = f"_make_{name}() if {name} is _NONE else {name}"
            elif own.default is not _NONE:
                names[f"_default_{name}"] = own.default
                parameters.append(f"{name}=_default_{name}")
            else:
                parameters.append(name)
            if not frozen:
                lines.append(f"self.{name} = {value}")
            elif slots:
                names[f"_set_{name}"] = cls.__dict__[name].__set__
                lines.append(f"_set_{name}(self, {value})")
            else:
                lines.append(f"self.__dict__[{name!r}] = {value}")
        if hasattr(cls, "__post_init__"):
            lines.append("self.__post_init__()")
        exec(f"def __init__(self, {', '.join(parameters)}):\n " + "\n ".join(lines or ["pass"]), names)  # noqa: S102 -- names of fields, from source code
        return names["__init__"]

    def _repr(self):
        shown = (f"{name}={getattr(self, name)!r}" for name, own in self._fields.items() if own.repr)
        return f"{self.__class__.__qualname__}({', '.join(shown)})"

    def _eq(self, other):
        return self._compared(self) == self._compared(other) if other.__class__ is self.__class__ else NotImplemented

    @staticmethod
    def _nothing(_):
        return ()

    def _hash(self):
        return hash(self._compared(self))

    def _reduce(self):
        return self.__class__, tuple(getattr(self, name) for name in self.__match_args__)

    def _refuse(self, name, *_):
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot change field {name!r}")
