"""The head was trained for another number of classes than the model has."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.facts import stem_layer
from ckptaudit.graph.heads import output_axis
from ckptaudit.graph.names import parent
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.gaps.ratios import lowest_terms

RULE = Rule("num-classes", "Another number of classes", "error", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for all output layers that differ in their outputs alone, by one and the same ratio."""
    layers = _layers_with_other_outputs(comparison)
    if not layers or comparison.unrelated:
        return
    main = comparison.model_facts.head
    path = main if main in layers else next(iter(layers))
    (old, new), _ = layers[path]
    head = comparison.model_head
    if head is not None and head.path == path and old % head.anchors == 0:
        old, new = old // head.anchors, new // head.anchors
    names = tuple(name for (a, b), group in layers.values() if a * new == b * old for name in group)
    other = comparison.head_under_another_name
    place = f" (`{other.path}`)" if other else ""
    one_apart = abs(old - new) == 1
    background = " They differ by one: perhaps one side counts a background class; then every label is shifted by one." if one_apart else ""
    argument = None
    if comparison.intent != "finetune":
        from ckptaudit.arch import sources

        argument = getattr(sources.find(comparison.model.source), "CLASSES", None)
    yield RULE.finding(
        f"The file has {old} class{'es' if old != 1 else ''}{place} and the model {new} (`{path}`).{background}",
        checkpoint=comparison.unexpected if other else tuple(comparison.mismatched[name] for name in names),
        model=names,
        severity="note" if comparison.intent == "finetune" else "error",
        fix=f"build the model for {old} class{'es' if old != 1 else ''}, or train the head anew",
        retry=[("--arch-arg", f"{argument}={old}")] if argument else (),
        status="partial",
        phrase=f"head {old} → {new} classes" + (" (a background class?)" if one_apart else ""),
    )


def _layers_with_other_outputs(comparison: Comparison) -> dict[str, tuple[tuple[int, int], list[str]]]:
    """Model layers whose tensors differ from the file's in the number of outputs only, and that nothing follows.

    A layer that is followed by others of the changed width is not an output: there the network is wider, not the head. What
    follows may be wider by the same factor instead (a flattened map); a vocabulary is shared with an embedding.
    """
    graph = comparison.model.graph
    if (other := comparison.head_under_another_name) is not None and (own := comparison.model_head) is not None:
        return {own.path: ((other.outputs, own.outputs), list(comparison.missing))}
    stem = stem_layer(graph)
    found: dict[str, tuple[tuple[int, int], list[str]]] = {}
    inner: set[tuple[int, int]] = set()
    for name in comparison.unexplained(comparison.mismatched, "model"):
        file_shape, model_shape = comparison.shapes(name)
        layer = graph.by_path[parent(name)]
        changed = [i for i, (a, b) in enumerate(zip(file_shape, model_shape, strict=False)) if a != b]
        if len(file_shape) != len(model_shape) or 0 in file_shape or 0 in model_shape:
            continue
        is_output = layer.kind in ("linear", "conv") and "weight" in layer.tensors
        axis = output_axis(layer, graph.framework) if is_output and len(file_shape) > 1 else 0
        if is_output and changed == [axis]:
            found.setdefault(layer.path, ((file_shape[axis], model_shape[axis]), []))[1].append(name)
        elif layer.path != stem or axis in changed:
            inner.update(lowest_terms(file_shape[i], model_shape[i]) for i in changed)
    return {path: entry for path, entry in found.items() if lowest_terms(*entry[0]) not in inner}
