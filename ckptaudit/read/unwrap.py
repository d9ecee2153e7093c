"""From the object that a file holds to named branches of tensors, by looking at what is inside.

A training script puts its state dict wherever it likes. So nothing is looked up by a fixed key: every mapping with tensors below it is a
candidate, and its names, its place and its neighbours tell what it is. Key words only break ties and name roles.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckptaudit.errors import CorruptCheckpointError
from ckptaudit.graph.names import leaf
from ckptaudit.lazily import compiled_when_used
from ckptaudit.read.checkpoint import Branch
from ckptaudit.read.pickles import Instance, OpaqueKey, PickledDict
from ckptaudit.read.stored import StoredTensor
from ckptaudit.records import dataclass, field
from ckptaudit.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import Protocol

    class Tensors(Protocol):
        """Tells the tensors of an object: ``TensorReader`` for what a file holds."""

        def is_tensor(self, value: Any, /) -> bool:
            """Whether an object stands for a tensor."""

        def tensor(self, value: Any, name: str, /) -> StoredTensor:
            """The tensor that it stands for."""


#: Deepest nesting of containers. Honest files stay below 20; one frame of the interpreter's stack is spent on each level.
MAX_DEPTH = 256

#: Tensors of one file, repeated ones counted each time: shared containers must not multiply without end.
MAX_TENSORS = 1 << 18

_WORDS = compiled_when_used(r"[^a-z0-9]+")

#: A mapping under one of these keys is a state dict of its own, even when its names have no dots.
_CONTAINER_KEYS = frozenset(
    {
        "state_dict",
        "model",
        "model_state",
        "model_state_dict",
        "net",
        "net_state_dict",
        "network",
        "module",
        "weights",
        "params",
        "params_ema",
        "ema",
        "ema_state_dict",
        "model_ema",
        "state_dict_ema",
        "teacher",
        "student",
        "generator",
        "discriminator",
        "netg",
        "netd",
        "g",
        "d",
        "g_ema",
    }
)
_EMA_WORDS = frozenset({"ema", "shadow", "swa", "averaged", "average", "avg"})
_SIDE_WORDS = frozenset(
    {"rng", "scheduler", "schedulers", "lr", "scaler", "callbacks", "loops", "amp", "sampler", "loss", "criterion", "history", "metrics"}
)
_LESSER_WORDS = frozenset({"teacher", "discriminator", "netd", "d", "critic", "momentum", "target", "best"})
_LAYER_WORDS = frozenset(
    {"weight", "bias", "running_mean", "running_var", "kernel", "gamma", "beta", "weight_g", "weight_v", "in_proj_weight"}
)


@dataclass(eq=False)
class _Candidate:
    """Tensors that may be a branch: paths from the root of the file, and what was seen of the mapping that holds them."""

    path: tuple[str, ...]
    tensors: list[tuple[tuple[str, ...], StoredTensor]] = field(default_factory=list)
    optimizer: bool = False
    standalone: bool = False
    modules: dict[tuple[str, ...], str] | None = None
    loose: bool = False

    def step_into_wrappers(self) -> None:
        """Let a branch at the top begin below keys that all its tensors share: ``{"weights": {…}}`` wraps, it is no layer."""
        if self.path or self.optimizer or self.modules is not None:
            return
        shared = self.tensors[0][0]
        for path, _ in self.tensors:
            shared = shared[
                : next((i for i, (a, b) in enumerate(zip(shared, path[:-1], strict=False)) if a != b), min(len(shared), len(path) - 1))
            ]
            if not shared:
                return
        self.path = shared

    def branch(self, *, alone: bool) -> Branch:
        depth = len(self.path)
        tensors = {".".join(path[depth:]) if path else "tensor": tensor for path, tensor in self.tensors}
        modules = {".".join(path[depth:]): kind for path, kind in (self.modules or {}).items()}
        nested = self.modules is None and not self.optimizer and any(len(path) - depth > 1 for path, _ in self.tensors)
        return Branch(".".join(self.path), self._role(alone, tensors), MappingProxyType(tensors), MappingProxyType(modules), nested)

    def _role(self, alone: bool, names: Iterable[str]) -> str:
        words = {word for key in self.path for word in _WORDS.split(key.lower())}
        if self.optimizer or any(word.startswith("optim") for word in words):
            return "optimizer"
        if words & _EMA_WORDS:
            return "ema"
        if words & _SIDE_WORDS:
            return "other"
        # Tensors that lie loose beside real branches are a queue, a random state, an anchor grid, unless they are named as layers are.
        if self.loose and not alone and not any(leaf(name) in _LAYER_WORDS for name in names):
            return "other"
        return "model"


class Unwrapper:
    """Finds the branches of one unpickled object.

    Parameters
    ----------
    path:
        The file, for messages.
    tensors:
        Tells tensors from other stand-ins.
    """

    def __init__(self, path: Path, tensors: Tensors) -> None:
        self._path = path
        self._tensors = tensors
        self._holders: set[int] = set()
        self._open: set[int] = set()
        self._count = 0
        self._visits = 0
        #: What an audit should report of the object.
        self.remarks: list[str] = []

    def branches(self, root: Any) -> tuple[Branch, ...]:
        """All branches with tensors, in the file's order.

        Raises
        ------
        CorruptCheckpointError
            A tensor contradicts itself, or the object is nested deeper, or repeated more often, than a checkpoint can be.
        """
        self._holders = self._holders_of_tensors(root)
        if self._tensors.is_tensor(root):
            candidates = [_Candidate((), [((), self._tensors.tensor(root, "tensor"))])]
        elif id(root) in self._holders:
            candidates = self._split(root, ())
            if candidates:
                candidates[0].step_into_wrappers()
            else:
                self.remarks.append("tensors lie only within the arguments of refused calls, where no name leads to them")
        else:
            candidates = []
        alone = len([c for c in candidates if not c.optimizer]) == 1
        branches = tuple(candidate.branch(alone=alone) for candidate in candidates)
        lost = sum(len(c.tensors) - len(b.tensors) for c, b in zip(candidates, branches, strict=True))
        if lost:
            self.remarks.append(
                f"{plural(lost, 'tensor')} {'has' if lost == 1 else 'have'} the name of another one once their keys are joined; the last "
                "of each name counts"
            )
        return branches

    def _holders_of_tensors(self, root: Any) -> set[int]:
        """Identities of all containers with a tensor at any depth; each container is looked at once, however often it is shared."""
        parents: dict[int, list[int]] = {id(root): []}
        level, pending, depth, strange = [root], [], 0, 0
        is_tensor = self._tensors.is_tensor
        while level:
            depth += 1
            if depth > MAX_DEPTH:
                raise CorruptCheckpointError(self._path, f"an object nested more than {MAX_DEPTH} levels deep, which no checkpoint needs")
            below = []
            for container in level:
                for key, child in children(container):
                    strange += isinstance(key, OpaqueKey) and not _is_flat(key.value)
                    if is_tensor(child):
                        pending.append(id(container))
                    elif isinstance(child, (dict, list, tuple, Instance)):
                        if id(child) not in parents:
                            parents[id(child)] = []
                            below.append(child)
                        parents[id(child)].append(id(container))
            level = below
        if strange:
            self.remarks.append(f"{strange:,} dictionary keys are nested or huge values, which no checkpoint needs")
        holders: set[int] = set()
        while pending:
            identity = pending.pop()
            if identity not in holders:
                holders.add(identity)
                pending += parents[identity]
        return holders

    def _split(self, container: Any, path: tuple[str, ...]) -> list[_Candidate]:
        """The branches within ``container``, its own among them; one that does not stand alone is to be joined by its parent."""
        self._visit(path)
        if is_module(container):
            return [self._module(container, path)]
        items = list(_keyed(container))
        own = _Candidate(path, optimizer={"state", "param_groups"} <= {key for key, _ in items})
        own.standalone = own.optimizer or (bool(path) and path[-1].lower() in _CONTAINER_KEYS) or _has_metadata(container)
        branches: list[_Candidate] = []
        self._open.add(id(container))
        for key, child in items:
            below = (*path, key)
            if self._tensors.is_tensor(child):
                own.tensors.append((below, self._tensor(child, below)))
                own.standalone = own.standalone or "." in key
            elif id(child) in self._holders and id(child) not in self._open:
                for candidate in self._split(child, below):
                    if candidate.standalone and not own.optimizer:
                        branches.append(candidate)
                    else:
                        own.tensors += candidate.tensors
        self._open.discard(id(container))
        if not own.tensors:
            return branches
        own.loose = bool(branches)
        own.standalone = own.standalone or own.loose
        return [own, *branches]

    def _module(self, module: Instance, path: tuple[str, ...]) -> _Candidate:
        """The state dict of a pickled ``nn.Module``, in the order in which ``state_dict()`` would list it."""
        modules: dict[tuple[str, ...], str] = {}
        found = _Candidate(path, standalone=True, modules=modules)
        todo: list[tuple[Instance, tuple[str, ...], frozenset[int]]] = [(module, path, frozenset())]
        while todo:
            current, at, above = todo.pop()
            self._visit(at)
            modules[at] = current.class_name
            state = attributes(current)
            skipped = set(_texts(state.get("_non_persistent_buffers_set")))
            for kind, parameter in (("_parameters", True), ("_buffers", False)):
                for name, value in _keyed(state.get(kind)):
                    if self._tensors.is_tensor(value) and not (kind == "_buffers" and name in skipped):
                        made = self._tensor(value, (*at, name))
                        marked = StoredTensor(made.shape, made.strides, made.dtype, made.offset, made.storage, parameter)
                        found.tensors.append(((*at, name), marked))
            submodules = [
                (name, child) for name, child in _keyed(state.get("_modules")) if isinstance(child, Instance) and id(child) not in above
            ]
            todo += [(child, (*at, name), above | {id(current)}) for name, child in reversed(submodules)]
        return found

    def _visit(self, path: tuple[str, ...]) -> None:
        # Shared containers are walked once per path that leads to them: a few hundred bytes can ask for 2**64 paths.
        self._visits += 1
        if len(path) > MAX_DEPTH or self._visits > MAX_TENSORS:
            raise CorruptCheckpointError(
                self._path, f"an object nested more than {MAX_DEPTH} levels deep, or with more than {MAX_TENSORS:,} containers"
            )

    def _tensor(self, value: Instance, path: tuple[str, ...]) -> StoredTensor:
        self._count += 1
        if self._count > MAX_TENSORS:
            raise CorruptCheckpointError(self._path, f"more than {MAX_TENSORS:,} tensors, counted with all repetitions")
        return self._tensors.tensor(value, ".".join(path) or "tensor")


def choose(branches: tuple[Branch, ...]) -> tuple[Branch, str]:
    """The branch that looks most like a model, and why, in a few plain words."""
    if not branches:
        return Branch("", "other", MappingProxyType({})), "the file holds no tensors"
    ranks = {"model": 0, "ema": 1, "other": 2, "optimizer": 2}

    def rank(branch: Branch) -> tuple[int, bool, int]:
        return ranks[branch.role], bool(set(_WORDS.split(branch.name.lower())) & _LESSER_WORDS), -branch.parameters

    chosen = min(branches, key=rank) if len(branches) > 1 else branches[0]
    others = [branch for branch in branches if branch is not chosen]
    rivals = [branch for branch in others if branch.role == chosen.role]
    averaged = [branch for branch in others if branch.role == "ema"]
    if chosen.role not in ("model", "ema"):
        return (
            chosen,
            f"no branch holds model weights; this one ({chosen.role}) is the largest"
            if others
            else f"the only branch, with role {chosen.role}",
        )
    if rivals:
        names = ", ".join(repr(branch.name) for branch in rivals[:5]) + (f" and {len(rivals) - 5} more" if len(rivals) > 5 else "")
        return (
            chosen,
            f"the likeliest of {len(rivals) + 1} branches with {'EMA' if chosen.role == 'ema' else 'model'} weights; also there: {names}",
        )
    if averaged:
        return chosen, f"raw weights; the EMA copy is branch {averaged[0].name!r}"
    if chosen.role == "ema":
        return chosen, "an EMA copy; the file holds no raw weights"
    return chosen, "the only branch with model weights" if others else "the only branch"


def children(value: Any) -> Iterator[tuple[Any, Any]]:
    """What a container or an object of any class holds, with the keys."""
    if isinstance(value, dict):
        yield from value.items()
        if isinstance(value, PickledDict) and value.state is not None:
            yield "", value.state
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)
    elif isinstance(value, Instance):
        yield from enumerate(value.args)
        if isinstance(value.factory, Instance):
            yield "", value.factory
        for part in (value.kwargs, value.state, value.entries, value.elements):
            if part is not None:
                yield "", part


def attributes(value: Any) -> Mapping[Any, Any]:
    """The attributes that an object would have had: its ``__dict__``, with its slots when it has some."""
    state = value.state if isinstance(value, (Instance, PickledDict)) else None
    if isinstance(state, tuple) and len(state) == 2:
        found: dict[Any, Any] = {}
        for part in state:
            if isinstance(part, dict):
                found.update(part)
        return found
    return state if isinstance(state, dict) else {}


def is_module(value: Any) -> bool:
    """Whether ``value`` is a pickled ``nn.Module``, whatever its class."""
    state = attributes(value) if isinstance(value, Instance) else {}
    return isinstance(state.get("_modules"), dict) and isinstance(state.get("_parameters"), dict)


def key_text(key: Any) -> str:
    """A key as a segment of a name."""
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return key.decode("utf-8", "backslashreplace")
    if isinstance(key, OpaqueKey):
        return f"({', '.join(map(str, key.value))})" if _is_flat(key.value) else "<key>"
    return str(key)


def _is_flat(key: Any) -> bool:
    """Whether a key is a short tuple of names and small numbers."""
    return (
        isinstance(key, tuple)
        and len(key) <= 8
        and all(isinstance(k, (str, float)) or k is None or (isinstance(k, int) and abs(k) < 2**64) for k in key)
    )


def _keyed(value: Any) -> Iterator[tuple[str, Any]]:
    """What a container holds, by the words that lead there in a tensor's name."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield key_text(key), child
    elif isinstance(value, (list, tuple)):
        for position, child in enumerate(value):
            yield str(position), child
    elif isinstance(value, Instance):
        # Attributes and items speak for an object; its arguments only where it has neither (deque([…]), a named tuple).
        yield from _keyed(value.entries)
        yield from _keyed(value.elements)
        yield from _keyed(attributes(value))
        if value.state is None and not value.entries and not value.elements:
            yield from _keyed(value.args[0] if len(value.args) == 1 and isinstance(value.args[0], (list, tuple, dict)) else value.args)


def _texts(value: Any) -> Iterator[str]:
    """The strings of a list, tuple or set."""
    for _, child in _keyed(value):
        if isinstance(child, str):
            yield child


def _has_metadata(container: Any) -> bool:
    return isinstance(container, PickledDict) and "_metadata" in attributes(container)
