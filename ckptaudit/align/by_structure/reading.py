"""Step 1: each side's tensors with segments, roles and a layout that both sides share.

Keras stores kernels with the output channel last, torch with it first. The *canonical* shape is torch's, without ones where they only pad.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

from ckptaudit.align.by_structure.words import masked, tokens
from ckptaudit.graph import LayerGraph, TensorSpec, is_float
from ckptaudit.graph.kinds import DERIVED_BUFFERS, canonical_roles
from ckptaudit.graph.layers import in_alphabetical_order
from ckptaudit.graph.names import leaf, split_name
from ckptaudit.lazily import compiled_when_used
from ckptaudit.records import dataclass, replace

__all__ = ["STANDARD_ROLES", "Item", "Side", "read"]

#: Roles that belong to one layer together; every other parameter stands for itself.
STANDARD_ROLES = ("weight", "bias", "running_mean", "running_var")

#: Below this share of tensors with a usual role the roles are unknown words, and each module's tensors stay together.
_FEW_ROLES = 0.2

_COMMON_ROLES = frozenset(
    {
        *STANDARD_ROLES,
        "kernel",
        "gamma",
        "beta",
        "moving_mean",
        "moving_variance",
        "weights",
        "biases",
        "embeddings",
        "scale",
        "0",
        "1",
        "2",
        "3",
    }
)
_COMPOUND = compiled_when_used(r"^(.+?)_((?:weight|bias|kernel)s?)$")
_DERIVED = compiled_when_used(
    r"(relative_position_index|relative_coords|attn_mask|position_ids|token_type_ids|inv_freq|num_batches_tracked|_idxs?$|_index$)"
)
#: No filter has a longer side.
_LONGEST_KERNEL = 11
_LETTERED = compiled_when_used(r"(.*\d)([a-z])\Z")
_EMBEDDING = frozenset({"embed", "position", "token", "table"})
_VARS = {4: STANDARD_ROLES, 2: STANDARD_ROLES[:2], 1: STANDARD_ROLES[:1]}


@dataclass(slots=True)
class Item:
    """One tensor, or one equal part of a fused one.

    Attributes
    ----------
    spec:
        The tensor that it is, or is a part of.
    owner:
        Segments of the layer that owns it.
    role:
        Canonical role inside the layer.
    perm:
        Permutation from the stored layout to torch's; empty for none.
    shape:
        Shape in torch's layout, without ones except in kernels wider than 1.
    part, of:
        Which part of how many along the first canonical dimension.
    order:
        Position of the tensor in definition order.
    module_weight:
        Whether it is the weight of a layer, so that its layout follows from the framework.
    """

    spec: TensorSpec
    owner: tuple[str, ...]
    role: str
    perm: tuple[int, ...]
    shape: tuple[int, ...]
    order: int
    module_weight: bool
    part: int = 0
    of: int = 1

    def take(self, part: int, of: int, owner: tuple[str, ...]) -> Item:
        """Part ``part`` of ``of``, as if it stood under ``owner``."""
        return replace(
            self, part=part, of=of, owner=owner, shape=_canonical((self.shape[0] // of, *self.shape[1:]), weight=self.module_weight)
        )


@dataclass(slots=True)
class Side:
    """One graph, read.

    Attributes
    ----------
    layers:
        Items by layer, in definition order; the key is the layer's segments.
    derived:
        Buffers that follow from the configuration or count steps; set apart.
    channels_last:
        Whether kernels are stored with the output channel last.
    ordered:
        Whether the order of names may be an order of definition: it is not when it is the alphabet's.
    plain:
        Whether roles are unknown words: then shapes alone say what a tensor is to its layer.
    """

    layers: dict[tuple[str, ...], list[Item]]
    derived: list[TensorSpec]
    channels_last: bool
    ordered: bool
    plain: bool = False


def read(graph: LayerGraph, other: LayerGraph, exclude: frozenset[str] = frozenset()) -> Side:
    """Read a graph that is to be aligned with another, without the tensors named in ``exclude``."""
    specs = [spec for spec in graph if spec.name not in exclude]
    derived = [spec for spec in specs if _is_derived(spec)]
    apart = {spec.name for spec in derived}
    rows = [(spec, segments(spec.name)) for spec in specs if spec.name not in apart]
    channels_last = _is_channels_last(graph)
    rows = _flat_names_cut(rows, other)
    owned: dict[tuple[str, ...], dict[str, TensorSpec]] = {}
    for spec, path in rows:
        word, named = path[-1], owned.setdefault(path[:-1], {})
        named[word if word not in named else f"{word}:{len(named)}"] = spec
    plain = sum(leaf(name) in _COMMON_ROLES for name in graph.tensors) < _FEW_ROLES * len(graph)
    order = {spec.name: position for position, spec in enumerate(graph)}
    containers = {owner[:end] for owner in owned for end in range(len(owner))} if plain else set()
    layers: dict[tuple[str, ...], list[Item]] = {}
    for owner, named in owned.items():
        if owner and owner[-1] == "vars" and all(word.isdecimal() for word in named):
            owner, named = owner[:-1], _numbered_roles(named)  # noqa: PLW2901 (Keras 3 writes vars/0, vars/1)
        roles = canonical_roles(named, "keras" if channels_last else "torch")
        biases = _lone_biases(named) if plain and owner in containers else {}
        for role, spec in roles.items():
            together = owner not in containers if plain else role in STANDARD_ROLES
            path = owner if together else (*owner, biases.get(role, role))
            perm = _to_torch(spec, "weight" if plain else role, path, roles) if channels_last else ()
            weight = plain or role == "weight"
            shape = _canonical(tuple(spec.shape[i] for i in perm) if perm else spec.shape, weight=weight)
            item = Item(spec, path, role, perm, shape, order[spec.name], weight)
            if path in layers:
                layers[path].append(item)
            else:
                layers[path] = [item]
    _turn_transposed(layers)
    return Side(layers, derived, channels_last, ordered=not in_alphabetical_order(specs), plain=plain)


def segments(name: str) -> tuple[str, ...]:
    """Segments of a name, the role always the last: ``attn.in_proj_weight`` → ``attn, in_proj, weight``."""
    path = split_name(name.removesuffix(":0"))
    compound = _COMPOUND.match(path[-1])
    return (*path[:-1], compound[1], compound[2]) if compound and path[-1] not in _KEPT else path


_KEPT = frozenset({"depthwise_weights"})


def _is_derived(spec: TensorSpec) -> bool:
    word = leaf(spec.name)
    return word in DERIVED_BUFFERS or not is_float(spec.dtype) or bool(_DERIVED.search(word))


def _canonical(shape: tuple[int, ...], *, weight: bool) -> tuple[int, ...]:
    """A shape without ones; the kernel of a convolution keeps them, for 1 × 7 is not 7 × 1. A long vector is no kernel."""
    if weight and len(shape) > 3 and max(shape[2:]) > 1 and (sum(n > 1 for n in shape) > 1 or max(shape) <= _LONGEST_KERNEL):
        return shape
    return tuple(n for n in shape if n != 1) if 1 in shape else shape


def _lone_biases(named: dict[str, TensorSpec]) -> dict[str, str]:
    """Of the parameters that a module with submodules owns itself: each bias, and the matrix that it belongs to.

    Told by shapes, since the roles are unknown words: the only vector with as many entries as the only matrix has rows.
    """
    rows: dict[int, list[str]] = {}
    vectors: dict[int, list[str]] = {}
    for role, spec in named.items():
        if spec.shape:
            (rows if len(spec.shape) > 1 else vectors).setdefault(spec.shape[0], []).append(role)
    return {found[0]: rows[n][0] for n, found in vectors.items() if len(found) == len(rows.get(n, ())) == 1}


def _numbered_roles(named: dict[str, TensorSpec]) -> dict[str, TensorSpec]:
    roles = _VARS.get(len(named))
    if roles is None:
        return {f"variable_{word}": spec for word, spec in named.items()}
    return dict(zip(roles, (named[word] for word in sorted(named, key=int)), strict=True))


# --- layout -----------------------------------------------------------------------------------------------------------


def _is_channels_last(graph: LayerGraph) -> bool:
    if graph.framework != "unknown":
        return graph.framework in ("keras", "tensorflow")
    votes = 0
    for spec in graph:
        word = leaf(spec.name).removesuffix(":0")
        votes += word in ("kernel", "moving_mean", "moving_variance", "depthwise_kernel", "pointwise_kernel")
        votes -= word in ("running_mean", "running_var", "num_batches_tracked")
        if len(spec.shape) == 4:
            first, last = _window(spec.shape[2:]), _window(spec.shape[:2])
            votes += (last and not first) - (first and not last)
    return votes > 0


def _window(sides: tuple[int, ...]) -> bool:
    """Whether two dimensions look like a filter's height and width."""
    return max(sides) <= _LONGEST_KERNEL or sides == (1, 1)


