"""segmentation_models_pytorch: every architecture of ``create_model``, on any of its encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.arch.arguments import format_call, without_weights
from ckptaudit.arch.families import by_closeness
from ckptaudit.arch.libraries import import_library
from ckptaudit.arch.model import Model
from ckptaudit.arch.preprocessing import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

#: ``Unet`` may mean anything: its architectures are asked for as ``smp:Unet``.
RANK = None
LIBRARY = "segmentation_models_pytorch"
BUILT_ON = ("torch", "timm")

#: The parameter that asks for weights; by default it asks for those of ImageNet.
WEIGHTS = ("encoder_weights",)

CLASSES = "classes"
CHANNELS = "in_channels"


def names() -> Collection[str]:
    """Every architecture, by the name of its class."""
    return list(_classes())


def relatives(name: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What a file could hold instead: the same architecture on another encoder, the closest name first."""
    encoder = str(arguments.get("encoder_name", "resnet34"))
    for other in by_closeness(encoder, _smp().encoders.encoders):
        yield name, {**arguments, "encoder_name": other}


def build(name: str, arguments: Mapping[str, Any]) -> Model:
    """Build one of them, always without weights.

    Raises
    ------
    ArchitectureError
        An argument asks for weights or is none of the model's, or the builder fails.
    """
    from ckptaudit.arch.torch_build import build_module
    from ckptaudit.arch.torch_module import layer_graph

    smp = _smp()
    label = f"smp:{name}"
    given = without_weights(arguments, WEIGHTS, label)
    cls = _classes()[name]
    built = build_module(lambda: lambda: cls(encoder_weights=None, **given), label)
    return Model(
        arch=name,
        source="smp",
        graph=layer_graph(built, label),
        module=built.module,
        library_version=str(smp.__version__),
        arguments=dict(arguments),
        call=format_call(f"segmentation_models_pytorch.{name}", {"encoder_weights": None, **given}),
        preprocessing=_preprocessing(str(given.get("encoder_name", ""))),
    )


def _preprocessing(encoder: str) -> Preprocessing | None:
    """What timm says of its encoders; what the others' weights expect stands where the weights do, and nothing is downloaded."""
    if not encoder.startswith("tu-"):
        return None
    try:
        told = _smp().encoders.get_preprocessing_params(encoder)
    except ValueError:  # an encoder without trained weights
        return None
    return Preprocessing(
        source=f"segmentation_models_pytorch.encoders.get_preprocessing_params({encoder!r})",
        channels=told.get("input_space"),
        layout="NCHW",
        scale=None if told.get("input_range") is None else max(told["input_range"]) / 255,
        mean=tuple(told["mean"]) if told.get("mean") else None,
        std=tuple(told["std"]) if told.get("std") else None,
    )


def _classes() -> dict[str, Any]:
    return {cls.__name__: cls for cls in _smp().MODEL_ARCHITECTURES_MAPPING.values()}


def _smp() -> Any:
    return import_library("segmentation_models_pytorch", extra="smp")
