"""A proof at the terminal: by which way, what was found, and where the two sides part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ckptaudit.graph.names import fold_names
from ckptaudit.prove.statistics import AGREES, DISAGREES
from ckptaudit.report._words import plural
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.prove import Outputs, Proof, Setting, Statistics

_MARKS = {"proved": "✓", "consistent": "✓", "refuted": "✗", "not proved": "–"}
_MAX_NAMES = 3


def proof_lines(proof: Proof) -> list[str]:
    """The proof as lines of text; the first is the answer."""
    return [printable(line) for line in _lines(proof)]


def _lines(proof: Proof) -> Iterator[str]:
    by = {"outputs": " by running both models", "statistics": " with the BatchNorm statistics", "arithmetic": " by the arithmetic"}
    yield f"{_MARKS[proof.status]} {proof.status}{by.get(proof.by, '')}"
    arithmetic = proof.arithmetic
    if arithmetic.failed:
        yield f"  arithmetic: {plural(len(arithmetic.failed), 'step')} cannot be carried out or undone: {_few(arithmetic.failed)}"
    else:
        lossy = f"; {len(arithmetic.lossy)} cannot be undone: {_few(arithmetic.lossy)}" if arithmetic.lossy else ""
        yield f"  arithmetic: {plural(arithmetic.restored, 'step')} carried out on the values and undone, bit for bit{lossy}"
    if proof.outputs is not None:
        yield from _outputs(proof.outputs)
    if proof.statistics is not None:
        yield from _statistics(proof.statistics)
    for setting in proof.settings:
        yield _setting(setting)
    for reason in proof.reasons:
        yield f"  {reason}"


def _outputs(outputs: Outputs) -> Iterator[str]:
    shape = " and ".join("×".join(map(str, size)) for size in outputs.inputs)
    word = "equal" if outputs.equal else "not equal"
    yield (
        f"  outputs: {word} on a random {shape} in {outputs.dtype}: {plural(outputs.compared, 'output')}, largest difference "
        f"{outputs.difference:.1e} standard deviations (allowed {outputs.tolerance:.0e})"
    )
    all_, same = outputs.layers
    if outputs.first is not None:
        first = outputs.first
        where = f"`{first.layer}` (`{first.counterpart}` in the other)"
        if first.inside:
            yield f"  layers: {same} of {all_} agree; the first that differs is {where}, which was given the same"
        else:
            after = f"`{first.after}`, the last that agrees" if first.after else "the input"
            yield (
                f"  layers: {same} of {all_} agree; they part between {after}, and {where}: the weights of another layer, or an "
                "activation, a pooling, a padding in between"
            )
    elif all_:
        yield f"  layers: all {all_} that were compared agree"


def _statistics(statistics: Statistics) -> Iterator[str]:
    """One figure: the divergence of a layer on its own. It is 0 where a BatchNorm is given the mean and variance that it remembers."""
    fed = f"{plural(statistics.images, 'crop')}, pixels scaled to {statistics.preprocessing}"
    scale = f"0 is equal, up to {AGREES:g} agrees, from {DISAGREES:g} on does not; {fed}"
    worst = f"a divergence of {statistics.worst:.3f} at `{statistics.worst_layer}`"
    if statistics.consistent:
        told = f"what reaches each of {plural(statistics.layers, 'BatchNorm')} fits what it remembers, up to {worst}"
    elif statistics.consistent is None:
        if statistics.worst <= AGREES:
            told = (
                f"what reaches the first BatchNorm does not fit ({statistics.first:.3f}), all behind it does, up to {worst}: images of "
                "another kind than the training's, or scaled otherwise"
            )
        else:
            told = f"they leave it open, with {worst}"
    elif statistics.telling:
        fits = f"half of the others are below {statistics.typical:.3f}" if statistics.typical <= AGREES else "the first one's does"
        told = (
            f"what reaches a BatchNorm does not fit what it remembers, with {worst}, while {fits}: it, or the layer before it, was "
            "restored from another one"
        )
    else:
        told = (
            f"half of the BatchNorms do not fit, above {statistics.typical:.3f} and up to {worst}: either the plan is wrong as a whole, or "
            "these images are of another kind than the training's"
        )
    yield f"  statistics: {told} ({scale})"
    if statistics.consistent:
        yield "  blocks of one shape that were exchanged deep in the network would not show"


def _setting(setting: Setting) -> str:
    return (
        f"  {setting.name}: {setting.file} in the model that wrote the file, {setting.model} here "
        f"({plural(len(setting.layers), 'layer')}: {_few(setting.layers)})"
    )


def _few(names: Sequence[str]) -> str:
    folded = list(fold_names(names))
    return ", ".join(folded[:_MAX_NAMES]) + (" …" if len(folded) > _MAX_NAMES else "")