def _to_torch(spec: TensorSpec, role: str, path: tuple[str, ...], layer: dict[str, TensorSpec]) -> tuple[int, ...]:
    """Permutation from a channels-last kernel to torch's layout."""
    rank = len(spec.shape)
    words = {word for segment in path[-3:] for word in tokens(segment)}
    if rank < 2 or (role != "weight" and "kernel" not in role):
        return ()
    if rank == 2:
        return () if words & _EMBEDDING and "kernel" not in spec.name else (1, 0)
    spatial = tuple(range(rank - 2))
    bias = layer.get("bias")
    one_per_channel = spec.shape[-1] == 1 and spec.shape[-2] > 1 and (bias is None or bias.shape != (1,))
    grouped = spec.shape[-2] == 1 < spec.shape[-1]  # one input channel to a filter: a convolution in groups, whatever it is called
    if one_per_channel or (not grouped and ("depthwise" in words or "depthwise" in spec.name.lower())):
        return (rank - 2, rank - 1, *spatial)
    return (rank - 1, rank - 2, *spatial)


def _turn_transposed(layers: dict[tuple[str, ...], list[Item]]) -> None:
    """Turn matrices stored (in, out) where their biases say so, and their square siblings with them."""
    votes: Counter[tuple[str, bool]] = Counter()
    matrices = []
    for path, items in layers.items():
        weight = next((i for i in items if i.role == "weight" and len(i.spec.shape) == 2), None)
        bias = next((i for i in items if i.role == "bias" and len(i.spec.shape) == 1), None)
        if weight is None or bias is None:
            continue
        rows, columns = (weight.spec.shape[i] for i in (weight.perm or (0, 1)))
        where = masked(path[-1]) if path else ""
        matrices.append((weight, where, rows, columns))
        if rows != columns and bias.spec.shape[0] in (rows, columns):
            votes[where, bias.spec.shape[0] == columns] += 1
            votes["", bias.spec.shape[0] == columns] += 1
    if not any(turned for (_, turned) in votes):
        return
    all_turned = not votes["", False]
    for weight, where, rows, columns in matrices:
        here = votes[where, True] > 0 and votes[where, False] == 0
        if here or (rows == columns and all_turned and not votes[where, False]):
            weight.perm = () if weight.perm else (1, 0)
            weight.shape = _canonical((columns, rows), weight=True)


