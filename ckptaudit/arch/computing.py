"""What a torch model computes in evaluation mode, operation by operation, found by one forward pass without values.

As in :mod:`ckptaudit.arch.trace`, the pass runs on meta tensors and watches every operation; here each one is kept, with the place of each
operand, since what stands where in a concatenation or a product tells layers apart that are alike otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.failures import describe_error
from ckptaudit.arch.isolation import isolated, output_to_stderr
from ckptaudit.arch.trace import in_mode, is_part, memory, run_on_shapes, usual_inputs
from ckptaudit.graph import computation as words
from ckptaudit.graph.computation import Computation, Operation, Use
from ckptaudit.graph.names import parent
from ckptaudit.records import replace

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from ckptaudit.arch.model import Model

#: What torch calls an operation, in the words that all frameworks share; any other keeps its name.
_KINDS = {
    "convolution": words.CONV,
    "convolution_overrideable": words.CONV,
    "addmm": words.LINEAR,
    "mm": words.LINEAR,
    "linear": words.LINEAR,
    "embedding": words.EMBEDDING,
    "native_layer_norm": words.NORM,
    "native_group_norm": words.NORM,
    "_prelu_kernel": words.PRELU,
    "mul": words.SCALE,
    "mul_": words.SCALE,
    "add": words.SHIFT,
    "add_": words.SHIFT,
    "cat": words.CONCAT,
    "stack": words.CONCAT,
    "bmm": words.MATMUL,
    "baddbmm": words.MATMUL,
    "sub": words.SUBTRACT,
    "sub_": words.SUBTRACT,
    "div": words.DIVIDE,
    "div_": words.DIVIDE,
}
#: Arguments by torch's names for them that are weights of these roles.
_ROLES = {"mat2": "weight", "self": "bias"} | {role: role for role in ("weight", "bias", "running_mean", "running_var")}
_SETTINGS = {"stride": "stride", "dilation": "dilation", "groups": "groups", "eps": "eps"}
#: What takes a tensor for its size or its dtype alone.
_SIZES = frozenset(
    {"new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"}
)
_WEIGHTED = frozenset({words.CONV, words.CONV_TRANSPOSE, words.LINEAR, words.EMBEDDING, words.BATCH_NORM, words.NORM, words.PRELU})
#: Views that leave a weight as it is, but for the layout.
_RESHAPING = frozenset({"view", "_unsafe_view", "reshape", "unsqueeze", "squeeze"})
_TURNING, _SAME = frozenset({"t", "transpose", "permute"}), frozenset({"detach", "alias", "clone", "_to_copy", "lift_fresh"})


def with_computation(model: Model, input_sizes: Sequence[Sequence[int]] = ()) -> Model:
    """Give the same model with ``graph.computation`` filled, or with a remark that says why it is unknown.

    Parameters
    ----------
    model:
        A torch model that was built just now.
    input_sizes:
        Sizes of each input without the batch, where they are known; guessed from the first layer otherwise, or where these fail.
    """
    if model.module is None:
        reason: str | None = f"the model comes from a {model.provenance} and cannot be run"
    elif model.graph.framework != "torch":
        reason = "only models of torch are followed operation by operation"
    else:
        found = trace_computation(model.module, input_sizes)
        if isinstance(found, Computation):
            return replace(model, graph=replace(model.graph, computation=found))
        reason = found
    return replace(model, remarks=(*model.remarks, f"what it computes is unknown: {reason}"))


def trace_computation(module: torch.nn.Module, input_sizes: Sequence[Sequence[int]] = ()) -> Computation | str:
    """What the module computes; in words why that is not known where it cannot be run.

    Parameters
    ----------
    module:
        A model; its weights and modes are left as they are.
    input_sizes:
        As for :func:`with_computation`.
    """
    import torch

    reasons: list[str] = []
    known = tuple(torch.empty(2, *sizes, device="meta") for sizes in input_sizes)
    with isolated(type(module).__name__), in_mode(module, training=False):
        for inputs in [*([known] if known else []), *usual_inputs(module)]:
            try:
                with output_to_stderr():
                    return _computation_of_pass(module, inputs)
            except (Exception, SystemExit) as error:
                reasons.append(describe_error(error))
    return reasons[0] if reasons else "the sizes of its input cannot be guessed"


def _computation_of_pass(module: torch.nn.Module, inputs: tuple[Any, ...]) -> Computation:
    import torch
    from torch.utils._pytree import tree_leaves

    watch, given = run_on_shapes(module, inputs, lambda shapes: _watch(shapes, inputs))
    leaves = [leaf for leaf in tree_leaves(_plain(given)) if isinstance(leaf, torch.Tensor)]
    return Computation(tuple(watch.operations), tuple(watch.producers_of(leaf) for leaf in leaves))


def _plain(output: Any) -> Any:
    """Outputs of transformers are dictionaries of their own kind."""
    return dict(output) if isinstance(output, Mapping) else output


def _watch(weights: Mapping[str, torch.Tensor], inputs: tuple[Any, ...]) -> AbstractContextManager[Any]:
    """Make a dispatch mode that keeps each operation which ``inputs`` reach."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Watch(TorchDispatchMode):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.operations: list[Operation] = []
            self.producers = {memory(leaf): (words.INPUT,) for leaf in tree_leaves(inputs) if isinstance(leaf, torch.Tensor)}
            self.weights: dict[int, Use] = {}  # by storage: the tensor that lies there
            self.layouts: dict[int, Use] = {}  # by the tensor itself: how a view of it lies
            self.kept_alive: list[Any] = []  # a freed tensor would hand its address on to a stranger
            for name, tensor in weights.items():
                if tensor.is_floating_point():
                    self.weights.setdefault(memory(tensor), Use(name, tuple(tensor.shape)))

        def producers_of(self, tensor: torch.Tensor) -> tuple[int, ...]:
            return self.producers.get(memory(tensor), ())

        def use_of(self, tensor: torch.Tensor) -> Use | None:
            return self.layouts.get(id(tensor)) or self.weights.get(memory(tensor))

        def __torch_dispatch__(
            self, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            result = function(*args, **(kwargs or {}))
            named = _arguments(function, args, kwargs or {})
            leaves = [(name, leaf) for name, value in named for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]
            used = [(name, leaf, use) for name, leaf in leaves if (use := self.use_of(leaf)) is not None]
            outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
            self.kept_alive += outputs
            word = str(function.__name__).partition(".")[0]
            operands = tuple(() if self.use_of(leaf) is not None else self.producers_of(leaf) for _, leaf in leaves)
            if word in _SIZES:
                for output in outputs:
                    self.producers.pop(memory(output), None)
            elif any(operands):
                self._keep(word, named, operands, used)
                for output in outputs:
                    key = memory(output)
                    before = self.producers.get(key, ()) if is_part(output) else ()
                    self.producers[key] = tuple(dict.fromkeys((*before, len(self.operations) - 1)))
            elif used:
                for output in outputs:
                    self._derive(word, used, output)
            return result

        def _derive(self, word: str, used: list[tuple[str, torch.Tensor, Use]], output: torch.Tensor) -> None:
            """A weight alone was worked on: turned, or changed to something that is no longer what the checkpoint keeps."""
            old = used[0][2]
            alone = len(used) == 1 and old.whole
            if alone and word in _SAME:
                made = old
            elif alone and word in _TURNING and len(old.shape) == 2 and tuple(output.shape) == old.shape[::-1]:
                made = Use(old.name, old.shape[::-1], not old.turned)
            elif alone and (word == "expand" or (word in _RESHAPING and tuple(output.shape)[-len(old.shape) :] == old.shape)):
                made = old  # the same values, several times
            elif alone and output.numel() == old.numel and word in _RESHAPING:
                made = Use(old.name, tuple(output.shape), old.turned)
            else:
                made = Use(old.name, tuple(output.shape), old.turned, whole=False)
            self.layouts[id(output)] = made
            self.weights.setdefault(memory(output), made)

        def _keep(
            self, word: str, named: list[tuple[str, Any]], operands: tuple[tuple[int, ...], ...], used: list[tuple[str, torch.Tensor, Use]]
        ) -> None:
            kind = words.BATCH_NORM if "batch_norm" in word else words.ATTENTION if "dot_product" in word else _KINDS.get(word, word)
            arguments = dict(named)
            if word == "bmm" and any(name == "mat2" and len(use.shape) == 2 for name, _, use in used):
                kind = words.LINEAR  # a matrix that was repeated for each member of the batch
            if kind == words.CONV and arguments.get("transposed"):
                kind = words.CONV_TRANSPOSE
            tensors: dict[str, Use] = {}
            for name, _, use in used:
                if kind in _WEIGHTED and name in _ROLES:
                    role = _ROLES[name]
                elif kind in (words.SCALE, words.SHIFT):
                    role = "weight" if kind == words.SCALE else "bias"
                else:
                    role = "parameter" if "parameter" not in tensors else f"parameter_{len(tensors)}"
                # mat2 is (in, out); what is kept of a linear layer is (out, in).
                turned = Use(use.name, use.shape[::-1], not use.turned, use.whole)
                tensors[role] = turned if name == "mat2" and len(use.shape) == 2 else use
            settings = {_SETTINGS[name]: _plain_setting(value) for name, value in named if name in _SETTINGS}
            path = parent(next(iter(tensors.values())).name) if tensors else ""
            self.operations.append(Operation(kind, path, operands, MappingProxyType(tensors), MappingProxyType(settings)))

    return Watch()


def _arguments(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Arguments by their names, in their order."""
    names = [argument.name for argument in function._schema.arguments]
    return [*zip(names, args, strict=False), *kwargs.items()]


def _plain_setting(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
