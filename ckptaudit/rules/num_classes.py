"""The head was trained for another number of classes than the model has."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.names import parent
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("num-classes", "Another number of classes", "error", "cause")


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for all output layers that differ in their outputs alone, by one and the same ratio."""
    layers = _layers_with_other_outputs(comparison)
    if not layers:
        return
    main = comparison.model_facts.head
    path = main if main in layers else next(iter(layers))
    (old, new), _ = layers[path]
    names = tuple(name for (a, b), group in layers.values() if a * new == b * old for name in group)
    one_apart = abs(old - new) == 1
    background = (
        " They differ by one: one side probably counts a background class, so that every label is shifted by one." if one_apart else ""
    )
    yield RULE.finding(
        f"The file has {old} classes and the model {new} (`{path}`).{background}",
        checkpoint=tuple(comparison.mismatched[name] for name in names),
        model=names,
        severity="note" if comparison.intent == "finetune" else "error",
        fix=f"build the model for {old} classes, or train the head anew",
        retry=[("--arch-arg", f"num_classes={old}")] if comparison.model.source == "torchvision" and comparison.intent == "eval" else (),
        status="partial",
        phrase=f"head {old} → {new} classes" + (" (a background class?)" if one_apart else ""),
    )


def _layers_with_other_outputs(comparison: Comparison) -> dict[str, tuple[tuple[int, int], list[str]]]:
    """Model layers whose tensors differ from the file's in the number of outputs only, and that nothing follows.

    A layer that is followed by others of the changed width is not an output: there the network is wider, not the head.
    """
    out = -1 if comparison.model.graph.framework in ("keras", "tensorflow") else 0
    found: dict[str, tuple[tuple[int, int], list[str]]] = {}
    inner: set[tuple[int, int]] = set()
    for name in comparison.mismatched:
        file_shape, model_shape = comparison.shapes(name)
        layer = comparison.model.graph.by_path[parent(name)]
        if len(file_shape) != len(model_shape) or not file_shape:
            continue
        axis = out % len(file_shape)
        changed = [i for i, (a, b) in enumerate(zip(file_shape, model_shape, strict=True)) if a != b]
        pair = (file_shape[axis], model_shape[axis])
        if changed == [axis] and layer.kind in ("linear", "conv", "embedding", "depthwise_conv"):
            found.setdefault(layer.path, (pair, []))[1].append(name)
        else:
            inner.update((file_shape[i], model_shape[i]) for i in changed)
    return {path: entry for path, entry in found.items() if entry[0] not in inner}