# --- names ------------------------------------------------------------------------------------------------------------


def _flat_names_cut(rows: list[tuple[TensorSpec, tuple[str, ...]]], other: LayerGraph) -> list[tuple[TensorSpec, tuple[str, ...]]]:
    """Cut segments at ``_`` too where names are flat (``block_2_expand_BN/gamma``), for they hide a tree.

    Letters behind a number (``block4b``) are numbers too, but where the other side has the same, or the file counts there already.
    """
    if not rows or sum(len(path) <= 2 for _, path in rows) < 0.8 * len(rows):
        return rows
    cut = [(spec, _cut(path[:-1]), path[-1]) for spec, path in rows]
    lettered = {stem for stem, letters in _letters(path for _, path, _ in cut).items() if {"a", "b"} <= letters}
    if lettered:
        lettered -= _letters(_cut(split_name(name)) for name in other.tensors).keys()
        lettered -= {first for _, path, _ in cut for first, second in pairwise(path) if second.isdecimal()}
    return [(spec, (*_numbered(path, lettered), word)) for spec, path, word in cut]


def _cut(path: Iterable[str]) -> tuple[str, ...]:
    return tuple(piece for segment in path for piece in segment.split("_") if piece)


def _letters(paths: Iterable[tuple[str, ...]]) -> dict[str, set[str]]:
    """The letters that stand behind a number, by what they stand behind: ``block4a``, ``block4b``."""
    found: dict[str, set[str]] = {}
    for segment in {segment for path in paths for segment in path}:
        if lettered := _LETTERED.match(segment):
            found.setdefault(lettered[1], set()).add(lettered[2])
    return found


def _numbered(path: tuple[str, ...], lettered: set[str]) -> Iterator[str]:
    """The path with such letters as the numbers that they are, of a series within what they stand behind."""
    for segment in path:
        found = _LETTERED.match(segment)
        if found and found[1] in lettered:
            yield found[1]
            yield str(ord(found[2]) - ord("a"))
        else:
            yield segment
