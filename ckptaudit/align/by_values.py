"""Two files of one network hold equal values: what names and shapes leave open is decided by comparing them.

Asked for by ``--against`` a checkpoint. A few small tensors tell whether the two are twins at all; only then are the open ones read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ckptaudit.align.flatten_orders import other_order
from ckptaudit.align.ops import Op, apply_ops
from ckptaudit.align.pairs import Alignment, Pair
from ckptaudit.errors import CkptAuditError
from ckptaudit.records import replace

if TYPE_CHECKING:
    import numpy

    from ckptaudit.read import Checkpoint

#: Sure pairs that are compared, of at most so many elements each; all of them must be equal, and hold more than one value.
_SAMPLES, _MAX_SAMPLE = 8, 1 << 16
_EVIDENCE = "of what is possible it alone gives the values that the other file holds"


def decided_by_values(alignment: Alignment, source: Checkpoint, target: Checkpoint) -> Alignment:
    """The same alignment; those ambiguous pairs are decided whose every other candidate gives values that ``target`` does not hold."""
    open_ = [pair for pair in alignment.pairs.values() if not pair.sure]
    if not open_ or not _are_twins(alignment, source, target):
        return alignment
    decided = {}
    for pair in open_:
        wanted = _value(target, pair.target)
        if wanted is None:
            continue
        results = ((candidate, _result(candidate, source)) for candidate in _candidates(pair, source, target))
        fitting = [candidate for candidate, value in results if value is not None and _same(value, wanted)]
        if len(fitting) == 1:
            evidence = (*fitting[0].evidence, _EVIDENCE)
            decided[pair.target] = replace(fitting[0], grade="decided", confidence=1.0, evidence=evidence, runner_up=None)
    if not decided:
        return alignment
    return alignment.with_pairs({**alignment.pairs, **decided}, source.graph, target.graph)


def _are_twins(alignment: Alignment, source: Checkpoint, target: Checkpoint) -> bool:
    sizes = {name: target.graph.tensors[name].numel for name, pair in alignment.pairs.items() if pair.sure}
    small = sorted((name for name, size in sizes.items() if 1 < size <= _MAX_SAMPLE), key=lambda name: -sizes[name])[:_SAMPLES]
    telling = 0
    for name in small:
        value, wanted = _result(alignment.pairs[name], source), _value(target, name)
        if value is None or wanted is None or not _same(value, wanted):
            return False
        telling += bool((wanted != wanted.flat[0]).any())
    return telling > 0


def _candidates(pair: Pair, source: Checkpoint, target: Checkpoint) -> Iterator[Pair]:
    """The pair itself, what came second, and the other order of a flattened map."""
    yield pair
    shape = source.graph.tensors[pair.sources[0]].shape
    if pair.runner_up and all(source.graph.tensors[name].shape == shape for name in pair.runner_up):
        yield replace(pair, sources=pair.runner_up)
    ops: tuple[Op, ...] | None = other_order(pair, source.graph, target.graph)
    if ops is not None:
        yield replace(pair, ops=ops)


def _result(pair: Pair, source: Checkpoint) -> numpy.ndarray[Any, Any] | None:
    values = [_value(source, name) for name in pair.sources]
    return None if any(value is None for value in values) else apply_ops(pair.ops, [value for value in values if value is not None])


def _value(checkpoint: Checkpoint, name: str) -> numpy.ndarray[Any, Any] | None:
    try:
        return checkpoint.read(name)
    except CkptAuditError:  # an index without its data
        return None


def _same(value: numpy.ndarray[Any, Any], wanted: numpy.ndarray[Any, Any]) -> bool:
    return value.shape == wanted.shape and bool((value == wanted).all())
