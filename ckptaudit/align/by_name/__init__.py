"""Align by what tensors are called: equal names, wrapper segments, exchanged prefixes."""

from ckptaudit.align.by_name.names import align_by_name

__all__ = ["align_by_name"]
