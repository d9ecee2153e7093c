"""timm: every architecture of ``timm.list_models()``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.arch.arguments import format_call, without_weights
from ckptaudit.arch.families import by_closeness
from ckptaudit.arch.libraries import import_library
from ckptaudit.arch.model import Model
from ckptaudit.arch.torch_build import build_module
from ckptaudit.arch.torch_module import layer_graph

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

RANK = 20
LIBRARY = "timm"
BUILT_ON = ("torch",)

#: Parameters that ask for weights, from the hub or from a file.
WEIGHTS = ("pretrained", "checkpoint_path")


def names() -> Collection[str]:
    """Every architecture that the installed timm registers."""
    found: list[str] = _timm().list_models()
    return found


def family(name: str) -> str:
    """What the relatives of ``name`` have in common: the module that defines them."""
    return str(_timm().model_entrypoint(name).__module__.rpartition(".")[2])


def build(name: str, arguments: Mapping[str, Any]) -> Model:
    """Build one of them, always without weights.

    Raises
    ------
    ArchitectureError
        An argument asks for weights or is none of the model's, or the builder fails.
    """
    timm = _timm()
    label = f"timm:{name}"
    given = without_weights(arguments, WEIGHTS, label)
    built = build_module(lambda: lambda: timm.create_model(name, pretrained=False, **given), label)
    return Model(
        arch=name,
        source="timm",
        graph=layer_graph(built, label),
        module=built.module,
        library_version=str(timm.__version__),
        arguments=dict(arguments),
        call=format_call("timm.create_model", given, repr(name)),
        preprocessing=_preprocessing(built.module),
    )


def relatives(name: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What a file could hold instead of ``name``, the closest name first: what the same module defines."""
    return ((other, arguments) for other in by_closeness(name, _timm().list_models(module=family(name))))


def is_foreign(name: str) -> bool:
    """Whether a program has registered the architecture, rather than timm."""
    return not _timm().model_entrypoint(name).__module__.startswith("timm.")


def _preprocessing(module: Any) -> Mapping[str, Any]:
    """What timm says of the input: size, mean, standard deviation, interpolation, crop."""
    told = getattr(module, "pretrained_cfg", None) or {}
    kept = ("input_size", "fixed_input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")
    return {key: list(told[key]) if isinstance(told[key], tuple) else told[key] for key in kept if key in told}


def _timm() -> Any:
    return import_library("timm", extra="timm")
