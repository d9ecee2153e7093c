"""What is done to a tensor on its way from one name to the other: immutable values, chained in order.

Every operation knows its result's shape before any value is read (:meth:`Op.result_shape`, which also refuses what does not
fit), computes it on numpy arrays without changing them (:meth:`Op.apply`), and names the operations that undo it
(:meth:`Op.reverse`). Their names and parameters are those of a plan's JSON steps; a plain rename is the empty chain.

In a chain of several sources, operations before the one that joins them (``concat``, ``fuse``, ``merge``) are done to each source.
"""

from ckptaudit.lazily import loaded_when_used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ckptaudit.align.ops.base import Op
    from ckptaudit.align.ops.between import moved_dim, ops_between, permuted
    from ckptaudit.align.ops.biases import Sum
    from ckptaudit.align.ops.chains import apply_ops, reverse_ops, shape_after
    from ckptaudit.align.ops.fill import Fill
    from ckptaudit.align.ops.fuse import Fuse
    from ckptaudit.align.ops.inflate import Inflate
    from ckptaudit.align.ops.interpolate import Interpolate
    from ckptaudit.align.ops.laying_out import dense, lay_out
    from ckptaudit.align.ops.layout import Permute, Reshape, Squeeze, Unsqueeze, scrambles
    from ckptaudit.align.ops.merge import Merge
    from ckptaudit.align.ops.parts import Concat, Slice, Split
    from ckptaudit.align.ops.rows import Rows
    from ckptaudit.align.ops.table import OPS, op_from_json

__all__ = [
    "OPS",
    "Concat",
    "Fill",
    "Fuse",
    "Inflate",
    "Interpolate",
    "Merge",
    "Op",
    "Permute",
    "Reshape",
    "Rows",
    "Slice",
    "Split",
    "Squeeze",
    "Sum",
    "Unsqueeze",
    "apply_ops",
    "dense",
    "lay_out",
    "moved_dim",
    "op_from_json",
    "ops_between",
    "permuted",
    "reverse_ops",
    "scrambles",
    "shape_after",
]

__getattr__ = loaded_when_used(
    __name__,
    {
        "Op": "base",
        **dict.fromkeys(("moved_dim", "ops_between", "permuted"), "between"),
        "Sum": "biases",
        **dict.fromkeys(("apply_ops", "reverse_ops", "shape_after"), "chains"),
        **dict.fromkeys(("dense", "lay_out"), "laying_out"),
        "Fill": "fill",
        "Fuse": "fuse",
        "Inflate": "inflate",
        "Interpolate": "interpolate",
        **dict.fromkeys(("Permute", "Reshape", "Squeeze", "Unsqueeze", "scrambles"), "layout"),
        "Merge": "merge",
        **dict.fromkeys(("Concat", "Slice", "Split"), "parts"),
        "Rows": "rows",
        **dict.fromkeys(("OPS", "op_from_json"), "table"),
    },
)
