"""Noting a checkpoint down for the lock, while the file is at hand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ckptaudit.align.modules import module_in_file
from ckptaudit.arch import Model
from ckptaudit.errors import CheckpointError, LockError
from ckptaudit.graph import Module
from ckptaudit.graph.settings import computing_modules
from ckptaudit.lock.contracts import Contract, Project
from ckptaudit.lock.locked import Locked, stored, terms_of
from ckptaudit.pipeline import Audit, audit, compare
from ckptaudit.plan import Plan
from ckptaudit.read import Branch, Checkpoint, open_checkpoint
from ckptaudit.read.identity import unreadable
from ckptaudit.read.recorded import Recorded
from ckptaudit.records import dataclass, replace
from ckptaudit.rules.values import look_at_values, read_batch_norm


@dataclass(frozen=True, eq=False)
class Locking:
    """One contract as it was locked.

    Attributes
    ----------
    entry:
        What the lock holds of it from now on.
    audit:
        What ``ckptaudit check`` would say of it now.
    kept:
        The file was not at hand: what the lock held of it was kept, and only the model was noted anew.
    """

    entry: Locked
    audit: Audit
    kept: bool


def lock_contract(
    project: Project,
    contract: Contract,
    model: Model,
    *,
    file: Path | None = None,
    earlier: Locked | None = None,
    digest: bool = True,
    deep: bool = False,
) -> Locking:
    """Note down a contract's checkpoint and model.

    Parameters
    ----------
    project, contract, model:
        The promise, and the model that it is about.
    file:
        Where the checkpoint is, if not where the contract says.
    earlier:
        What the lock holds of the contract so far: kept where the file is not at hand and the contract names the same one.
    digest:
        Whether to hash the whole file.
    deep:
        Whether to scan every value for NaN, not a sample of each tensor.

    Raises
    ------
    LockError
        There is neither a file nor an earlier entry.
    CheckpointError
        The file cannot be read.
    """
    path = file or (None if contract.is_url else project.root / contract.checkpoint)
    terms = terms_of(contract)
    if path is None or (file is None and not path.exists()):
        if earlier is None or any(earlier.terms.get(key) != terms.get(key) for key in ("checkpoint", "branch")):
            why = "is a URL, and nothing is fetched" if path is None else "is not there"
            raise LockError(f"contract {contract.name!r}: {contract.checkpoint} {why}; give a local copy with --from {contract.name}=FILE")
        checkpoint, digests, facts = earlier.checkpoint, earlier.digests, earlier.facts
        plan = compare(checkpoint, model, intent=contract.intent).plan
        recorded = checkpoint.recorded or Recorded()
    else:
        opened = open_checkpoint(path, branch=contract.branch)
        full = audit(opened, model, intent=contract.intent, branch=contract.branch, deep=deep)
        opened, plan = full.checkpoint, full.plan
        recorded = Recorded(
            tuple(read_batch_norm(opened, opened.branch.tensors)),
            MappingProxyType(dict(look_at_values(opened, deep=deep).non_finite)),
            tuple(finding.checkpoint for finding in full.findings if finding.rule == "tied-weights" and finding.severity == "error"),
        )
        checkpoint = _without_values(opened, contract)
        digests = _digests(opened) if digest else {}
        facts = {key: value for key, value in full.facts[0].to_json().items() if value not in (None, [])}
    checkpoint = replace(checkpoint, recorded=replace(recorded, modules=MappingProxyType(_modules(plan, model))))
    entry = Locked(contract.name, terms, checkpoint, digests, facts)
    return Locking(
        entry, compare(checkpoint, model, intent=contract.intent, allow=contract.allow), kept=path is None or not (file or path.exists())
    )


def _modules(plan: Plan, model: Model) -> dict[str, Module]:
    """Type and settings of the model's modules, by their paths in the file."""
    in_file = module_in_file({step.target: step for step in plan.steps})
    found: dict[str, Module] = {}
    for path, module in computing_modules(model.graph).items():
        if (there := in_file(path)) is not None:
            found.setdefault(there, replace(module, origin=None))
    return found


def _without_values(opened: Checkpoint, contract: Contract) -> Checkpoint:
    """What a lock keeps of a checkpoint: the branch under audit whole, of the others what the intent asks about."""
    path = Path(contract.checkpoint)
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in opened.branch.tensors.items()}
    arrays = {name for name, tensor in opened.branch.tensors.items() if tensor.is_array}
    tensors = MappingProxyType(stored(shapes, opened.graph.tied, path, arrays))
    branch = Branch(opened.branch.name, opened.branch.role, tensors, places=opened.branch.places)
    resume = contract.intent == "resume"
    others = []
    for other in opened.branches:
        if other.name == branch.name or other.role not in ("model", "ema", *(("optimizer",) if resume else ())):
            continue
        kept = {name: (t.shape, t.dtype) for name, t in other.tensors.items()} if other.role == "optimizer" else {}
        others.append(Branch(other.name, other.role, MappingProxyType(stored(kept, (), path))))
    return Checkpoint(
        path=path,
        format=opened.format,
        framework=opened.framework,
        branch=branch,
        branch_reason=opened.branch_reason,
        branches=(branch, *others),
        metadata=_groups(opened.metadata) if resume else {},
        refused_globals=opened.refused_globals,
        nbytes=opened.nbytes,
        remarks=opened.remarks,
    )


def _groups(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Of the metadata only which parameters the groups of an optimizer count."""
    found: dict[str, Any] = {}
    for key, value in metadata.items():
        if key == "param_groups" and isinstance(value, list):
            found[key] = [{"params": group["params"]} if isinstance(group, Mapping) and "params" in group else group for group in value]
        elif isinstance(value, Mapping) and (inner := _groups(value)):
            found[key] = inner
        elif isinstance(value, list) and any(isinstance(item, Mapping) and _groups(item) for item in value):
            found[key] = [_groups(item) if isinstance(item, Mapping) else None for item in value]
    return found


def _digests(checkpoint: Checkpoint) -> dict[str, str]:
    """sha256 of every file of the checkpoint, by name."""
    files = {tensor.storage.path for branch in checkpoint.branches for tensor in branch.tensors.values()}
    if checkpoint.path.is_file():
        files.add(checkpoint.path)
    found = {}
    for file in sorted(files):
        try:
            with file.open("rb") as opened:
                found[file.name] = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(file, unreadable(error)) from None
    return found
