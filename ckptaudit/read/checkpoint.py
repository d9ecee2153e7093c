"""A checkpoint as the rest of the project sees it, whatever the format of its file."""

from __future__ import annotations

from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import BranchError
from ckptaudit.records import dataclass, field, replace

if TYPE_CHECKING:
    from array import array
    from collections.abc import Mapping
    from pathlib import Path

    import numpy

    from ckptaudit.graph import LayerGraph
    from ckptaudit.graph.computation import Computation
    from ckptaudit.read.recorded import Recorded
    from ckptaudit.read.stored import StoredTensor


#: The reason given for a branch that the caller asked for.
CHOSEN_BY_HAND = "chosen by name"


class Remark(str):
    """One line about a file that an audit should report. A remark that is plain text is an ``odd-structure`` of severity ``warning``.

    Attributes
    ----------
    rule:
        What kind of thing it is, as ``ckptaudit scan`` calls it.
    severity:
        ``note``, ``warning`` or ``error``.
    """

    __slots__ = ("rule", "severity")
    rule: str
    severity: str

    def __new__(cls, words: str, rule: str = "odd-structure", severity: str = "warning") -> Remark:
        """``words`` with what kind of thing they are about; a remark keeps what it is."""
        remark = super().__new__(cls, words)
        remark.rule, remark.severity = (words.rule, words.severity) if isinstance(words, Remark) else (rule, severity)
        return remark

    def within(self, name: str) -> Remark:
        """The same about a part of the file: a shard, a member."""
        return Remark(f"{name}: {self}", self.rule, self.severity)


