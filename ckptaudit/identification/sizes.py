"""What the file's own tensors say of the number of classes and of input channels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from ckptaudit.graph import LayerGraph, TensorSpec
from ckptaudit.graph.facts import stem_layer
from ckptaudit.identification.index import OTHER_CLASSES, Template


def class_count(template: Template, own: int | None, below: Mapping[str, TensorSpec], file: LayerGraph) -> int | None:
    """The number of classes with which the architecture has the file's own head; None where there is no head, or more than one.

    Parameters
    ----------
    template, own:
        The architecture, and its own number of classes.
    below:
        Tensors of the file by their names from where the architecture begins.
    file:
        The file's graph, whose framework tells how it stores kernels.
    """
    if own is None or not template.varying:
        return None
    open_shapes = _open_shapes(template, below, file)
    found: dict[int, int] = defaultdict(int)
    by_name: dict[int, int] = defaultdict(int)
    for spec, with_others in template.varying:
        twin = below.get(spec.name)
        one, other = (in_torch_order(shape, template.graph) for shape in (spec.shape, with_others))
        if twin is not None and (number := _solved(one, other, own, in_torch_order(twin.shape, file))) is not None:
            by_name[number] += 1
        for number in {n for shape in open_shapes if (n := _solved(one, other, own, shape)) is not None}:
            found[number] += 1
    if by_name:
        return max(by_name, key=lambda number: by_name[number])
    whole = [number for number, tensors in found.items() if tensors == len(template.varying)]
    return whole[0] if len(whole) == 1 else None


def _solved(shape: tuple[int, ...], other: tuple[int, ...], own: int, seen: tuple[int, ...]) -> int | None:
    """The number of classes for which a tensor has the shape ``seen``: each size is a · classes + b, known at two points."""
    if len(seen) != len(shape):
        return None
    numbers = set()
    for a, b, size in zip(shape, other, seen, strict=True):
        if a == b:
            if size != a:
                return None
            continue
        factor = (b - a) // (OTHER_CLASSES - own)
        number, rest = divmod(size - (a - factor * own), factor)
        if rest or number < 1:
            return None
        numbers.add(number)
    return numbers.pop() if len(numbers) == 1 else None


def input_channels(template: Template, below: Mapping[str, TensorSpec], file: LayerGraph) -> tuple[int, int] | None:
    """Input channels of the architecture's first convolution, and of the file's; None where that does not show."""
    spec = _stem(template)
    if spec is None:
        return None
    own = in_torch_order(spec.shape, template.graph)
    twin = below.get(spec.name)
    shapes = _open_shapes(template, below, file) if twin is None else [in_torch_order(twin.shape, file)]
    channels = {shape[1] for shape in shapes if _but_for_inputs(shape) == _but_for_inputs(own)}
    return (own[1], channels.pop()) if len(channels) == 1 else None


def has_stem(template: Template, tensors: Iterable[TensorSpec], file: LayerGraph) -> bool:
    """Whether one of the file's ``tensors`` has the shape of the architecture's first convolution, input channels aside."""
    spec = _stem(template)
    if spec is None:
        return False
    own = _but_for_inputs(in_torch_order(spec.shape, template.graph))
    return any(_but_for_inputs(in_torch_order(tensor.shape, file)) == own for tensor in tensors if len(tensor.shape) == len(spec.shape))


def _stem(template: Template) -> TensorSpec | None:
    """The kernel of the architecture's first convolution."""
    path = stem_layer(template.graph)
    stem = template.graph.by_path[path].tensors["weight"] if path is not None else None
    spec = template.fixed.get(stem.name) if stem is not None else None
    return None if spec is None or len(spec.shape) < 3 else spec


def _but_for_inputs(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:1], *shape[2:]) if len(shape) > 2 else ()


def _open_shapes(template: Template, below: Mapping[str, TensorSpec], file: LayerGraph) -> list[tuple[int, ...]]:
    """Shapes of the file that the architecture does not have, or not as often, as torch would store them."""
    own = [in_torch_order(spec.shape, template.graph) for spec in template.fixed.values()]
    if template.graph.framework != file.framework == "torch":
        # Keras' depthwise kernels have channels where inputs are, and must not leave torch's over, which looks like a stem of one input.
        own = [(shape[1], 1, *shape[2:]) if len(shape) == 4 and shape[0] == 1 else shape for shape in own]
    known = Counter(own)
    return list(Counter(in_torch_order(spec.shape, file) for spec in below.values()) - known)


def in_torch_order(shape: tuple[int, ...], graph: LayerGraph) -> tuple[int, ...]:
    """The shape that torch would give a tensor of ``graph``: Keras and TensorFlow put the channels last, outputs behind inputs."""
    if graph.framework not in ("keras", "tensorflow") or len(shape) < 2:
        return shape
    return (shape[-1], shape[-2], *shape[:-2])
