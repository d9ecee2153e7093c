"""The file is a part of the model: a backbone without its head, or a network that belongs into a submodule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ckptaudit.align import Scope
from ckptaudit.graph.names import common_prefix, is_under
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural, quoted

RULE = Rule("backbone-only", "The file is a part of the model", "error", "cause")

#: Share of what is there that may be missing all the same, in the parts that are there.
_MAX_HOLES = 0.05


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per part of the model that the file is; the last of them tells what is left without values."""
    if comparison.explained:
        return
    scopes = [scope for scope in comparison.alignment.scopes if scope.target and scope not in comparison.renamed_modules]
    absent = () if comparison.head_under_another_name else whole_modules_missing(comparison)
    for scope in scopes:
        yield _moved(scope, comparison, absent if scope is scopes[-1] else ())
    if absent and not scopes:
        lacking, message = _absent(comparison, absent)
        # By its own names the file shows fewer stages than it has where one of them is called otherwise.
        held = None if comparison.renamed_modules else comparison.file_facts.backbone
        # What the head stands on cannot be trained anew as a head can: without it the file is a fragment.
        head_only = bool(comparison.head_scope) and all(is_under(module, comparison.head_scope) for module in absent)
        yield RULE.finding(
            f"The file holds {(held if held.startswith('a ') else f'the {held}') if held else 'a part of the model'} only: {message}.",
            model=lacking,
            severity="note" if head_only and comparison.intent == "finetune" else "error",
            fix=("train the missing part, or take" if head_only else "take") + " the checkpoint of the whole model",
            status="partial" if head_only else "incompatible",
            phrase=f"{quoted(absent)} absent",
        )


def _moved(scope: Scope, comparison: Comparison, absent: tuple[str, ...]) -> Finding:
    pairs, graph = comparison.alignment.pairs, comparison.model.graph
    inside = tuple(name for name in graph.tensors if is_under(name, scope.target) and name in pairs)
    lacking, message = _absent(comparison, absent)
    place = f"`{scope.source}`" if scope.source else "The top level"
    rivals = f" {quoted(scope.rivals)} would fit equally well: which one is meant is undecided." if scope.rivals else ""
    return RULE.finding(
        f"{place} of the file is `{scope.target}` of the model ({plural(scope.tensors, 'tensor')} fit there)"
        + (f"; {message}" if absent else "")
        + f".{rivals}",
        checkpoint=tuple(pairs[name].sources[0] for name in inside),
        model=(*inside, *lacking),
        severity="error" if scope.rivals or (absent and comparison.intent != "finetune") else "warning",
        confidence=0.5 if scope.rivals else 0.97,
        fix=f"load it into model.{scope.target}, or put `{scope.target}.` before its names" + ("; train the rest" if absent else ""),
        status="partial" if scope.rivals or absent else "remappable",
        phrase=f"the file is `{scope.target}` of the model" + (f", {quoted(absent)} absent" if absent else ""),
    )


def _absent(comparison: Comparison, modules: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The tensors of absent modules, and the words for that."""
    names = tuple(name for name in comparison.missing if any(is_under(name, module) for module in modules))
    return names, f"{quoted(modules)} ({plural(len(names), 'tensor')}) keep{'s' if len(modules) == 1 else ''} the initial values"


def whole_modules_missing(comparison: Comparison) -> tuple[str, ...]:
    """Outermost modules of the model that the file lacks altogether, while it sets all of at least one other.

    Auxiliary heads have a rule of their own and are left out. Empty when what is present is not complete: then the file is
    another network rather than a part of this one. Empty too when what is absent is not what the network ends with, its head among
    it: without a stage from its middle, what is left is no backbone.
    """
    if not comparison.missing:
        return ()
    names = [name for name in comparison.model.graph.tensors if not comparison.is_auxiliary(name)]
    shared = common_prefix(names)
    have: Counter[str] = Counter()
    lack: Counter[str] = Counter()
    missing = set(comparison.missing)
    order: dict[str, None] = {}
    for name in names:
        rest = name[len(shared) + 1 :] if shared else name
        module = f"{shared}.{rest.split('.')[0]}" if shared else rest.split(".")[0]
        order[module] = None
        if name in missing:
            lack[module] += 1
        elif name in comparison.alignment.pairs or name in comparison.mismatched:
            have[module] += 1
    absent = tuple(module for module in lack if module not in have)
    holes = sum(count for module, count in lack.items() if module in have)
    if not absent or all(module in lack for module in have) or holes > _MAX_HOLES * have.total():
        return ()
    head = comparison.head_scope
    without_head = not head or any(is_under(head, module) for module in absent)
    return absent if without_head and (len(absent) == 1 or tuple(order)[-len(absent) :] == absent) else ()
