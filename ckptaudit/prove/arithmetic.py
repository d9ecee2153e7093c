"""Every step on the real values, and back: one tensor in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ckptaudit.align.ops import Concat, Op, Split, apply_ops, reverse_ops, shape_after
from ckptaudit.errors import PlanError
from ckptaudit.plan.plan import keeps_rows
from ckptaudit.plan.undecoded import refuse_undecoded
from ckptaudit.prove.proof import Arithmetic

if TYPE_CHECKING:
    import numpy

    from ckptaudit.graph import LayerGraph
    from ckptaudit.plan import Plan, Step
    from ckptaudit.read import Checkpoint


def check_arithmetic(plan: Plan, checkpoint: Checkpoint, target: LayerGraph | None) -> Arithmetic:
    """Carry out every step and undo it; ``target`` tells which shapes the model wants.

    Raises
    ------
    CheckpointError
        Values cannot be read.
    """
    restored, lossy, failed = 0, [], []
    parts: dict[tuple[str, tuple[Op, ...], int, int], dict[int, Step]] = {}
    for step in plan.steps:
        split = _split_at_the_end_of_the_way_in(step)
        if split is not None:
            position, part = split
            parts.setdefault((step.sources[0], step.ops[:position], part.dim, part.of), {})[part.index] = step
        outcome = _undone(step, checkpoint, target)
        if outcome is False:
            failed.append(step.target)
        elif outcome:
            restored += 1
        else:
            lossy.append(step.target)
    for (source, before, dim, of), steps in parts.items():
        together = len(steps) == of and _rejoined(source, before, dim, [steps[i] for i in range(of)], checkpoint)
        for step in steps.values() if together else ():
            if step.target in lossy:
                lossy.remove(step.target)
                restored += 1
    return Arithmetic(restored, tuple(lossy), tuple(failed))


def _undone(step: Step, checkpoint: Checkpoint, target: LayerGraph | None) -> bool | None:
    """Whether the sources came back; None where nothing undoes the step."""
    tensors = checkpoint.branch.tensors
    shapes = [tensors[name].shape for name in step.sources]
    try:
        wanted = target.tensors.get(step.target) if target is not None else None
        if wanted is not None and shape_after(step.ops, shapes) != wanted.shape:
            return False
        for name in step.sources:
            refuse_undecoded(tensors[name].dtype)
        if keeps_rows(step):
            return None
        sources = [checkpoint.read(name) for name in step.sources]
        result = apply_ops(step.ops, sources)
        back = reverse_ops(step.ops, shapes)
        if back is None:
            return None
        return all(_same(apply_ops(chain, [result]), source) for chain, source in zip(back, sources, strict=True))
    except PlanError:
        return False


def _split_at_the_end_of_the_way_in(step: Step) -> tuple[int, Split] | None:
    """Position of the one split among the step's operations, and the split itself."""
    found = [(i, op) for i, op in enumerate(step.ops) if isinstance(op, Split)]
    return found[0] if len(found) == 1 and len(step.sources) == 1 else None


def _rejoined(source: str, before: tuple[Op, ...], dim: int, steps: Iterable[Step], checkpoint: Checkpoint) -> bool:
    """Whether the parts of one source, each undone up to its split, are the source again."""
    values = checkpoint.read(source)
    whole = apply_ops(before, [values])
    return _same(Concat(dim).apply(*_parts(values, whole, before, steps)), whole)


def _parts(
    values: numpy.ndarray[Any, Any], whole: numpy.ndarray[Any, Any], before: tuple[Op, ...], steps: Iterable[Step]
) -> Iterator[numpy.ndarray[Any, Any]]:
    for step in steps:
        part, behind = step.ops[len(before)], step.ops[len(before) + 1 :]
        result = apply_ops(step.ops, [values])
        shape = part.result_shape(whole.shape)
        back = reverse_ops(behind, [shape])
        yield apply_ops(back[0], [result]) if back is not None else result


def _same(a: numpy.ndarray[Any, Any], b: numpy.ndarray[Any, Any]) -> bool:
    """Bit for bit: NaN equals itself, and 0 is not -0."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
