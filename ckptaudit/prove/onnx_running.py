"""An ONNX file run by onnxruntime and watched: what reaches a node is asked for as one more output of the graph."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from math import prod
from typing import TYPE_CHECKING, Any

from ckptaudit.align.by_topology.naming import values_by_node_names
from ckptaudit.arch.failures import describe_error
from ckptaudit.arch.libraries import missing_library
from ckptaudit.errors import ArchitectureError
from ckptaudit.graph.names import parent
from ckptaudit.prove.running import Look, Moments, Pass, thinned

if TYPE_CHECKING:
    import numpy

    from ckptaudit.read import Checkpoint

    Array = numpy.ndarray[Any, Any]

#: Sides to try where the model takes any size.
_SIDES = (224, 256, 128, 64, 32)
#: Values that an image, or a batch of the size that the graph asks for, may have.
_MAX_VALUES = 1 << 28
#: Fewer values of a channel in one pass are no distribution.
_MIN_VALUES = 16
#: Nodes that are looked at: layers, and what follows them.
_LOOKED = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "Relu", "LeakyRelu", "PRelu", "Clip", "HardSwish", "Gelu"}
    | {"Sigmoid", "Tanh", "Softmax", "LayerNormalization"}
)


class OnnxNetwork:
    """A graph with one image as its input; the file is left as it is.

    Parameters
    ----------
    checkpoint:
        An open ONNX file.
    layout:
        ``NHWC`` where its channels come last.
    class_axis:
        Axis of the classes in what it gives.

    Raises
    ------
    MissingLibraryError
        onnxruntime or onnx is not installed.
    ArchitectureError
        onnxruntime does not take the file, or it takes no image.
    """

    framework = "onnx"

    def __init__(self, checkpoint: Checkpoint, layout: str | None, class_axis: int) -> None:
        try:
            import onnx
            import onnxruntime  # noqa: F401 -- asked for at once, so that nothing else is done in vain
        except ImportError as error:
            raise missing_library(error.name or "onnxruntime", "onnx") from error
        self.checkpoint = checkpoint
        self._last = layout == "NHWC"
        try:
            self._model = onnx.load(str(checkpoint.path))
        except Exception as error:
            raise ArchitectureError(f"onnx does not read {checkpoint.path.name}: {describe_error(error)}") from None
        graph = self._model.graph
        known = {tensor.name for tensor in graph.initializer}
        inputs = [port for port in graph.input if port.name not in known]
        if len(inputs) != 1:
            raise ArchitectureError(f"it takes {len(inputs)} inputs, and only graphs that take one image are run")
        self._input = inputs[0].name
        self._sizes = [dim.dim_value if dim.dim_value > 0 else None for dim in inputs[0].type.tensor_type.shape.dim]
        if len(self._sizes) != 4:
            raise ArchitectureError("its input is no image: it has not four axes")
        if prod(size or 1 for size in self._sizes) > _MAX_VALUES:
            raise ArchitectureError(f"its input of {'×'.join(map(str, self._sizes))} is larger than images are")
        if not graph.output:
            raise ArchitectureError("it has no output")
        self._output, self.class_axis = self._scores(graph, class_axis)
        self._nodes = {node.name or f"{node.op_type}-{number}": node for number, node in enumerate(graph.node)}
        held = checkpoint.branch.tensors
        self._norms = {
            parent(node.input[3]) or name: node
            for name, node in self._nodes.items()
            if node.op_type == "BatchNormalization" and node.output and len(node.input) > 4 and all(t in held for t in node.input[1:5])
        }
        self._sessions: dict[tuple[str, ...], Any] = {}
        #: Results of the BatchNorm layers that scale by what they get, where that is asked for.
        self._scaled = [node.output[0] for node in self._norms.values()]
        #: BatchNorm layers of which one pass shows too few values, of a single pixel of a single image nothing would be left on its own;
        #: and those that get what such a one gives.
        self.unseen: tuple[str, ...] = ()
        if self._norms and self._sizes[0]:
            import numpy

            counted = self.run([numpy.zeros((self._sizes[0], *next(self.input_sizes())), numpy.float32)]).norms
            few = [path for path, moments in counted.items() if moments.count < _MIN_VALUES]
            unseen = {self._norms[path].output[0] for path in few}
            self._scaled = [output for output in self._scaled if output not in unseen]
            fed = [path for path, node in self._norms.items() if unseen & self._norms_before(graph, node.input[0])]
            self.unseen = tuple(dict.fromkeys((*few, *fed)))
            self._norms = {path: node for path, node in self._norms.items() if path not in self.unseen}

    @staticmethod
    def _norms_before(graph: Any, value: str) -> set[str]:
        """Results of the BatchNorm layers from which ``value`` comes with no other between."""
        makers = {output: node for node in graph.node for output in node.output}
        found: set[str] = set()
        waiting, known = [value], {value}
        while waiting:
            node = makers.get(waiting.pop())
            if node is None:
                continue
            if node.op_type == "BatchNormalization":
                found.add(node.output[0])
                continue
            fresh = [name for name in node.input if name not in known]
            known.update(fresh)
            waiting += fresh
        return found

    @staticmethod
    def _scores(graph: Any, class_axis: int) -> tuple[str, int]:
        """The first output; where that is class numbers, the scores that they are taken from."""
        name = graph.output[0].name
        makers = {output: node for node in graph.node for output in node.output}
        maker = makers.pop(name, None)
        while maker is not None and maker.input and maker.op_type in ("Cast", "Squeeze", "Identity", "Unsqueeze"):
            maker = makers.pop(maker.input[0], None)  # each once: nothing has looked for circles yet
        if maker is not None and maker.input and maker.op_type == "ArgMax":
            axis = next((attribute.i for attribute in maker.attribute if attribute.name == "axis"), 0)
            return maker.input[0], axis
        return name, class_axis

    def norms(self) -> dict[str, Moments]:
        """See :class:`ckptaudit.prove.running.Network`."""
        read = self.checkpoint.read
        return {
            path: Moments(1, read(node.input[3]).astype("float64"), read(node.input[4]).astype("float64"))
            for path, node in self._norms.items()
        }

    def weights(self) -> Iterator[tuple[str, Array]]:
        """See :class:`ckptaudit.prove.running.Network`; under the names that nodes tell."""
        yield from values_by_node_names(self.checkpoint.graph, self.checkpoint.read)

    def input_sizes(self) -> Iterator[tuple[int, int, int]]:
        """See :class:`ckptaudit.prove.running.Network`."""
        channels, height, width = (*self._sizes[3:], *self._sizes[1:3]) if self._last else self._sizes[1:]
        for side in _SIDES:
            yield channels or 3, height or side, width or side
            if height and width:
                return

    def run(self, batches: Iterable[Array], *, alone: bool = False, until: str | None = None, look: int = 0) -> Pass:
        """See :class:`ckptaudit.prove.running.Network`.

        Raises
        ------
        ArchitectureError
            onnxruntime does not take such images.
        """
        import numpy

        names = list(self._norms)
        watched = names[: names.index(until) + 1] if until in names else names
        wanted = {f"norm {path}": self._norms[path].input[0] for path in watched}
        found_at = ((name, node) for name, node in self._nodes.items() if look and node.op_type in _LOOKED and node.output)
        looked = {f"look {name}": node.output[0] for name, node in found_at}
        if until is None:
            wanted["out"] = self._output
        wanted |= looked
        session = self._session(tuple(dict.fromkeys(wanted.values())), alone)
        made = Pass(numpy.empty((0, 0)), {}, {})
        outputs: list[Array] = []
        seen = 0
        for batch in batches:
            for part in self._parts(batch):
                if looked and seen >= look:
                    wanted, looked = {key: name for key, name in wanted.items() if key not in looked}, {}
                    session = self._session(tuple(dict.fromkeys(wanted.values())), alone)
                seen += len(part)
                given = numpy.ascontiguousarray(part.transpose(0, 2, 3, 1) if self._last else part, numpy.float32)
                try:
                    found = dict(zip(session[1], session[0].run(list(session[1]), {self._input: given}), strict=True))
                except Exception as error:
                    sizes = "×".join(map(str, part.shape[1:]))
                    raise ArchitectureError(f"the graph cannot be run on images of {sizes}: {describe_error(error)}") from None
                self._see(made, outputs, {key: found[name] for key, name in wanted.items()}, bool(numpy.isfinite(part).all()))
        if outputs:
            made.outputs = numpy.concatenate(outputs)
        return made

    def results(self, images: Array) -> list[Array]:
        """Every output of numbers with a point, for a batch of images.

        Raises
        ------
        ArchitectureError
            onnxruntime does not take such images.
        """
        import numpy

        names = tuple(port.name for port in self._model.graph.output)
        session = self._session(names, False)[0]
        found: list[list[Array]] = []
        for part in self._parts(images):
            given = numpy.ascontiguousarray(part.transpose(0, 2, 3, 1) if self._last else part, numpy.float32)
            try:
                found.append(session.run(list(names), {self._input: given}))
            except Exception as error:
                raise ArchitectureError(f"the graph cannot be run: {describe_error(error)}") from None
        whole = [numpy.concatenate(parts) if parts[0].ndim else parts[0] for parts in zip(*found, strict=True)]
        return [values for values in whole if values.dtype.kind == "f"]

    def _parts(self, batch: Array) -> Iterable[Array]:
        """The batch in pieces of the size that the graph was exported for."""
        fixed = self._sizes[0]
        return [batch] if not fixed else [batch[start : start + fixed] for start in range(0, len(batch) - fixed + 1, fixed)]

    def _see(self, made: Pass, outputs: list[Array], found: dict[str, Array], finite: bool) -> None:
        import numpy

        for key, values in found.items():
            what, _, name = key.partition(" ")
            if what == "norm":
                flat = numpy.moveaxis(values, 1, 0).reshape(values.shape[1], -1).astype(numpy.float64)
                moments = Moments(flat.shape[1], flat.mean(1), flat.var(1, ddof=min(1, flat.shape[1] - 1)))
                made.norms[name] = made.norms[name].with_batch(moments.count, moments.mean, moments.var) if name in made.norms else moments
            elif what == "look":
                kind = self._nodes[name].op_type
                made.layers.setdefault(name, Look({"Relu": "ReLU"}.get(kind, kind))).see(values, finite)
                finite &= made.layers[name].finite
            else:
                made.shape = values.shape
                axis = self.class_axis % values.ndim if values.ndim > 1 else 0
                outputs.append(thinned((numpy.moveaxis(values, axis, 1) if values.ndim > 1 else values[:, None]).astype(numpy.float32)))

    def _session(self, outputs: tuple[str, ...], alone: bool) -> tuple[Any, tuple[str, ...]]:
        import onnx
        import onnxruntime

        key = (*outputs, str(alone))
        if key not in self._sessions:
            model = onnx.ModelProto()
            model.CopyFrom(self._model)
            if alone:
                _scale_by_batches(
                    model.graph,
                    self._scaled,
                    next((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), 1),
                )
            there = {port.name for port in model.graph.output}
            # Of what type they are, onnxruntime finds out; all that is asked for are numbers.
            extra = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs if name not in there)
            model.graph.output.extend(extra)
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            options.intra_op_num_threads = 1 if alone else 0
            try:
                session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            except Exception as error:
                raise ArchitectureError(f"onnxruntime does not take {self.checkpoint.path.name}: {describe_error(error)}") from None
            self._sessions[key] = session, outputs
        made: tuple[Any, tuple[str, ...]] = self._sessions[key]
        return made


def _scale_by_batches(graph: Any, results: Collection[str], opset: int) -> None:
    """Let each BatchNorm that gives one of ``results`` scale by what it gets, as in training, over all but the channels of an image."""
    import numpy
    import onnx
    from onnx import helper, numpy_helper

    held = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    axes = numpy.array([0, 2, 3], numpy.int64)
    if opset >= 18:
        graph.initializer.append(numpy_helper.from_array(axes, "ckptaudit.axes"))
    for number, node in enumerate(graph.node):
        if not (node.output and node.output[0] in results):
            nodes.append(node)
            continue
        x, y, at = node.input[0], node.output[0], f"ckptaudit.{number}"
        gamma, beta = (numpy_helper.to_array(held[name]).reshape(1, -1, 1, 1) for name in node.input[1:3])
        eps = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)
        for name, values in (("gamma", gamma), ("beta", beta), ("eps", numpy.array(eps, gamma.dtype))):
            graph.initializer.append(numpy_helper.from_array(numpy.ascontiguousarray(values), f"{at}.{name}"))

        def mean(source: str, result: str) -> onnx.NodeProto:
            if opset >= 18:
                return helper.make_node("ReduceMean", [source, "ckptaudit.axes"], [result], keepdims=1)
            return helper.make_node("ReduceMean", [source], [result], keepdims=1, axes=axes.tolist())

        nodes += [
            mean(x, f"{at}.mean"),
            helper.make_node("Sub", [x, f"{at}.mean"], [f"{at}.off"]),
            helper.make_node("Mul", [f"{at}.off", f"{at}.off"], [f"{at}.square"]),
            mean(f"{at}.square", f"{at}.var"),
            helper.make_node("Add", [f"{at}.var", f"{at}.eps"], [f"{at}.more"]),
            helper.make_node("Sqrt", [f"{at}.more"], [f"{at}.std"]),
            helper.make_node("Div", [f"{at}.off", f"{at}.std"], [f"{at}.unit"]),
            helper.make_node("Mul", [f"{at}.unit", f"{at}.gamma"], [f"{at}.scaled"]),
            helper.make_node("Add", [f"{at}.scaled", f"{at}.beta"], [y]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
