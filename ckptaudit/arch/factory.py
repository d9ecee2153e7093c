"""Factories of the user: ``package.module:factory`` and ``path/to/file.py:factory``."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.arguments import format_call, is_file
from ckptaudit.arch.attempts import first_that_works, with_article
from ckptaudit.arch.failures import blamed_line, describe_error
from ckptaudit.arch.isolation import importable, isolated, output_to_stderr
from ckptaudit.arch.keras_build import keras_ways, session_of_its_own, usable_backend, without_values
from ckptaudit.arch.libraries import import_library, is_installed
from ckptaudit.arch.live import graph_of, is_keras_model, is_model
from ckptaudit.arch.model import Model
from ckptaudit.arch.suggest import did_you_mean
from ckptaudit.arch.torch_build import torch_ways
from ckptaudit.errors import ArchitectureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from types import ModuleType


def build_from_file(path: Path, factory: str, arguments: Mapping[str, Any], label: str) -> Model:
    """Build what ``factory`` in the file ``path`` returns; see :func:`build_from_module`."""
    if not path.is_file():
        raise ArchitectureError(f"{path}: {'is a folder, not a Python file' if path.is_dir() else 'there is no such file'}")
    if not factory:
        raise ArchitectureError(f"{path} is no architecture by itself: write {path}:FACTORY{_offered(path)}")
    root, module_name = _package_of(path.resolve())
    with importable(root):
        return _build(lambda: _load_file(path.resolve(), module_name), factory, arguments, label, source="file", home=root)


def build_from_module(module_name: str, factory: str, arguments: Mapping[str, Any], label: str) -> Model:
    """Build what ``factory`` in an importable module returns.

    Parameters
    ----------
    module_name:
        Dotted; the working directory is searched first, as ``python -m`` does.
    factory:
        A function or class to call, an attribute path to one, or an ``nn.Module`` that exists already.
    arguments:
        Its keyword arguments.
    label:
        The name as the user gave it.

    Raises
    ------
    ArchitectureError
        Module or factory cannot be found, or the factory fails.
    """
    if not factory:
        raise ArchitectureError(f"{label!r} names no factory: write {module_name}:FACTORY")
    return _build(lambda: _load_module(module_name), factory, arguments, label, source="factory", home=Path.cwd())


def load_object(name: str) -> Any:
    """Import what ``path/to/file.py:name`` or ``package.module:name`` names, and call nothing.

    Raises
    ------
    ArchitectureError
        It cannot be found, or its module fails to be imported.
    """
    before, _, wanted = name.rpartition(":")
    path = Path(before)
    if is_file(before) and not path.is_file():
        raise ArchitectureError(f"{path}: {'is a folder, not a Python file' if path.is_dir() else 'there is no such file'}")
    home, module_name = _package_of(path.resolve()) if is_file(before) else (Path.cwd(), before)
    with isolated(name), importable(home), output_to_stderr():
        try:
            module = _load_file(path.resolve(), module_name) if is_file(before) else _load_module(module_name)
            return _attribute(module, wanted, name)
        except ArchitectureError:
            raise
        except (Exception, SystemExit) as error:
            raise ArchitectureError(f"{name}: {describe_error(error)}{blamed_line(error, home)}") from error


def _build(load: Callable[[], ModuleType], factory: str, arguments: Mapping[str, Any], label: str, *, source: str, home: Path) -> Model:
    def bound() -> Callable[[], object]:
        found = _attribute(load(), factory, label)
        if is_model(found):
            if arguments:
                raise ArchitectureError(f"{label} is a model already and takes no arguments")
            return lambda: found
        if not callable(found):
            raise ArchitectureError(f"{label} is of type {type(found).__name__}: neither a factory nor a torch.nn.Module or keras.Model")
        return functools.partial(found, **arguments)

    with usable_backend(), session_of_its_own():
        attempt = first_that_works(bound, label, _ways, home)
        if not is_model(attempt.made):
            returned = with_article(type(attempt.made).__name__)
            raise ArchitectureError(f"{label} returned {returned}, not a torch.nn.Module or a keras.Model")
        graph = graph_of(attempt.made, label, attempt.notes[is_keras_model(attempt.made)])
    return Model(
        arch=label,
        source=source,
        graph=graph,
        module=attempt.made,
        arguments=dict(arguments),
        call=format_call(factory, arguments),
    )


def _ways() -> Iterator[tuple[str, AbstractContextManager[tuple[Any, Any]]]]:
    """Yield the ways of the frameworks that the user's code has imported; what they note comes as a pair, torch's first.

    Where it has imported none, it will import one while it builds, or what it builds is no model.
    """
    if "keras" not in sys.modules and is_installed("torch"):
        import_library("torch", extra="torch")
    torch: dict[str, AbstractContextManager[Any]] = dict(torch_ways()) if "torch" in sys.modules else {}
    keras: dict[str, AbstractContextManager[Any]] = dict(keras_ways()) if "keras" in sys.modules else {}
    plain = torch.pop("real", nullcontext()), keras.pop("real", nullcontext())
    stateless = keras.get("stateless")
    for way, context in torch.items():
        yield way, _both(context, without_values() if stateless else nullcontext())
    if stateless:
        yield "stateless", _both(nullcontext(), stateless)
    yield "real", _both(*plain)


@contextmanager
def _both(torch: AbstractContextManager[Any], keras: AbstractContextManager[Any]) -> Iterator[tuple[Any, Any]]:
    with torch as attached, keras as made:
        yield attached, made


def _load_module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))  # taken back by isolated()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module was found; it is the one that misses something
        raise ArchitectureError(f"there is no module or architecture source named {error.name!r}") from error


def _load_file(path: Path, module_name: str) -> ModuleType:
    sys.dont_write_bytecode = True  # an audit leaves no files behind; taken back by isolated()
    if "." in module_name:
        importlib.import_module(module_name.rpartition(".")[0])
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ArchitectureError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Registered as an import would: dataclasses and pickle look their module up. Forgotten by importable().
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module


def _package_of(path: Path) -> tuple[Path, str]:
    """Find the folder to import from and the module's name: dotted in a package, so that relative imports work."""
    folder, parts = path.parent, [path.stem]
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def _attribute(module: ModuleType, factory: str, label: str) -> Any:
    found: Any = module
    for name in factory.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            public = [word for word in vars(found) if not word.startswith("_")] if hasattr(found, "__dict__") else []
            raise ArchitectureError(f"{label}: there is no {name!r}{did_you_mean(name, public)}") from error
    return found


def _offered(path: Path) -> str:
    """Functions and classes that the file defines, found without running it."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return ""
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")]
    return f" (it defines {', '.join(names[:10])})" if names else ""
