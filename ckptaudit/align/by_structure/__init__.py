"""Align by what shapes force: every tensor that has a counterpart, whatever it is called."""

from ckptaudit.align.by_structure.engine import align_by_structure

__all__ = ["align_by_structure"]
