"""What an ONNX graph says of itself: size and layout of its input, what it does to pixels first, what it does to scores last."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

from ckptaudit.arch.preprocessing import Layout, Preprocessing
from ckptaudit.errors import CkptAuditError
from ckptaudit.graph import computation as words
from ckptaudit.graph.computation import INPUT, Computation, Operation
from ckptaudit.records import dataclass, replace

if TYPE_CHECKING:
    from ckptaudit.read import Checkpoint

#: What the last operation says of the scores.
_ENDS = {
    "Softmax": "probabilities",
    "Sigmoid": "sigmoid probabilities",
    "HardSigmoid": "sigmoid probabilities",
    "LogSoftmax": "log-probabilities",
    "ArgMax": "class numbers",
}
#: Operations that change neither what scores mean nor their order.
_PASSING = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Cast", "Resize", "Upsample", "Slice"})
#: Operations with one constant that pixels may go through before the first layer.
_ARITHMETIC = frozenset({words.SUBTRACT, words.DIVIDE, words.SCALE, words.SHIFT, "Mul", "Add"})
_IMAGE_CHANNELS = (1, 3, 4)
#: Means beyond this are of pixels up to 255, not of pixels up to 1.
_UNIT = 2.0
_SOURCE = "the graph itself"


@dataclass(frozen=True)
class Exported:
    """What a graph tells.

    Attributes
    ----------
    name:
        Of the input.
    outputs:
        Names of the outputs.
    size, layout:
        Height and width, where they are fixed; the order of the axes.
    normalises:
        What the graph does to pixels by itself, as what is then left to do; None where it begins with its first layer.
    end:
        What comes out, where the last operation says it.
    axis:
        Of the classes, in the output.
    remarks:
        What whoever feeds it should know, one line each.
    """

    name: str
    outputs: tuple[str, ...]
    size: tuple[int, int] | None = None
    layout: Layout | None = None
    normalises: Preprocessing | None = None
    end: str | None = None
    axis: int = 1
    remarks: tuple[str, ...] = ()

    def applied(self, told: Preprocessing | None) -> Preprocessing | None:
        """What is left of a statement for the user to do: sizes are the graph's, and what it does itself is not done twice."""
        if self.normalises is not None:
            told = (
                self.normalises
                if told is None
                else replace(told, source=f"{told.source}, of which {_SOURCE} does a part", **_numbers_of(self.normalises))
            )
        if told is None:
            return None
        if self.layout is not None:
            told = replace(told, layout=self.layout)
        if self.size is not None and told.size != self.size:
            told = replace(told, size=self.size, resize=None, fit="squash")
        return told


def _numbers_of(told: Preprocessing) -> dict[str, Any]:
    return {"scale": told.scale, "mean": told.mean, "std": told.std}


def exported(checkpoint: Checkpoint) -> Exported | None:
    """What an ONNX file tells; None for a file that tells nothing of the kind."""
    computation = checkpoint.graph.computation
    if computation is None or checkpoint.framework != "onnx" or not computation.inputs or not computation.outputs:
        return None
    port = computation.inputs[0]
    layout, size = _image(computation)
    end, axis = _end(computation)
    return Exported(
        port.name,
        tuple(output.name for output in computation.outputs),
        size,
        layout,
        _normalises(computation, checkpoint),
        end,
        3 if layout == "NHWC" and end != "class numbers" and _rank(computation) == 4 and _last_axis(computation) else axis,
        tuple(_remarks(computation, checkpoint, layout)),
    )


def _image(computation: Computation) -> tuple[Layout | None, tuple[int, int] | None]:
    """The order of the axes, and height and width where both are fixed."""
    shape = computation.inputs[0].shape
    if shape is None or len(shape) != 4:
        return None, None
    if shape[1] in _IMAGE_CHANNELS and shape[3] not in _IMAGE_CHANNELS:
        layout: Layout | None = "NCHW"
    elif shape[3] in _IMAGE_CHANNELS and shape[1] not in _IMAGE_CHANNELS:
        layout = "NHWC"
    else:
        layout = None
    height, width = shape[1:3] if layout == "NHWC" else shape[2:4]
    if layout is not None and isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
        return layout, (height, width)
    return layout, None


