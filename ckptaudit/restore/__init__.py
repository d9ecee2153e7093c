"""Restoring on the condition that it works: ``load`` does it, ``guard`` watches others do it, ``verify`` looks afterwards."""

from ckptaudit.restore.load import load
from ckptaudit.restore.verify import verify
from ckptaudit.restore.watch import Guard, guard

__all__ = ["Guard", "guard", "load", "verify"]
