"""Restore, run, judge: every hypothesis that can be tested with what is there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptaudit._version import __version__
from ckptaudit.arch.preprocessing import Preprocessing
from ckptaudit.contract.statements import stated_beside, stated_classes
from ckptaudit.errors import ArchitectureError, CkptAuditError, ImagesError, UsageError
from ckptaudit.graph import LayerGraph
from ckptaudit.graph.facts import facts_of
from ckptaudit.graph.heads import main_head, output_axis
from ckptaudit.pipeline import Audit
from ckptaudit.probe.batch_norm import judge_batch_norm
from ckptaudit.probe.feeding import FeedingError, Given, fed, parse_given
from ckptaudit.probe.head import Head, judge_head
from ckptaudit.probe.hypothesis import Hypothesis, on_a_guess, ranked, untested
from ckptaudit.probe.mask import judge_mask
from ckptaudit.probe.mode import judge_mode
from ckptaudit.probe.numbers import judge_numbers
from ckptaudit.probe.preprocessing import Score, judge_preprocessing
from ckptaudit.probe.reading import Output, judge_decisions, judge_reading, output_of, parse_read
from ckptaudit.probe.restored import restored
from ckptaudit.probe.restoring import judge_restoring, missing_tensors
from ckptaudit.prove.agreement import Agreement, measure_agreement
from ckptaudit.prove.images import crops, image_files, pixels_of
from ckptaudit.prove.presets import PRESETS, flipped, prepared
from ckptaudit.prove.running import Network, Pass, batches_of, divergences, network_of
from ckptaudit.records import dataclass, field, replace
from ckptaudit.text import plural

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

SCHEMA = "ckptaudit.probe/1"
#: Crops at most, and at least; below the least the median over channels begins to tremble.
_MOST, _LEAST = 120, 6
#: Images in one batch: what fits without anybody noticing, in pixels.
_BATCH_PIXELS = 32 * 224 * 224
#: Layers that a way to feed images is judged by where there is no time for all: the front of a network is where it shows.
_FRONT = 8
#: Images on which each layer is looked at, at least where there are as many.
_LOOKED = 16
#: Crops on which the user's own way is followed to the end, where there is no time for all and it is the wrong one.
_FEW = 4
#: A first run that took less than this, in seconds, may have been spent on getting ready.
_QUICK = 1.0
_NO_IMAGES = "There are no images (--images)."


@dataclass(frozen=True)
class Question:
    """What the user wants to know, and does.

    Attributes
    ----------
    images:
        A folder of ordinary images, best the user's own; None for what needs none.
    preprocess, read:
        What the user does to images, and with the output: ``--preprocess`` and ``--read`` as they were typed.
    classes:
        How many classes the user expects.
    input_size:
        Channels, height and width; guessed where it is not given.
    budget:
        Seconds that running the model may take: the number of images follows from it.
    crops:
        Pieces of images that are run, at most.
    tick:
        Called with the passes done, of all, and what is done next.
    """

    images: Path | None = None
    preprocess: str | None = None
    read: str | None = None
    classes: int | None = None
    input_size: Sequence[int] | None = None
    budget: float = 60.0
    crops: int = _MOST
    tick: Callable[[int, int, str], None] = lambda done, total, what: None


@dataclass(frozen=True, eq=False)
class Probe:
    """The outcome.

    Attributes
    ----------
    checkpoint, arch:
        What was restored into what.
    hypotheses:
        All of them, the likeliest cause first.
    agreement:
        BatchNorm by BatchNorm, fed as agrees best; None without images or statistics.
    before:
        By BatchNorm, the divergence as the user feeds images, where that is another way; else empty.
    output:
        What comes out; None where the model was not run.
    images:
        Image files, crops of them that were run, height and width; None without images.
    remarks:
        What a reader should know of how it was done, one line each.
    """

    checkpoint: str
    arch: str
    hypotheses: tuple[Hypothesis, ...]
    agreement: Agreement | None = None
    before: Mapping[str, float] = field(default_factory=dict)
    output: Output | None = None
    images: tuple[int, int, tuple[int, int]] | None = None
    remarks: tuple[str, ...] = ()

    @property
    def causes(self) -> tuple[Hypothesis, ...]:
        """Hypotheses that are sure enough to be called causes."""
        return tuple(hypothesis for hypothesis in self.hypotheses if hypothesis.status == "cause")

    def to_json(self) -> dict[str, Any]:
        """The outcome as JSON values, schema ``ckptaudit.probe/1``."""
        agreement, images = self.agreement, self.images
        return {
            "schema": SCHEMA,
            "tool": {"name": "ckptaudit", "version": __version__},
            "checkpoint": self.checkpoint,
            "arch": self.arch,
            "images": None if images is None else {"files": images[0], "crops": images[1], "size": list(images[2])},
            "hypotheses": [hypothesis.to_json() for hypothesis in self.hypotheses],
            "batch_norm": None
            if agreement is None
            else [
                {
                    "layer": layer.path,
                    "running": round(layer.running, 6),
                    "alone": round(layer.alone, 6),
                    "sees_input": layer.sees_input,
                    "before": round(self.before[layer.path], 6) if layer.path in self.before else None,
                }
                for layer in agreement.layers
            ],
            "output": None
            if self.output is None
            else {"kind": self.output.kind, "classes": self.output.classes, "shape": list(self.output.shape), "axis": self.output.axis},
            "remarks": list(self.remarks),
        }


def check_question(question: Question) -> None:
    """Refuse at once what no model could answer, before seconds are spent on building one.

    Raises
    ------
    UsageError
        A way to feed or to read that is asked for is none.
    ImagesError
        There are no images in the folder, or Pillow is not installed.
    """
    parse_read(question.read)
    # What the library states is known with the model, and the user's own code runs when it is needed.
    if question.preprocess is not None and question.preprocess != "stated" and ":" not in question.preprocess:
        parse_given(question.preprocess, None)
    if question.images is not None:
        image_files(question.images)


def probe_checkpoint(audit: Audit, question: Question) -> Probe:
    """Restore a file into its model, by the plan of its audit, and probe that.

    Parameters
    ----------
    audit:
        Of the file against the model. What the plan leaves ambiguous is restored, too: it is what the question is about.
    question:
        See :class:`Question`.

    Raises
    ------
    UsageError
        There are no images in the folder, the model takes no images, or a way that is asked for is none.
    CkptAuditError
        The file cannot be read, or the model cannot be built.
    """
    parse_read(question.read)
    checkpoint, model = audit.checkpoint, audit.model
    head = main_head(model.graph)
    restoring = judge_restoring(audit, head.path if head else None)
    if not audit.plan.steps:
        return Probe(checkpoint.path.name, model.arch, ranked([restoring]), remarks=("nothing of the file fits: the model was not run",))
    stated = stated_beside(checkpoint.path) or model.preprocessing
    classes = stated_classes(checkpoint.metadata)
    outcome = probe_network(
        network_of(restored(model, audit.plan, checkpoint)),
        model.graph,
        question,
        stated=stated,
        stated_classes=classes[0] if classes else None,
        missing=frozenset(missing_tensors(audit)),
        dtype=facts_of(checkpoint.graph).dtype,
    )
    found = outcome.hypotheses if audit.plan.safe else on_a_guess(outcome.hypotheses)
    return replace(outcome, checkpoint=checkpoint.path.name, arch=model.arch, hypotheses=ranked([restoring, *found]))


def with_masks(probe: Probe, masks: Sequence[Path]) -> Probe:
    """The same with what image files that look black hold.

    Raises
    ------
    MaskError
        One of them cannot be read as an image.
    """
    return replace(probe, hypotheses=ranked([*probe.hypotheses, *map(judge_mask, masks)]))


def probe_network(
    network: Network,
    graph: LayerGraph,
    question: Question,
    *,
    stated: Preprocessing | None = None,
    stated_classes: int | None = None,
    missing: frozenset[str] = frozenset(),
    dtype: str | None = None,
) -> Probe:
    """Probe a network that has its values.

    Parameters
    ----------
    network, graph:
        It, and its layers.
    question:
        See :class:`Question`.
    stated:
        What library or file state of the input.
    stated_classes:
        How many classes the file names.
    missing:
        The model's tensors that were not restored.
    dtype:
        In which the file keeps most values.

    Raises
    ------
    ImagesError
        There are no images in the folder, or the model takes no images.
    UsageError
        A way to feed or to read that is asked for is none.
    """
    given, read = parse_given(question.preprocess, stated), parse_read(question.read)
    head = _head(network, graph)
    head_missing = head is not None and any(name in missing for name in (f"{head.path}.weight", f"{head.path}/kernel"))
    judge = _Judge(network, question, given, stated)
    try:
        judge.run()
    except (ImagesError, UsageError, FeedingError):
        raise
    except CkptAuditError as error:
        judge.why_not = f"The model could not be run: {error}"
        judge.remarks.append(str(error))
    seen, images = judge.seen, question.images is not None
    usable = seen is not None and seen.outputs.size > 0 and math.isfinite(float(seen.outputs.sum()))
    output = output_of(seen, network.class_axis) if seen is not None and usable else None
    decisions = judge_decisions(seen.outputs if seen is not None and usable else None, head.bias if head else None, images)
    readings = [judge_reading(output, read, judge.why_not or "The output holds NaN.")]
    if decisions is not None:
        readings = [decisions] if readings[0].status != "cause" else [*readings, decisions]
    hypotheses = [
        judge.layout or judge_preprocessing(judge.scores, judge.why_not or _no_scores(network, images)),
        judge_batch_norm(network.norms(), _batches_seen(network), judge.agreement, judge.why_not or _NO_IMAGES),
        judge_numbers(network, seen, dtype, images),
        judge_mode(network, judge.mode_images, judge.agreement, judge.why_not) if judge.why_not == "" else untested("mode", judge.why_not),
        judge_head(head, question.classes, stated_classes, head_missing),
        *readings,
    ]
    return Probe("", "", ranked(hypotheses), judge.agreement, judge.before, output, judge.images, tuple(judge.remarks))


def _no_scores(network: Network, images: bool) -> str:
    if not network.norms():
        return "The model has no BatchNorm statistics, by which ways to feed images could be told apart."
    return _NO_IMAGES if not images else "No way could be tried."


class _Judge:
    """Runs the network as often as the budget allows and keeps what the hypotheses ask for."""

    def __init__(self, network: Network, question: Question, given: Given | None, stated: Preprocessing | None) -> None:
        self.network, self.question, self.given, self.stated = network, question, given, stated
        self.scores: list[Score] = []
        self.agreement: Agreement | None = None
        self.before: dict[str, float] = {}
        self.seen: Pass | None = None
        self.mode_images: Array | None = None
        self.images: tuple[int, int, tuple[int, int]] | None = None
        self.layout: Hypothesis | None = None
        self.remarks: list[str] = []
        self.why_not = ""
        self._figures: dict[str, dict[str, float]] = {}
        self._done, self._passes = 0, 1

    def run(self) -> None:
        """Run what can be run."""
        files = image_files(self.question.images) if self.question.images is not None else None
        noise, made, seconds = self._first_run(files is not None)
        if files is None:
            self.remarks.append("without images (--images) only what needs none was tested; the model was run on noise")
            self.seen, self.mode_images = made, _three(noise)
        else:
            self._with_images(files, noise.shape[1:], seconds)

    def _with_images(self, files: list[Path], size: Sequence[int], seconds: float) -> None:
        channels, height, width = size
        count, until = self._plan(seconds)
        pictures = crops(files, count, grey=channels == 1)
        count = len(pictures)
        own = None
        if self.given is not None and self.given.function is not None:
            own, self.layout = fed(self.given, pictures, channels)
            height, width = own.shape[2:]
        batch = max(2, min(count, _BATCH_PIXELS // (height * width)))
        pixels = pixels_of(pictures, (height, width))
        self.images = (len(files), count, (height, width))
        part = f", and ways to feed them are judged by the first {_FRONT} BatchNorms" if until else ""
        crops_in_words = f"{plural(count, 'crop')} of {plural(len(files), 'image')} at {height}×{width}"
        if count < self.question.crops:
            self.remarks.append(f"{crops_in_words} were run, as many as {self.question.budget:.0f} s allow{part}; --budget gives it more")
        best = self._best_way(pixels, own, batch, until)
        self._tick("looking at each layer")
        self.agreement = measure_agreement(self.network, best, batch, lambda: self._tick("looking at each BatchNorm on its own"), _LOOKED)
        if self.agreement is not None:
            self.seen = self.agreement.passes[0]
        else:
            self.seen = self.network.run(batches_of(best, batch), look=_LOOKED)
        self.mode_images = best[:3] if len(best) > 2 else _three(best)
        self.question.tick(self._passes, self._passes, "comparing modes")

    def _plan(self, seconds: float) -> tuple[int, str | None]:
        """How many crops, and the BatchNorm behind which nothing is computed while ways are compared."""
        norms = list(self.network.norms())
        self._passes = len(PRESETS) + 6
        affordable = self.question.budget / max(seconds, 1e-9)  # images through the whole network
        # Each way, the best one in the other order of colours, and the best one twice more, the second time each BatchNorm on its own.
        crops_of_all = int(affordable / (len(PRESETS) + 3))
        if crops_of_all >= 24 or len(norms) <= _FRONT:
            return max(_LEAST, min(self.question.crops, crops_of_all)), None
        # Two passes over all crops, and the front of the network, a tenth of it or so, for each way; the rest is of a few images.
        return max(_LEAST, min(24, self.question.crops, int((affordable - _FEW) / 3))), norms[_FRONT - 1]

    def _best_way(self, pixels: Array, own: Array | None, batch: int, until: str | None) -> Array:
        """Score every way, and give the images as the user feeds them where that agrees, else as agrees best."""
        remembered = self.network.norms()
        tried: dict[str, Array] = {}
        if own is not None and self.given is not None:
            self._score(self.given.name, self.given.words, own, batch, until, given=True)
            tried[self.given.name] = own
        for name, way, is_stated in self._ways(pixels.shape[-1]):
            values = prepared(pixels, way)
            is_given = self.given is not None and (self.given.name == name or (self.given.name == "stated" and is_stated))
            self._score(name, way.source, values, batch, until, given=is_given, stated=is_stated)
            tried[name] = values
        if not remembered:
            names = (self.given.name if self.given else "", "stated", *tried)
            return next(tried[name] for name in names if name in tried)
        best, known = min(self.scores, key=lambda score: score.total), {**PRESETS, **({"stated": self.stated} if self.stated else {})}
        if pixels.shape[-1] == 3 and best.name in known:
            other = flipped(known[best.name])
            self._score(f"{best.name}, {other.channels}", other.source, prepared(pixels, other), batch, until, other_order=True)
        judged = judge_preprocessing(self.scores)
        given = next((score for score in self.scores if score.given), None)
        if given is not None and judged.status != "cause":
            return tried[given.name]
        if given is not None and until is None:
            self.before = self._figures[given.name]
        elif given is not None:
            self.before = divergences(self.network.run([tried[given.name][:_FEW]]).norms, remembered)
            self.remarks.append(f"what reaches each BatchNorm as you feed images was looked at on {min(_FEW, len(pixels))} crops")
        return tried[best.name]

    def _ways(self, channels: int) -> Iterator[tuple[str, Preprocessing, bool]]:
        for name, preset in PRESETS.items():
            if channels == 3 or name not in ("imagenet", "caffe"):
                yield name, preset, self.stated is not None and _same(preset, self.stated)
        if self.stated is not None and not any(_same(preset, self.stated) for preset in PRESETS.values()):
            yield "stated", self.stated, True

    def _score(self, name: str, words: str, values: Array, batch: int, until: str | None, **marks: bool) -> None:
        self._tick(f"trying {words}")
        remembered = self.network.norms()
        if not remembered:
            return
        self._figures[name] = divergences(self.network.run(batches_of(values, batch), until=until).norms, remembered)
        figures = list(self._figures[name].values())
        self.scores.append(Score(name, words, figures[0], sum(figures) / len(figures), **marks))

    def _first_run(self, of_images: bool) -> tuple[Array, Pass, float]:
        """Noise of the given or stated size, or the first usual one that the model takes, what becomes of it, and seconds for one."""
        import numpy

        wanted, stated, failure = self.question.input_size, self.stated.size if self.stated is not None else None, None
        if wanted is not None and len(wanted) != 3:
            raise UsageError("--input-size: write it as 3x224x224")
        for channels, *sides in self.network.input_sizes() if wanted is None else [tuple(wanted)]:
            if of_images and channels not in (1, 3):
                raise ImagesError(f"images have one or three channels, and the model takes {channels}")
            noise = numpy.random.default_rng(0).standard_normal(
                (2, channels, *(sides if wanted is not None else stated or sides)), numpy.float32
            )
            began = time.monotonic()
            try:
                made = self.network.run([noise], look=0 if of_images else len(noise))
                if of_images and time.monotonic() - began < _QUICK:
                    began = time.monotonic()
                    self.network.run([noise])
            except ArchitectureError as error:
                failure = failure or error
                continue
            return noise, made, (time.monotonic() - began) / len(noise)
        raise failure or ArchitectureError("the model takes no images, or the size of its input cannot be guessed: give --input-size")

    def _tick(self, what: str) -> None:
        self.question.tick(self._done, self._passes, what)
        self._done = min(self._done + 1, self._passes)


def _same(a: Preprocessing, b: Preprocessing) -> bool:
    """Whether two ways give the same numbers."""
    import numpy

    pixels = numpy.array([[[[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]]], numpy.uint8)
    return bool(abs(prepared(pixels, a) - prepared(pixels, b)).max() < 1e-2)


def _three(images: Array) -> Array:
    """Three images out of two: the third is the first, mirrored and turned."""
    import numpy

    return numpy.concatenate([images[:2], images[:1, :, ::-1, ::-1]])


def _head(network: Network, graph: LayerGraph) -> Head | None:
    """The layer that gives the classes, with its values."""
    found = main_head(graph)
    layer = graph.by_path.get(found.path) if found is not None else None
    if found is None or layer is None or "weight" not in layer.tensors:
        return None
    names = {role: spec.name for role, spec in layer.tensors.items()}
    values = {name: array for name, array in network.weights() if name in names.values()}
    weight = values.get(names["weight"])
    if weight is None:
        return None
    axis = output_axis(layer, graph.framework)
    by_class = weight.swapaxes(0, axis) if graph.framework != "keras" else weight.reshape(-1, weight.shape[-1]).T
    by_class = by_class.reshape(len(by_class), -1)
    field = math.prod(weight.shape[2:]) if graph.framework != "keras" else math.prod(weight.shape[:-2])
    return Head(found.path, by_class, values.get(names.get("bias", "")), (by_class.shape[1], len(by_class) * field))


def _batches_seen(network: Network) -> dict[str, int]:
    """By BatchNorm, how many batches it noted; where it noted none, its file may just not keep the number."""
    counts: dict[str, int] = getattr(network, "batches_seen", dict)()
    return {path: count for path, count in counts.items() if count > 0}