def _rank(computation: Computation) -> int:
    shape = computation.outputs[0].shape if computation.outputs else None
    return len(shape) if shape is not None else 0


def _last_axis(computation: Computation) -> bool:
    """Whether the classes seem to lie along the last axis of a map."""
    shape = computation.outputs[0].shape or ()
    sizes = [size if isinstance(size, int) else 1 << 30 for size in shape]
    return len(sizes) == 4 and sizes[3] < min(sizes[1:3])


def _end(computation: Computation) -> tuple[str | None, int]:
    """What the last operation makes of the scores, and along which axis the classes lie; a layer's own result is of logits."""
    if not computation.results or len(computation.results[0]) != 1:
        return None, 1
    number = computation.results[0][0]
    while number != INPUT:
        operation = computation.operations[number]
        if operation.kind in _ENDS:
            axis = operation.settings.get("axis", -1 if operation.kind != "ArgMax" else 0)
            rank = _rank(computation)
            return _ENDS[operation.kind], axis % rank if rank and axis < 0 else axis
        producers = [producer for operand in operation.operands for producer in operand]
        if operation.kind in (words.CONV, words.CONV_TRANSPOSE, words.LINEAR) or (operation.kind == words.SHIFT and operation.tensors):
            return "logits", 1
        if operation.kind not in _PASSING or len(set(producers)) != 1:
            return None, 1
        number = producers[0]
    return None, 1


# What the graph does to pixels ---------------------------------------------------------------------------------------


