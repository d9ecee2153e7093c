"""Align by what is computed: layers that stand at the same place of the same dataflow, whatever their tensors are called.

For files that lost their names and have BatchNorm folded into the layers before it, as ONNX exports do. Both sides have to tell what they
compute (:class:`ckptaudit.graph.computation.Computation`).
"""

from ckptaudit.lazily import loaded_when_used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ckptaudit.align.by_topology.align import Topology, UnitPair, align_by_topology

__all__ = ["Topology", "UnitPair", "align_by_topology"]

__getattr__ = loaded_when_used(__name__, dict.fromkeys(__all__, "align"))
