"""What was noted of a checkpoint while its values, and the model that it was saved from, were at hand."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ckptaudit.graph import Module
from ckptaudit.records import dataclass, field


@dataclass(frozen=True, slots=True)
class BatchNormStatistics:
    """Running statistics of one layer of the file, summed up.

    Attributes
    ----------
    path:
        The layer in the file.
    names:
        Its ``running_mean`` and ``running_var`` tensors.
    finite, negative:
        Whether all values are finite; whether a variance is below 0.
    initial:
        Whether every mean is 0 and every variance 1: no batch was ever seen.
    """

    path: str
    names: tuple[str, ...]
    finite: bool
    negative: bool
    initial: bool


@dataclass(frozen=True, slots=True)
class Recorded:
    """Findings of an earlier reading, for a checkpoint whose values are not at hand now.

    Attributes
    ----------
    batch_norm:
        Statistics of every layer that has them.
    non_finite:
        Name → share of NaN or infinite values, of the tensors that hold any.
    differing:
        Groups of tensors that the model tied although their values differ.
    modules:
        Type and settings of the model's modules, by the path that each has in the file.
    """

    batch_norm: tuple[BatchNormStatistics, ...] = ()
    non_finite: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    differing: tuple[tuple[str, ...], ...] = ()
    modules: Mapping[str, Module] = field(default_factory=lambda: MappingProxyType({}))
