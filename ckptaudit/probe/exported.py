"""An ONNX file, probed as it is: run by onnxruntime, its output held against OpenCV's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckptaudit.align.by_topology.naming import named_by_nodes
from ckptaudit.contract.exported import Exported, exported
from ckptaudit.contract.statements import stated_beside, stated_classes
from ckptaudit.errors import ArchitectureError, CheckpointError
from ckptaudit.graph.facts import facts_of
from ckptaudit.probe.hypothesis import Hypothesis, judged, ranked, untested
from ckptaudit.probe.probing import Probe, Question, probe_network
from ckptaudit.prove.onnx_running import OnnxNetwork
from ckptaudit.records import replace

if TYPE_CHECKING:
    import numpy

    from ckptaudit.arch import Model
    from ckptaudit.read import Checkpoint

    Array = numpy.ndarray[Any, Any]

#: Two runtimes differ by rounding: up to this share of the output's spread they say the same.
_SAME = 1e-2
_FOLDED = "The file has BatchNorm folded, if any, and no statistics by which {}: probe the checkpoint that was exported."


def probe_export(checkpoint: Checkpoint, model: Model | None, question: Question) -> Probe:
    """Probe an ONNX file.

    Parameters
    ----------
    checkpoint:
        The open file.
    model:
        The architecture that it is sure to hold, which may state how images are fed; None where that is not known.
    question:
        See :class:`ckptaudit.probe.probing.Question`.

    Raises
    ------
    UsageError
        There are no images in the folder, or a way that is asked for is none.
    CkptAuditError
        The file cannot be run; onnxruntime is missing.
    """
    told = exported(checkpoint)
    if told is None:
        raise CheckpointError(checkpoint.path, "tells nothing of its input: it is not run")
    stated = told.applied(stated_beside(checkpoint.path) or (model.preprocessing if model is not None else None))
    graph = named_by_nodes(checkpoint.graph)
    network = OnnxNetwork(checkpoint, told.layout, told.axis)
    classes = stated_classes(checkpoint.metadata)
    outcome = probe_network(
        network,
        graph,
        question,
        stated=stated,
        stated_classes=classes[0] if classes else None,
        dtype=facts_of(graph).dtype,
    )
    kept = [hypothesis for hypothesis in map(_as_exported(network), outcome.hypotheses) if hypothesis.cause != "restoring"]
    if checkpoint.metadata.get("train_mode"):
        kept = [_trains() if hypothesis.cause == "mode" else hypothesis for hypothesis in kept]
    remarks = [*outcome.remarks]
    if network.unseen:
        one = f"the first `{network.unseen[0]}`"
        remarks.append(
            f"{len(network.unseen)} BatchNorm layers, {one}, get too few values of one image to be judged, or what comes from such"
        )
    remarks += ["the file itself was run, by onnxruntime; nothing was restored"]
    return replace(
        outcome,
        checkpoint=checkpoint.path.name,
        arch=model.arch if model is not None else "",
        hypotheses=ranked([*kept, judge_opencv(checkpoint, told, network)]),
        remarks=tuple(remarks),
    )


def _as_exported(network: OnnxNetwork) -> Any:
    """Says of what takes BatchNorm statistics that an export has them folded."""

    def told(hypothesis: Hypothesis) -> Hypothesis:
        if network.norms() or hypothesis.status != "not tested":
            return hypothesis
        if hypothesis.cause == "preprocessing":
            return untested("preprocessing", _FOLDED.format("ways to feed images could be told apart"))
        if hypothesis.cause == "batch-norm":
            return untested("batch-norm", _FOLDED.format("they could be held against the weights"))
        return hypothesis

    return told


def _trains() -> Hypothesis:
    return judged(
        "mode",
        0.97,
        "The graph was exported in train mode: its BatchNorm scales by what it is fed, or its Dropout drops.",
        "export again after model.eval(), with training=TrainingMode.EVAL",
    )


def _litter() -> None:
    """Leave numbers where memory was free: what a runtime takes from there without writing to it first then shows, and not by chance."""
    import numpy

    for _ in range(3):
        left = [numpy.full(size, 1e3, numpy.float32) for size in (1 << 20, 1 << 18, 1 << 16, 1 << 14) for _ in range(16)]
        del left


def judge_opencv(checkpoint: Checkpoint, told: Exported, network: OnnxNetwork) -> Hypothesis:
    """Whether OpenCV's DNN module, where it is installed, gives what onnxruntime gives, on noise."""
    import numpy

    try:
        import cv2
    except ImportError:
        return untested("opencv", "OpenCV is not installed (pip install opencv-python-headless).")
    version = cv2.__version__
    try:
        size = next(network.input_sizes())
        noise = numpy.random.default_rng(0).standard_normal((1, *size), numpy.float32)
        wanted = network.run([noise]).outputs
    except ArchitectureError as error:
        return untested("opencv", f"onnxruntime does not run it: {error}")
    _litter()
    use = "run it with onnxruntime, or with another version of OpenCV"
    try:
        net = cv2.dnn.readNetFromONNX(str(checkpoint.path))
        net.setInput(noise.transpose(0, 2, 3, 1).copy() if told.layout == "NHWC" else noise)
        given = net.forward(told.outputs[0])
    except cv2.error as error:
        line = " ".join(str(error.err or error).split())[:160]
        return judged("opencv", 0.5, f"OpenCV {version} does not take the file: {line}", use, {"version": version})
    if told.end == "class numbers":
        return untested("opencv", "It gives class numbers, and those are not compared.")
    axis = network.class_axis % given.ndim
    from ckptaudit.prove.running import thinned

    found = thinned(numpy.moveaxis(given, axis, 1).astype(numpy.float32))
    if found.shape != wanted.shape:
        shapes = " and ".join("×".join(map(str, values.shape)) for values in (found, wanted))
        return judged("opencv", 0.7, f"OpenCV {version} gives another shape than onnxruntime: {shapes}.", use, {"version": version})
    with numpy.errstate(all="ignore"):
        off = float(numpy.abs(found - wanted).max() / (wanted.std() or 1.0))
    figures = {"difference": off, "version": version}
    if not off <= _SAME:
        message = f"OpenCV {version} gives another output than onnxruntime on the same input: {off:.2g} standard deviations apart."
        return judged("opencv", 0.75, f"{message} It is a cause if you run the file with OpenCV.", use, figures)
    return judged("opencv", 0.03, f"OpenCV {version} gives what onnxruntime gives ({off:.1g} standard deviations apart).", "", figures)
