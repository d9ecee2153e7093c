"""Names that carry the segments of a training wrapper, such as ``module.`` or ``_orig_mod.``.

``load_state_dict(strict=False)`` then matches nothing and says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import takewhile

from ckptaudit.align.by_name.wrappers import WRAPPERS, unwrap
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.wording import plural

RULE = Rule("wrapper-prefix", "Names carry a wrapper's segments", "warning", "cause")

#: Attributes under which trainers keep the network: the whole model below one of them is a wrapper too.
TRAINER_ATTRIBUTES = frozenset({"model", "net", "network", "student", "online", "generator_model", "_model", "segmentor", "detector"})


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding for all segments to be removed from the file's names, one for those that only the model has."""
    in_file, in_model = _wrapped(comparison)
    rivals: tuple[str, ...] = ()
    for scope in comparison.alignment.scopes:
        if is_trainer_attribute(scope.source) and not scope.target:
            in_file[scope.source] = [n for n in comparison.checkpoint.graph.tensors if n.startswith(scope.source + ".")]
            rivals += scope.rivals
    if in_file:
        # Also those that the model has no place for: they carry it just the same.
        listed = {name for group in in_file.values() for name in group}
        names = tuple(n for n in comparison.checkpoint.graph.tensors if n in listed or in_file.keys() & set(unwrap(n)[1]))
        yield RULE.finding(
            f"{len(names)} of {plural(len(comparison.checkpoint.graph), 'name')} carry {_dotted(in_file)} ({_tools(in_file)}). "
            "Loaded as they are, with strict=False, they set nothing." + _undecided(rivals),
            checkpoint=names,
            severity="error" if rivals else "warning",
            confidence=0.5 if rivals else 1.0,
            fix=f"remove the segment{'s' if len(in_file) > 1 else ''} {_dotted(in_file)} from the names",
            status="partial" if rivals else "remappable",
            phrase=f"names wrapped in {_dotted(in_file)}",
        )
    if in_model:
        names = tuple(dict.fromkeys(name for group in in_model.values() for name in group))
        yield RULE.finding(
            f"The model is wrapped ({_tools(in_model)}), the file is not: {len(names)} of the model's names carry {_dotted(in_model)}. "
            "Loaded as it is, with strict=False, the file sets nothing.",
            model=names,
            fix="load the file into the model before it is wrapped",
            status="remappable",
            phrase=f"the model is wrapped in {_dotted(in_model)}",
        )


def _wrapped(comparison: Comparison) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Wrapper segment → names that hold it and whose counterpart does not: of the file, and of the model."""
    sides: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
    counterparts = {target: pair.sources[0] for target, pair in comparison.alignment.pairs.items()} | dict(comparison.mismatched)
    structural = frozenset(comparison.alignment.structural)
    for target, source in counterparts.items():
        if source != target:
            file_words, model_words = (_words(name, own=target in structural) for name in (source, target))
            for held, name, words, others in ((sides[0], source, file_words, model_words), (sides[1], target, model_words, file_words)):
                for word in dict.fromkeys(words):
                    if words.count(word) > others.count(word):
                        held.setdefault(word, []).append(name)
    return sides


def _words(name: str, *, own: bool) -> tuple[str, ...]:
    """The wrapper segments of a name. Under other names ``module`` below a number may be the author's, of a residual."""
    words = unwrap(name)[1]
    if not own or "module" not in words:
        return words
    above = list(takewhile(lambda segment: not segment.isdecimal(), name.split(".")))
    return (*(word for word in words if word != "module"), *("module" for _ in range(above.count("module"))))


def _dotted(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}.`" for word in words)


def _tools(words: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(WRAPPERS.get(word, "the attribute under which a trainer keeps its network") for word in words))


def _undecided(rivals: tuple[str, ...]) -> str:
    return f" {_dotted(rivals)} would fit equally well: which one is meant is undecided." if rivals else ""


def is_trainer_attribute(path: str) -> bool:
    """Whether every segment of ``path`` is a word under which trainers keep a whole network."""
    return bool(path) and all(word in TRAINER_ATTRIBUTES or word in WRAPPERS for word in path.split("."))
