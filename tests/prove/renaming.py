"""A state dict under names that mean nothing."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from ckptaudit.graph.names import leaf, parent


def renamed(state: Mapping[str, Any], chance: random.Random, shuffle: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """The same tensors with a meaningless name for each module, modules in any order; and each old name with its new one."""
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    modules = list(dict.fromkeys(map(parent, names)))
    new = {module: "".join(chance.choices("abcdefghijklmnop", k=7)) for module in modules}
    if shuffle:
        chance.shuffle(modules)
    truth = {name: f"{new[parent(name)]}.{leaf(name)}" for name in names}
    return {truth[name]: state[name] for module in modules for name in names if parent(name) == module}, truth
