"""transformers: any of its model classes, or what a ``config.json`` describes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.arguments import format_call
from ckptaudit.arch.config_files import config_file, is_config, read_config
from ckptaudit.arch.libraries import import_library
from ckptaudit.arch.model import Model
from ckptaudit.arch.preprocessing import Preprocessing
from ckptaudit.arch.suggest import did_you_mean
from ckptaudit.errors import ArchitectureError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Its classes are asked for as ``transformers:…`` alone.
RANK = None
LIBRARY = "transformers"
BUILT_ON = ("torch",)
#: A config asks for no weights.
WEIGHTS = ()

CLASSES = "num_labels"
CHANNELS = "num_channels"

#: Ways to interpolate by the numbers of ``PIL.Image.Resampling``.
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def names() -> Collection[str]:
    """Every model class; a path that ends in ``.json``, or a folder, is among them too."""
    return _Names(_transformers())


def relatives(name: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Nothing: a config is one of many."""
    yield from ()


def files(name: str) -> list[Path]:
    """Files that decide what is built."""
    if not is_config(name):
        return []
    config = config_file(name)
    beside = config.parent / "preprocessor_config.json"
    return [config, beside] if beside.is_file() else [config]


def build(name: str, arguments: Mapping[str, Any]) -> Model:
    """Build a model from its config, without weights and without code that comes with the config.

    Parameters
    ----------
    name:
        A model class (``ResNetForImageClassification``), built with its default config; a ``config.json``, or its folder.
    arguments:
        Fields of the config that are set otherwise (``num_labels=10``).

    Raises
    ------
    ArchitectureError
        There is no such file or class, the config has no such field, or the model cannot be built.
    """
    from ckptaudit.arch.torch_build import build_module
    from ckptaudit.arch.torch_module import layer_graph

    transformers = _transformers()
    label = f"transformers:{name}"
    if is_config(name):
        stored = _stored_config(config_file(name), label)
        cls = _class_of(transformers, stored, label)
        call = f"transformers.{cls.__name__}(transformers.AutoConfig.from_pretrained({str(config_file(name))!r}{_keywords(arguments)}))"
    else:
        stored = {}
        cls = getattr(transformers, name)
        call = format_call(f"transformers.{name}", {}, format_call(f"transformers.{cls.config_class.__name__}", arguments))

    def factory() -> object:
        config = cls.config_class.from_dict(stored) if stored else cls.config_class()
        for key, value in arguments.items():
            if not hasattr(config, key):
                known = [*config.to_dict(), "num_labels"]  # the latter is derived from the labels' names
                raise ArchitectureError(f"{label} takes no argument {key!r}{did_you_mean(key, known)}")
            setattr(config, key, value)
        return cls(config)

    built = build_module(lambda: factory, label)
    return Model(
        arch=name,
        source="transformers",
        graph=layer_graph(built, label),
        module=built.module,
        library_version=str(transformers.__version__),
        arguments=dict(arguments),
        call=call,
        preprocessing=_preprocessing(name, built.module.config),
    )


class _Names(Collection[str]):
    """Thousands of classes, of which importing each takes a while: asked one by one."""

    def __init__(self, transformers: Any) -> None:
        self._transformers = transformers

    def __contains__(self, name: object) -> bool:
        text = str(name)
        if is_config(text):
            return True
        return text in dir(self._transformers) and getattr(getattr(self._transformers, text, None), "config_class", None) is not None

    def __iter__(self) -> Iterator[str]:
        return (name for name in dir(self._transformers) if name[0].isupper() and ("For" in name or name.endswith("Model")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _stored_config(path: Path, label: str) -> dict[str, Any]:
    content = read_config(path, label)
    if not isinstance(content.get("model_type"), str):
        raise ArchitectureError(f"{label}: the file is no config of transformers: it names no model_type")
    return content


def _class_of(transformers: Any, stored: Mapping[str, Any], label: str) -> Any:
    """The class that the config names, else the plain model of its type. Code that comes with a config is never run."""
    listed = stored.get("architectures")
    wanted = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], str) else None
    if wanted is not None:
        cls = getattr(transformers, wanted, None) if wanted in dir(transformers) else None
        if getattr(cls, "config_class", None) is None:
            raise ArchitectureError(f"{label}: this transformers has no class {wanted!r}; code that comes with a config is not run")
        return cls
    try:
        return transformers.MODEL_MAPPING[transformers.CONFIG_MAPPING[stored["model_type"]]]
    except KeyError:
        raise ArchitectureError(f"{label}: this transformers knows no model_type {stored['model_type']!r}") from None


def _preprocessing(name: str, config: Any) -> Preprocessing | None:
    """What ``preprocessor_config.json`` beside the config says; without it, the size alone that the config says."""
    beside = config_file(name).parent / "preprocessor_config.json" if is_config(name) else None
    if beside is None or not beside.is_file():
        size = _size(getattr(config, "image_size", None))
        return None if len(size) != 2 else Preprocessing(source=f"{type(config).__name__}.image_size", size=size)
    told = read_config(beside, f"transformers:{name}")
    resize = _size(told.get("size")) if told.get("do_resize", True) else ()
    crop = _size(told.get("crop_size")) if told.get("do_center_crop", "crop_size" in told) else ()
    scale = told.get("rescale_factor", 1 / 255) if told.get("do_rescale", True) else 1.0
    normalised = told.get("do_normalize", True)
    resample = told.get("resample")
    return Preprocessing(
        source="preprocessor_config.json",
        size=crop or (resize if len(resize) == 2 else None),  # type: ignore[arg-type]
        resize=resize or None,
        fit="crop" if crop else "squash" if len(resize) == 2 else None,
        interpolation=_RESAMPLE.get(resample) if isinstance(resample, int) else None,
        channels="RGB",
        layout="NCHW",
        scale=float(scale) if isinstance(scale, int | float) else None,
        mean=_numbers(told.get("image_mean")) if normalised else (0.0,) * 3,
        std=_numbers(told.get("image_std")) if normalised else (1.0,) * 3,
    )


def _size(told: Any) -> tuple[int, ...]:
    """Height and width, or the length of the shorter side, in any of the forms that configs have had."""
    match told:
        case {"height": int(height), "width": int(width)}:
            return height, width
        case {"shortest_edge": int(shorter)}:
            return (shorter,)
        case int(side) if not isinstance(told, bool):
            return side, side
        case [int(height), int(width)]:
            return height, width
    return ()


def _numbers(told: Any) -> tuple[float, ...] | None:
    return tuple(told) if isinstance(told, list) and told and all(type(number) in (int, float) for number in told) else None


def _keywords(arguments: Mapping[str, Any]) -> str:
    return "".join(f", {key}={value!r}" for key, value in arguments.items())


def _transformers() -> Any:
    return import_library("transformers", extra="transformers")
