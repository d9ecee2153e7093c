"""torchvision: every architecture of ``torchvision.models.list_models()``."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.arguments import format_call, without_weights
from ckptaudit.arch.families import by_closeness
from ckptaudit.arch.libraries import import_library
from ckptaudit.arch.model import Model
from ckptaudit.arch.preprocessing import Preprocessing
from ckptaudit.arch.suggest import did_you_mean
from ckptaudit.errors import ArchitectureError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

RANK = 10
LIBRARY = "torchvision"
BUILT_ON = ("torch",)

#: Parameters that ask for a download, and those that only say how it is shown.
WEIGHTS = ("weights", "weights_backbone", "pretrained", "pretrained_backbone")
_PROGRESS = ("progress",)

CLASSES = "num_classes"
CHANNELS = None


def names() -> Collection[str]:
    """Every architecture that the installed torchvision registers."""
    found: list[str] = _models().list_models()
    return found


def build(name: str, arguments: Mapping[str, Any]) -> Model:
    """Build one of them, always without weights.

    Raises
    ------
    ArchitectureError
        An argument asks for weights or is none of the builder's, or the builder fails.
    """
    from ckptaudit.arch.torch_build import build_module
    from ckptaudit.arch.torch_module import layer_graph

    label = f"torchvision:{name}"
    builder = _models().get_model_builder(name)
    given = without_weights(arguments, WEIGHTS, label)
    _refuse_unknown(builder, given, label)
    no_weights = {key: None for key in ("weights", "weights_backbone") if key in inspect.signature(builder).parameters}
    built = build_module(lambda: lambda: builder(**no_weights, **given), label)
    return Model(
        arch=name,
        source="torchvision",
        graph=layer_graph(built, label),
        module=built.module,
        library_version=str(import_library("torchvision", extra="torch").__version__),
        arguments=dict(arguments),
        call=format_call(f"{_public_module(builder)}.{builder.__name__}", {**no_weights, **given}),
        preprocessing=preprocessing(name),
    )


def family(name: str) -> str:
    """What the relatives of ``name`` have in common.

    Architectures of one task share a package (``segmentation``, ``video`` …); those for classification, too many, a module.
    """
    builder = _models().get_model_builder(name)
    package = _public_module(builder)
    if package not in ("torchvision.models", "torchvision.models.quantization"):
        return package
    # mobilenetv2 and mobilenetv3 are one family.
    return re.sub(r"v?\d+$", "", builder.__module__)


def relatives(name: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What a file could hold instead of ``name``, the closest name first: its family with the same arguments."""
    return ((other, arguments) for other in by_closeness(name, (other for other in names() if family(other) == family(name))))


def is_foreign(name: str) -> bool:
    """Whether a program has registered the architecture, rather than torchvision."""
    return not _models().get_model_builder(name).__module__.startswith("torchvision.")


def preprocessing(name: str) -> Preprocessing | None:
    """The transforms that come with the default weights; nothing is built or downloaded to know them."""
    try:
        default = _models().get_model_weights(name).DEFAULT
        transforms = default.transforms()
    except (AttributeError, ValueError, TypeError):  # there are no weights
        return None
    kind, told = type(transforms).__name__, vars(transforms)
    # Detectors scale and normalise inside; what optical flow does to a pixel stands in no attribute.
    mean, std = {"OpticalFlow": ((0.5,) * 3, (0.5,) * 3)}.get(kind, ((0.0,) * 3, (1.0,) * 3))
    crop, resize = told.get("crop_size"), told.get("resize_size")
    interpolation = told.get("interpolation")
    return Preprocessing(
        source=f"torchvision {default}",
        size=(crop[0], crop[-1]) if crop else None,
        resize=tuple(resize) if resize else None,
        fit="crop" if crop else None,
        interpolation=str(interpolation.value) if interpolation is not None else None,
        channels="RGB",
        layout="NCTHW" if kind == "VideoClassification" else "NCHW",
        scale=1 / 255,
        mean=tuple(told.get("mean", mean)),
        std=tuple(told.get("std", std)),
    )


def _models() -> Any:
    return import_library("torchvision.models", extra="torch")


def _public_module(builder: Callable[..., object]) -> str:
    """Name the package that offers the builder: ``torchvision.models.segmentation`` for ``torchvision.models.segmentation.fcn``."""
    return builder.__module__.rpartition(".")[0]


def _refuse_unknown(builder: Callable[..., object], given: Mapping[str, Any], label: str) -> None:
    """Refuse what the builder does not take. Several builders swallow unknown keywords: a misspelt ``num_classes`` would change nothing."""
    if not given:
        return
    try:
        accepted = [key for key in dict.fromkeys(_accepted(builder)) if key not in (*WEIGHTS, *_PROGRESS)]
    except (OSError, SyntaxError):  # torchvision without its sources: leave it to Python
        return
    for key in given:
        if key not in accepted:
            raise ArchitectureError(
                f"{label} takes no argument {key!r}{did_you_mean(key, accepted)} (it takes {', '.join(accepted) or 'none'})"
            )


def _accepted(function: Callable[..., object]) -> Iterator[str]:
    """Keywords that ``function`` can be given: its own, those that it takes out of its ``**kwargs``, and those of where it hands them on.

    Read from the source, because the signature ends at ``**kwargs`` and some builders never look at theirs.
    """
    function = inspect.unwrap(function)
    initialiser = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    if not inspect.isfunction(initialiser):
        return
    parameters = inspect.signature(initialiser).parameters.values()
    yield from (p.name for p in parameters if p.default is not p.empty)
    catch_all = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
    if catch_all is None:
        return
    for call in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(initialiser)))):
        if not isinstance(call, ast.Call):
            continue
        match call.func:
            case ast.Attribute(value=ast.Name(id=owner), attr="pop" | "get") if owner == catch_all:
                yield from (str(word.value) for word in call.args[:1] if isinstance(word, ast.Constant))
        if any(keyword.arg is None and ast.unparse(keyword.value) == catch_all for keyword in call.keywords):
            callee = initialiser.__globals__.get(ast.unparse(call.func))
            if ast.unparse(call.func) == "super().__init__" and isinstance(function, type):
                callee = function.__mro__[1]
            if callee is not None:
                yield from _accepted(callee)
