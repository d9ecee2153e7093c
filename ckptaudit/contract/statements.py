"""What library and file say of the input and the output, each with who says so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ckptaudit.arch.preprocessing import Preprocessing
from ckptaudit.records import replace

#: Files beside weights that say how images are fed, with what reads each; they are small, and no larger one is read.
_MAX_BYTES = 1 << 20
_CLASS_WORDS = ("class_names", "classes", "CLASSES", "id2label", "labels", "label_names", "names", "num_classes", "n_classes")
_MAX_DEPTH = 3


def stated_beside(path: Path) -> Preprocessing | None:
    """What ``preprocessor_config.json`` (transformers) or timm's ``config.json`` in the folder of a checkpoint says of the input."""
    folder = path if path.is_dir() else path.parent
    for name, read in (("preprocessor_config.json", _of_transformers), ("config.json", _of_timm)):
        told = _json(folder / name)
        found = read(told, name) if told is not None else None
        if found is not None:
            return found
    return None


def stated_classes(metadata: Mapping[str, Any]) -> tuple[int, Sequence[str], str] | None:
    """Number of classes, their names where they are there, and the key that says so, in the metadata of a file."""
    for depth in range(_MAX_DEPTH):
        for key, value in _at_depth(metadata, "", depth):
            if key.rpartition(".")[2] not in _CLASS_WORDS:
                continue
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value, (), key
            names = list(value.values()) if isinstance(value, Mapping) else value
            if isinstance(names, list | tuple) and len(names) > 1 and all(isinstance(item, str) for item in names):
                return len(names), tuple(names), key
    return None


def _at_depth(values: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            if depth:
                yield from _at_depth(value, f"{prefix}{key}.", depth - 1)
            else:
                yield f"{prefix}{key}", value


def _json(path: Path) -> Mapping[str, Any] | None:
    try:
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            return None
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return told if isinstance(told, Mapping) else None


def _of_transformers(told: Mapping[str, Any], name: str) -> Preprocessing | None:
    """An image processor's config: flags switch its steps on and off."""
    if not any(key in told for key in ("image_mean", "do_normalize", "do_rescale", "image_processor_type", "feature_extractor_type")):
        return None
    normalised = bool(told.get("do_normalize", "image_mean" in told))
    rescaled = told.get("do_rescale", True)
    factor = told.get("rescale_factor", 1 / 255)
    made = Preprocessing(
        source=name,
        channels="RGB",
        layout="NCHW",
        scale=float(factor) if rescaled and isinstance(factor, int | float) else 1.0,
        mean=_triple(told.get("image_mean")) if normalised else (0.0, 0.0, 0.0),
        std=_triple(told.get("image_std")) if normalised else (1.0, 1.0, 1.0),
    )
    crop, size = told.get("crop_size") if told.get("do_center_crop") else None, told.get("size")
    made = replace(made, size=_sides(crop) or _sides(size))
    edge = size.get("shortest_edge") if isinstance(size, Mapping) else size if isinstance(size, int) and crop is not None else None
    if isinstance(edge, int) and not isinstance(edge, bool):
        made = replace(made, resize=(edge,), size=made.size if _sides(crop) else None)
    return made


def _of_timm(told: Mapping[str, Any], name: str) -> Preprocessing | None:
    """Timm's config for the hub: ``pretrained_cfg`` says how the weights were trained."""
    config = told.get("pretrained_cfg")
    if not isinstance(config, Mapping):
        return None
    size = config.get("input_size")
    sides = _sides(list(size[1:])) if isinstance(size, list) and len(size) == 3 else None
    share = config.get("crop_pct")
    resize = (int(sides[0] / share),) if sides and isinstance(share, int | float) and 0 < share <= 1 else None
    return Preprocessing(
        source=f"{name}: pretrained_cfg",
        size=sides,
        resize=resize,
        fit="crop" if resize else None,
        interpolation=config.get("interpolation") if isinstance(config.get("interpolation"), str) else None,
        channels="RGB",
        layout="NCHW",
        scale=1 / 255,
        mean=_triple(config.get("mean")),
        std=_triple(config.get("std")),
    )


def _triple(values: Any) -> tuple[float, ...] | None:
    if isinstance(values, list) and values and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return tuple(map(float, values))
    return None


def _sides(told: Any) -> tuple[int, int] | None:
    if isinstance(told, Mapping):
        told = [told.get("height"), told.get("width")]
    if isinstance(told, int) and not isinstance(told, bool):
        told = [told, told]
    if (
        isinstance(told, list)
        and len(told) == 2
        and all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in told)
    ):
        return told[0], told[1]
    return None
