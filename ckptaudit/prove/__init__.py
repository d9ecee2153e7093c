"""Whether a plan is right, shown by doing: its arithmetic undone, both networks run, statistics compared."""

from ckptaudit.prove.proof import Arithmetic, Difference, Outputs, Proof, Setting, Statistics
from ckptaudit.prove.prove import prove_plan

__all__ = ["Arithmetic", "Difference", "Outputs", "Proof", "Setting", "Statistics", "prove_plan"]
