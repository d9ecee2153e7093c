"""A hook that torch calls before ``load_state_dict``: the model then takes the old file by itself."""

from __future__ import annotations

from ckptaudit.plan.emit._torch_code import torch_function
from ckptaudit.plan.plan import Plan

_HOOK = '''

def remap_before_loading(module, state_dict, prefix, *arguments):
    """Register with model.register_load_state_dict_pre_hook(remap_before_loading)."""
    given = {name[len(prefix) :]: tensor for name, tensor in state_dict.items() if name.startswith(prefix)}
    if SOURCES <= given.keys():  # a state dict that has the model's own names already is left alone
        for name in given:
            del state_dict[prefix + name]
        state_dict.update((prefix + name, tensor) for name, tensor in _remap(given).items())
'''


def emit(plan: Plan) -> str:
    """Source of the hook."""
    from ckptaudit.plan.emit._torch_code import names_literal

    sources = list(dict.fromkeys(name for step in plan.steps for name in step.sources))
    function = torch_function(plan, "_remap(state_dict)", "A new state dict for the model.")
    return f"{function}\n\nSOURCES = frozenset({names_literal(sources)})\n{_HOOK}"
