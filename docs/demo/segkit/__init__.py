"""A package that released two checkpoints."""