def _normalises(computation: Computation, checkpoint: Checkpoint) -> Preprocessing | None:
    """Follow the input to the first layer, and put together what is computed with constants on the way: a · pixel + b."""
    consumers: dict[int, list[int]] = {}
    for number, operation in enumerate(computation.operations):
        for producer in {producer for operand in operation.operands for producer in operand}:
            consumers.setdefault(producer, []).append(number)
    at, factor, shift, found = INPUT, [1.0], [0.0], False
    while len(consumers.get(at, ())) == 1:
        at = consumers[at][0]
        operation = computation.operations[at]
        if operation.kind in ("Identity", "Cast", "Transpose", "Resize"):
            continue
        values = _constant(operation, checkpoint) if operation.kind in _ARITHMETIC else None
        if values is None:
            break
        changed = _after(operation, factor, shift, values)
        if changed is None:
            break
        factor, shift, found = *changed, True
    if not found or any(value == 0 for value in factor):
        return None
    channels = max(len(factor), len(shift))
    factor, shift = factor * (channels // len(factor)), shift * (channels // len(shift))
    # (pixel - mean) / deviation: the mean tells whether pixels go up to 1 or up to 255.
    means = [-b / a for a, b in zip(factor, shift, strict=True)]
    unit = max(map(abs, means), default=0.0) <= _UNIT and max(abs(1 / a) for a in factor) <= _UNIT
    return Preprocessing(
        source=f"{_SOURCE}, which computes (pixel - {_shown(means)}) / {_shown([1 / a for a in factor])}",
        scale=1 / 255 if unit else 1.0,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
    )


def _constant(operation: Operation, checkpoint: Checkpoint) -> list[float] | None:
    names: list[Any] = [use.name for use in operation.tensors.values()] or [operation.settings.get("scalar")]
    if len(names) != 1 or not isinstance(names[0], str) or sum(map(bool, operation.operands)) != 1:
        return None
    stored = next((branch.tensors[names[0]] for branch in checkpoint.branches if names[0] in branch.tensors), None)
    try:
        values = stored.read().ravel() if stored is not None and prod(stored.shape) in _IMAGE_CHANNELS else ()
    except CkptAuditError:
        return None
    return [float(value) for value in values] or None


def _after(operation: Operation, factor: list[float], shift: list[float], values: list[float]) -> tuple[list[float], list[float]] | None:
    """Give a and b of a · pixel + b, after one more operation with a constant."""
    count = max(len(factor), len(values))
    a, b, c = (numbers * (count // len(numbers)) for numbers in (factor, shift, values))
    first = bool(operation.operands[0])
    if operation.kind in (words.SHIFT, "Add"):
        return a, [x + z for x, z in zip(b, c, strict=True)]
    if operation.kind in (words.SCALE, "Mul"):
        return [x * z for x, z in zip(a, c, strict=True)], [x * z for x, z in zip(b, c, strict=True)]
    if operation.kind == words.SUBTRACT and first:
        return a, [x - z for x, z in zip(b, c, strict=True)]
    if operation.kind == words.DIVIDE and first and all(c):
        return [x / z for x, z in zip(a, c, strict=True)], [x / z for x, z in zip(b, c, strict=True)]
    return None


def _shown(values: list[float]) -> str:
    one = len(set(values)) == 1
    return f"{values[0]:.4g}" if one else f"[{', '.join(f'{value:.4g}' for value in values)}]"


# What OpenCV makes of it ---------------------------------------------------------------------------------------------


def _remarks(computation: Computation, checkpoint: Checkpoint, layout: Layout | None) -> Iterator[str]:
    port = computation.inputs[0]
    if len(computation.inputs) > 1:
        yield f"it takes {len(computation.inputs)} inputs, and the code below feeds the first, `{port.name}`"
    if port.dtype not in ("float32", ""):
        yield f"the input is {port.dtype}: convert the batch (`batch.astype`)"
    free = [f"`{size}`" for size in port.shape or () if not isinstance(size, int)]
    if free:
        yield f"sizes of the input that may be any: {', '.join(free)}; OpenCV takes those of the first batch"
    if layout == "NHWC":
        yield "channels come last, and cv2.dnn.blobFromImage puts them first: the code transposes"
    domains = [domain for domain in checkpoint.metadata.get("opset", {}) if domain not in ("ai.onnx", "", "ai.onnx.ml")]
    foreign = sorted({operation.settings["domain"] for operation in computation.operations if "domain" in operation.settings})
    if foreign:
        yield f"operators of {', '.join(map(str, foreign))} are none of ONNX's: OpenCV does not have them"
    elif domains:
        yield f"it names the operator sets {', '.join(domains)}, and uses none of their operators in the graph itself"
    if any(operation.settings.get("coordinates") == "tf_crop_and_resize" for operation in computation.operations):
        yield "a Resize works by tf_crop_and_resize, which OpenCV does not have"
    if any(output.shape is None for output in computation.outputs):
        yield "an output has no shape in the file: OpenCV 5.0 refuses that (onnx.shape_inference.infer_shapes adds it)"
    if checkpoint.metadata.get("train_mode"):
        yield "it was exported in train mode: its BatchNorm or Dropout does not evaluate; export it again after model.eval()"


def code_to_run(told: Exported, file: str, library: str, output: str | None) -> str:
    """Lines behind those that make ``batch``: load the model, run it, and read the first output."""
    if library == "opencv":
        run = [f"net = cv2.dnn.readNetFromONNX({file!r})", "net.setInput(batch)", *_forward(told)]
    else:
        run = [
            f'session = onnxruntime.InferenceSession({file!r}, providers=["CPUExecutionProvider"])',
            f"output = session.run([{told.outputs[0]!r}], {{{told.name!r}: numpy.asarray(batch, numpy.float32)}})[0]",
        ]
    return "\n".join([*run, *_reading(told, output)]) + "\n"


def _forward(told: Exported) -> list[str]:
    if len(told.outputs) == 1:
        return ["output = net.forward()"]
    return [f"output = net.forward({told.outputs[0]!r})"]


def _reading(told: Exported, output: str | None) -> list[str]:
    if output == "class numbers":
        return ["answer = output[0]  # they are class numbers already"]
    if output == "sigmoid probabilities":
        return ["answer = output[0] > 0.5  # each class for itself"]
    return [f"answer = output.argmax({told.axis})[0]"]
