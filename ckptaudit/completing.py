"""What an alignment by names and shapes leaves to be said: what else decides, what could be done, what would be lost.

Of a file whose every tensor is the model's as it is, nothing of this can be said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ckptaudit import arch
from ckptaudit.align import Alignment, Pair, align, align_by_name
from ckptaudit.align.absent_scales import with_absent_scales
from ckptaudit.align.adapting import adaptations, adapted
from ckptaudit.align.by_dataflow import decided_by_dataflow, open_between
from ckptaudit.align.by_values import decided_by_values
from ckptaudit.align.flattening_sides import decided_flattenings, keras_orders, open_flattenings
from ckptaudit.align.lost_norms import doubting_lost_norms
from ckptaudit.align.lost_parts import doubting_lost_parts
from ckptaudit.arch.model import Model
from ckptaudit.errors import ArchitectureError
from ckptaudit.graph import LayerGraph, is_float
from ckptaudit.graph.names import parent
from ckptaudit.identification.of_checkpoint import identify_checkpoint
from ckptaudit.read import Checkpoint
from ckptaudit.records import replace


def completed(
    alignment: Alignment,
    checkpoint: Checkpoint,
    model: Model,
    *,
    adapt: Sequence[str] = (),
    class_map: object = None,
    source_model: Model | None = None,
) -> tuple[Alignment, Model, tuple[Pair, ...]]:
    """The alignment with all that is known beyond names and shapes, the model with remarks on it, and offers that were not asked for.

    Parameters
    ----------
    adapt, class_map:
        As of :func:`ckptaudit.audit`.
    source_model:
        The model that wrote the file, where it is known.
    """
    if model.checkpoint is not None:
        alignment = decided_by_values(alignment, checkpoint, model.checkpoint)
    if open_between(alignment, checkpoint.graph, model.graph) or open_flattenings(alignment, checkpoint.graph, model.graph):
        alignment, told = _between_libraries(alignment, checkpoint, model, source_model)
        model = replace(model, remarks=(*model.remarks, *told))
    graph, settings = checkpoint.graph, None
    if source_model is not None:
        graph, settings = graph.in_order_of(source_model.graph), source_model.graph.modules
    offered = adaptations(alignment, graph, model.graph, class_map=class_map, settings=settings)
    alignment, offers = adapted(alignment, graph, model.graph, offered, adapt)
    return with_losses_and_absences(alignment, graph, model.graph), model, offers


def with_losses_and_absences(alignment: Alignment, source: LayerGraph, target: LayerGraph) -> Alignment:
    """The alignment with those pairs ambiguous whose layer loses what it needs, and with what the file leaves out filled in."""
    kept = doubting_lost_parts(doubting_lost_norms(alignment, source, target), source, target)
    return with_absent_scales(kept, source, target)


def _between_libraries(
    alignment: Alignment, checkpoint: Checkpoint, model: Model, source: Model | None
) -> tuple[Alignment, tuple[str, ...]]:
    """Decide what is open between a channels-last and a channels-first library by what the two networks compute, as far as both tell.

    Where nobody says which model wrote the file, it is the published one whose names and shapes are exactly the file's; a remark says so.
    """
    named = None if source is not None or checkpoint.graph.feeds else _identified(checkpoint)
    running, wrote = _running(model), source or named
    wrote = None if wrote is None else _running(wrote)
    found = _with_flattenings(_with_dataflow(alignment, checkpoint, running, wrote), checkpoint, running, wrote)
    told = named is not None and any(found.pairs.get(name) != pair for name, pair in alignment.pairs.items())
    return found, (f"the file is sure to be {named.arch}: how that computes decided what names left open",) if told and named else ()


def _identified(checkpoint: Checkpoint) -> Model | None:
    """The published model that a file is sure to be, if it has the very names and shapes of the file."""
    best = identify_checkpoint(checkpoint).best
    if best is None:
        return None
    try:
        built = arch.build_model(best.arch, best.arguments)
    except ArchitectureError:
        return None
    here, there = ({spec.name: spec.shape for spec in graph if is_float(spec.dtype)} for graph in (checkpoint.graph, built.graph))
    return built if here == there else None


def _running(model: Model) -> Model:
    """The same model with its module, built now, where it is of torch and came from a catalogue or the cache; as it is where that fails."""
    if not model.is_stored or model.graph.framework != "torch":
        return model
    try:
        built = arch.build_model(model.arch, model.arguments, fresh=True)
    except ArchitectureError:  # its library is not installed
        return model
    return built if list(built.graph) == list(model.graph) else model


def _with_dataflow(alignment: Alignment, checkpoint: Checkpoint, model: Model, source: Model | None) -> Alignment:
    """Decide by the dataflow what is open between two libraries, where both tell it: a Keras graph, or a live torch module, traced."""
    if not open_between(alignment, checkpoint.graph, model.graph):
        return alignment
    here = checkpoint.graph
    if not here.feeds and source is not None:
        places = _places_in_file(checkpoint.graph, source.graph)
        feeds = ((places.get(a), places.get(b)) for a, b in _feeds(source))
        here = replace(here, feeds=tuple((a, b) for a, b in feeds if a is not None and b is not None))
    if not here.feeds:
        return alignment
    return decided_by_dataflow(alignment, here, replace(model.graph, feeds=_feeds(model)))


def _feeds(of: Model) -> tuple[tuple[str, str], ...]:
    if of.graph.feeds or of.module is None or of.graph.framework != "torch":
        return of.graph.feeds
    from ckptaudit.arch.trace import with_feeds

    return with_feeds(of).graph.feeds


def _with_flattenings(alignment: Alignment, checkpoint: Checkpoint, model: Model, source: Model | None) -> Alignment:
    """Decide in which order a map was flattened, where both sides tell: a Keras graph, or a live torch module, run without values."""
    open_ = open_flattenings(alignment, checkpoint.graph, model.graph)
    if not open_:
        return alignment
    paths = [parent(pair.sources[0]) for pair in open_.values()]
    here = dict(keras_orders(checkpoint.graph, paths))
    if source is not None:
        # A file of weights alone tells its layers, and not what flattens between them.
        own = {there: path for path, there in _places_in_file(checkpoint.graph, source.graph).items() if there in paths}
        told = _flatten_orders(source, list(own.values()))
        here = {**{there: told[path] for there, path in own.items() if path in told}, **here}
    there = _flatten_orders(model, [parent(name) for name in open_])
    return decided_flattenings(alignment, checkpoint.graph, model.graph, (here, there))


def _flatten_orders(of: Model, paths: list[str]) -> Mapping[str, str]:
    if of.graph.framework == "keras":
        return keras_orders(of.graph, paths)
    if of.module is None or of.graph.framework != "torch":
        return {}
    from ckptaudit.arch.flattening import flatten_orders

    return flatten_orders(of.module, paths)


def _places_in_file(file: LayerGraph, wrote: LayerGraph) -> Mapping[str, str]:
    """Path in the file of each layer of the model that wrote it; nothing where it is not sure which is which.

    They have other names where Keras counted on through a session, or a tool has put a wrapper around the model.
    """
    if wrote.tensors.keys() <= file.tensors.keys():
        return {layer.path: layer.path for layer in wrote.layers}
    # What Keras counts is no name; other names within a model of torch would be a guess.
    found = (align if wrote.framework == "keras" else align_by_name)(file, wrote)
    if any(spec.name not in found.pairs or not found.pairs[spec.name].sure for spec in wrote if not spec.buffer):
        return {}
    return {parent(name): parent(pair.sources[0]) for name, pair in found.pairs.items() if len(pair.sources) == 1}
