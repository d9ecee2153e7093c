"""Which tensor is which: pairs of two layer graphs, each with evidence and confidence."""

from ckptaudit.align.by_name import align_by_name
from ckptaudit.align.names_first import align
from ckptaudit.align.ops import Op
from ckptaudit.align.pairs import Alignment, Grade, Pair, Scope

__all__ = ["Alignment", "Grade", "Op", "Pair", "Scope", "align", "align_by_name"]
