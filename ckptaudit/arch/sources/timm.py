"""timm: every architecture of ``timm.list_models()``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.arguments import format_call, without_weights
from ckptaudit.arch.families import by_closeness
from ckptaudit.arch.libraries import import_library
from ckptaudit.arch.model import Model
from ckptaudit.arch.preprocessing import Fit, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

RANK = 20
LIBRARY = "timm"
BUILT_ON = ("torch",)

#: Parameters that ask for weights, from the hub or from a file.
WEIGHTS = ("pretrained", "checkpoint_path")

CLASSES = "num_classes"
CHANNELS = "in_chans"

#: The words of a config for how an image of other proportions is made to fit.
_FITS: Mapping[str, Fit] = MappingProxyType({"center": "crop", "squash": "squash", "border": "pad"})


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
    from ckptaudit.arch.torch_build import build_module
    from ckptaudit.arch.torch_module import layer_graph

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
        preprocessing=preprocessing(name),
    )


def relatives(name: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What a file could hold instead of ``name``, the closest name first: what the same module defines."""
    return ((other, arguments) for other in by_closeness(name, _timm().list_models(module=family(name))))


def is_foreign(name: str) -> bool:
    """Whether a program has registered the architecture, rather than timm."""
    return not _timm().model_entrypoint(name).__module__.startswith("timm.")


def preprocessing(name: str) -> Preprocessing | None:
    """What the config of the default weights says; nothing is built or downloaded to know it."""
    config = _timm().get_pretrained_cfg(name)
    if config is None:
        return None
    _, height, width = config.input_size
    # As timm.data.transforms_factory does it: the image is scaled to what the crop is a part of.
    whole = math.floor(height / config.crop_pct), math.floor(width / config.crop_pct)
    fit = _FITS.get(config.crop_mode)
    return Preprocessing(
        source=f"timm pretrained_cfg of {'.'.join(filter(None, (name, config.tag)))}",
        size=(height, width),
        resize=whole if fit == "squash" else (min(whole),) if fit == "crop" else None,
        fit=fit,
        interpolation=config.interpolation,
        channels="RGB",
        layout="NCHW",
        scale=1 / 255,
        mean=tuple(config.mean),
        std=tuple(config.std),
    )


def _timm() -> Any:
    return import_library("timm", extra="timm")
