"""Which tensor is which: pairs of two layer graphs, each with evidence and confidence."""

from ckptaudit.lazily import loaded_when_used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ckptaudit.align.by_name import align_by_name
    from ckptaudit.align.names_first import align
    from ckptaudit.align.ops import Op
    from ckptaudit.align.pairs import Alignment, Grade, Pair, Scope

__all__ = ["Alignment", "Grade", "Op", "Pair", "Scope", "align", "align_by_name"]

__getattr__ = loaded_when_used(
    __name__,
    {
        "align_by_name": "by_name",
        "align": "names_first",
        "Op": "ops",
        **dict.fromkeys(("Alignment", "Grade", "Pair", "Scope"), "pairs"),
    },
)
