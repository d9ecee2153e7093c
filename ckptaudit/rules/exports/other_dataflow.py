"""The file computes otherwise than the model: layers are wired in another way, or there are others."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

RULE = Rule("other-dataflow", "The file computes otherwise", "error", "architecture")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield a finding where the layers of both sides do not stand in the same dataflow."""
    topology = comparison.topology
    if topology is None or topology.extent != "beginning":
        return
    here, there = topology.counts
    first_here, first_there = topology.parting
    alike = "from the input" if topology.layers else "at the input"
    told = f"of the file's {plural(here, 'layer')} and the model's {there} the first {len(topology.layers)} correspond, {alike} on"
    if not topology.layers:
        told = f"the file has {plural(here, 'layer')} and the model {there}, and none corresponds"
    where = " and ".join(f"`{name}` of the {side}" for name, side in ((first_here, "file"), (first_there, "model")) if name)
    same = topology.same_layers
    other = None if same else comparison.identity
    if same:
        doubt = " Their kernels may be of the same shapes: they are wired otherwise, or one says the same in a way that is not understood."
    else:
        doubt = f" Its layers are those of {other.arch}." if other else ""
    yield RULE.finding(
        f"The networks compute otherwise: {told}; they part at {where}.{doubt}",
        checkpoint=comparison.unexpected,
        model=comparison.missing,
        confidence=0.5 if same else 0.95,
        fix=f"build {other.arch}" if other else "build the network that was exported",
        retry=[("--arch", other.arch)] if other else (),
        status="partial" if same else "incompatible",
        phrase="" if comparison.other_backbone else f"the file holds {other.arch}" if other else "another dataflow",
    )
