"""Restoring on the condition that it works: ``load`` does it, ``guard`` watches others do it, ``verify`` looks afterwards."""
