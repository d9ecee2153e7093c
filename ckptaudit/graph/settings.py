"""Settings of modules: what shapes do not show of what a layer computes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ckptaudit.graph.layers import LayerGraph, Module

#: Settings that the shapes of the module's own tensors show.
_SHOWN_BY_SHAPES = frozenset(
    {
        *("in_channels", "out_channels", "in_features", "out_features", "num_features", "num_channels", "kernel_size", "transposed"),
        *("num_embeddings", "embedding_dim", "normalized_shape", "filters", "units", "affine", "elementwise_affine", "use_bias"),
    }
)


def computing_modules(graph: LayerGraph) -> dict[str, Module]:
    """Modules that own tensors, contain no other, or have settings of their own, by path; settings that shapes show are left out.

    Containers without settings are a matter of how code is written, not of what it computes.
    """
    inner = {path.rpartition(".")[0] for path in graph.modules if path}
    found = {}
    for path, module in graph.modules.items():
        owns = path in graph.by_path
        settings = {key: value for key, value in module.attributes.items() if not (owns and key in _SHOWN_BY_SHAPES)}
        if owns or settings or path not in inner:
            found[path] = Module(module.type_name, module.origin, MappingProxyType(settings))
    return found


def same_setting(old: Any, new: Any) -> bool:
    """Whether two values of a setting mean the same: ``(1, 1)`` and ``[1, 1]``, 1 and 1.0."""
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        return len(old) == len(new) and all(same_setting(a, b) for a, b in zip(old, new, strict=True))
    return bool(old == new)


def settings_differ(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that both know and that are not the same, with the old and the new value."""
    return {key: (value, new[key]) for key, value in old.items() if key in new and not same_setting(value, new[key])}