@dataclass(frozen=True, slots=True)
class RefusedGlobal:
    """A class or function that the file's pickle names and that was not imported.

    Attributes
    ----------
    name:
        Dotted, as in the file (``argparse.Namespace``, ``os.system``).
    position:
        Byte offset of the opcode within its pickle.
    called:
        Whether loading the file ordinarily would call it.
    pickle:
        Which pickle of the file (``archive/data.pkl``).
    arguments:
        What it would be called with, shortened (``'touch x', …``); ``""`` where that is nothing, or it is not called.
    """

    name: str
    position: int
    called: bool
    pickle: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Branch:
    """One named set of tensors within a file: a state dict, its EMA copy, an optimizer's state.

    Attributes
    ----------
    name:
        The keys that lead to it, joined by dots; ``""`` when the file's top level is the state dict.
    role:
        ``model``, ``ema``, ``optimizer`` or ``other``.
    tensors:
        Tensors by the names that ``load_state_dict`` would see.
    modules:
        Class names of modules by path, where the file tells (a pickled ``nn.Module``, TorchScript).
    nested:
        Nested dictionaries were joined into dotted names.
    attributes:
        Settings of modules by path, where the file tells (a Keras config): see :class:`ckptaudit.graph.layers.Module`.
    feeds:
        The dataflow between layers, where the file tells.
    places:
        Where each tensor is in a Keras file, by layout: see :class:`ckptaudit.graph.LayerGraph`.
    computation:
        What the network computes, where the file tells (ONNX).
    """

    name: str
    role: str
    tensors: Mapping[str, StoredTensor]
    modules: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    nested: bool = False
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))
    feeds: tuple[tuple[str, str], ...] = ()
    places: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    computation: Computation | None = None

    @property
    def parameters(self) -> int:
        """Number of values, shared ones counted once, running statistics and counters left out."""
        from ckptaudit.graph import TensorSpec
        from ckptaudit.graph.kinds import BUFFER_ROLES, role_of
        from ckptaudit.graph.names import leaf
        from ckptaudit.read.header_table import HeaderTable

        if isinstance(self.tensors, HeaderTable):  # nothing is shared, and addresses of a million tensors take more than their header
            return sum(
                TensorSpec("", t.shape, t.dtype).numel for name, t in self.tensors.items() if role_of(leaf(name)) not in BUFFER_ROLES
            )
        unique = {t.address: t for name, t in self.tensors.items() if role_of(leaf(name)) not in BUFFER_ROLES}
        return sum(TensorSpec("", t.shape, t.dtype).numel for t in unique.values())


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A file that was read without executing it and without loading its tensors.

    Attributes
    ----------
    path:
        The file (or index, or folder) as the user named it.
    format:
        ``torch-zip``, ``torch-legacy``, ``torchscript``, ``safetensors``, ``safetensors-index``, ``torch-index`` …
    framework:
        ``torch``, ``keras``, ``tensorflow``, ``onnx`` or ``unknown``.
    branch, branch_reason:
        The branch under audit, and why it was taken.
    branches:
        All branches, the chosen one included, in the file's order.
    metadata:
        What the file says beside tensors, reduced to JSON values: epoch, hyper-parameters, class names, versions.
    refused_globals:
        What its pickles name outside the allow-list. Empty for formats without pickles.
    remarks:
        Facts about the file that a reader noticed and that an audit should report, one line each.
    nbytes:
        Size of the file, or of all shards.
    config:
        The model's description of itself, as the file spells it and never turned into objects: ``model`` and ``training`` of Keras.
    recorded:
        What was noted when the file was at hand, for a checkpoint that is known from a lock; None where the file itself is.
    """

    path: Path
    format: str
    framework: str
    branch: Branch
    branch_reason: str
    branches: tuple[Branch, ...]
    metadata: Mapping[str, Any]
    refused_globals: tuple[RefusedGlobal, ...]
    nbytes: int
    remarks: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    recorded: Recorded | None = None

    @cached_property
    def graph(self) -> LayerGraph:
        """The chosen branch as a layer graph; tensors that are the same view of one storage are tied."""
        from ckptaudit.graph.kinds import is_buffer
        from ckptaudit.graph.layers import LayerGraph, Module
        from ckptaudit.graph.names import leaf
        from ckptaudit.graph.tensors import TensorSpec, is_float
        from ckptaudit.read.header_table import HeaderTable

        framework = self.framework
        specs: list[TensorSpec] = []
        alone = isinstance(self.branch.tensors, HeaderTable)
        shared: dict[Any, list[str]] = {}
        for name, tensor in self.branch.tensors.items():
            # Exporters keep sizes, axes and single numbers beside the weights.
            state = is_buffer(leaf(name), framework) or (framework == "onnx" and (not tensor.shape or not is_float(tensor.dtype)))
            specs.append(TensorSpec(name, tensor.shape, tensor.dtype, state))
            # An empty or a stride-0 tensor shares its storage without being tied to anything.
            if not alone and 0 not in tensor.shape and tensor.shape and not (len(tensor.strides) and all(s == 0 for s in tensor.strides)):
                shared.setdefault(tensor.address, []).append(name)
        tied = tuple(tuple(names) for names in shared.values() if len(names) > 1)
        branch = self.branch
        # Class names alone are no more than words; with settings they are what a live model would tell of itself.
        told = branch.modules if self.framework == "keras" else {}
        modules = {path: Module(kind, None, branch.attributes.get(path, MappingProxyType({}))) for path, kind in told.items()}
        return LayerGraph.from_tensors(
            specs,
            self.framework,
            modules=MappingProxyType(modules),
            feeds=branch.feeds,
            tied=tied,
            places=branch.places,
            computation=branch.computation,
        )

    def with_branch(self, name: str, reason: str = CHOSEN_BY_HAND) -> Checkpoint:
        """The same file with another branch under audit.

        Raises
        ------
        BranchError
            No branch has this name; the message lists those that there are.
        """
        for branch in self.branches:
            if branch.name == name:
                return replace(self, branch=branch, branch_reason=reason)
        names = ", ".join(repr(b.name) for b in self.branches)
        raise BranchError(self.path, f"has no branch {name!r}; it has {names}")

    def read(self, name: str) -> numpy.ndarray[Any, Any]:
        """Values of one tensor of the chosen branch: see :meth:`StoredTensor.read`."""
        return self.branch.tensors[name].read()

    def numbers(self, name: str, elements: int | None = None) -> array[float] | None:
        """Values of one tensor without numpy, where that is possible: see :meth:`StoredTensor.numbers`."""
        return self.branch.tensors[name].numbers(elements)

    def sample(self, name: str, elements: int, *, last: bool = False) -> numpy.ndarray[Any, Any]:
        """Some values of one tensor, at most about ``elements``: see :meth:`StoredTensor.sample`."""
        return self.branch.tensors[name].sample(elements, last=last)
