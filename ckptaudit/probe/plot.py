"""The agreement of each BatchNorm along the depth of the network, as a picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from ckptaudit.errors import OutputError
from ckptaudit.files import write_file
from ckptaudit.probe.hypothesis import Hypothesis
from ckptaudit.prove.statistics import DISAGREES

if TYPE_CHECKING:
    from ckptaudit.probe.probing import Probe

#: What is less than this is agreement, however much less: the axis ends there.
_LEAST = 1e-3


def draw_agreement(probe: Probe, path: str, *, force: bool = False) -> None:
    """Write a PNG: as the network runs, fed as agrees best and as the user feeds it where that is another way; and each layer on its own.

    Raises
    ------
    OutputError
        There is nothing to draw, matplotlib is not installed, the file exists, or cannot be written.
    """
    if probe.agreement is None:
        raise OutputError("--plot: there are no BatchNorm statistics that images were held against")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise OutputError("--plot is drawn with matplotlib, which is not installed; run: pip install 'ckptaudit[probe]'") from None
    layers = probe.agreement.layers
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot()
    depth = range(1, len(layers) + 1)
    if probe.before:
        axes.plot(depth, [_shown(probe.before[layer.path]) for layer in layers], color="tab:red", label="as you feed it")
    best = "fed as agrees best" if probe.before else "as it runs"
    axes.plot(depth, [_shown(layer.running) for layer in layers], color="tab:blue", label=best)
    axes.plot(depth, [_shown(layer.alone) for layer in layers], color="tab:grey", marker=".", label="each layer on its own")
    axes.axhline(DISAGREES, color="black", linewidth=0.8, linestyle=":", label=f"disagreement: {DISAGREES}")
    wrong: Hypothesis | None = next((h for h in probe.causes if h.cause == "batch-norm"), None)
    for i, layer in enumerate(layers, start=1):
        if wrong is not None and layer.path in wrong.place[:3]:
            axes.annotate(layer.path.replace("$", r"\$"), (i, _shown(layer.alone)), fontsize=7, rotation=20)
    axes.set(yscale="log", xlabel="BatchNorm, in the order of computation", ylabel="divergence in nats")
    axes.set_title(f"{probe.checkpoint} → {probe.arch}".replace("$", r"\$"), fontsize=10)
    axes.legend(fontsize=8)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    write_file(path, drawn.getvalue(), force=force)


def _shown(value: float) -> float:
    return max(value, _LEAST)
