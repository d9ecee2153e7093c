"""Scan files one after the other; what one of them is like says nothing of the next."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ckptaudit.errors import CheckpointError, CkptAuditError, CorruptCheckpointError, NotACheckpointError
from ckptaudit.garbage import collector_paused
from ckptaudit.read.header_table import HeaderTable
from ckptaudit.read.identity import identity_of
from ckptaudit.read.opening import header_limit, opened_checkpoint
from ckptaudit.read.source import opened
from ckptaudit.rules.pickled import refused_global
from ckptaudit.scanning.checks import REMARKS, check_checkpoint, check_operators
from ckptaudit.scanning.result import FileScan, Scan, by_weight
from ckptaudit.scanning.targets import Target, targets
from ckptaudit.text import printable

_KERAS_METADATA = "keras_metadata.pb"


def scan(paths: Sequence[str | os.PathLike[str]], *, deep: bool = False, progress: Callable[[int, int, Path], None] | None = None) -> Scan:
    """Scan files, folders and patterns.

    Parameters
    ----------
    paths:
        What is named is scanned; of a folder every file that is a checkpoint by its content or is named like one.
    deep:
        Look at every value for NaN instead of a sample.
    progress:
        Is called before each file with the number of files done, of all, and the file.
    """
    header_limit()  # one wrong limit is not the fault of each file
    found = list(targets(paths))
    covered: set[Path] = set()
    scanned: list[FileScan] = []
    skipped = 0
    for done, target in enumerate(found):
        if progress is not None:
            progress(done, len(found), target.path)
        if covered and not target.named and target.path.absolute() in covered:
            continue
        result = _scan_target(target, deep)
        if result is None:
            skipped += 1
            continue
        covered |= result.covered
        scanned.append(result)
    if not scanned:
        scanned = [FileScan(Path(path), reason="a directory that holds no checkpoint") for path in paths]
    return Scan(tuple(scanned), skipped)


def _scan_target(target: Target, deep: bool) -> FileScan | None:
    """The file's result, or None where it is a file in a folder that has nothing to do with checkpoints."""
    if target.refused:
        return FileScan(target.path, reason=target.refused)
    try:
        return scan_file(target.path, deep=deep)
    except CheckpointError as error:
        refused = tuple(error.refused_globals)
        findings = by_weight(refused_global.graded(refused))
        # An attack is told of whatever the file is called; damage only where it is called like a checkpoint, or like nothing at all.
        stranger = isinstance(error, NotACheckpointError)
        attack = any(finding.severity == "error" for finding in findings) if stranger else bool(refused)
        if target.stray and not attack and (stranger or target.path.suffix):
            return None
        return FileScan(target.path, findings=findings, refused_globals=refused, reason=printable(error.reason))
    except CkptAuditError as error:
        return FileScan(target.path, reason=str(error))
    except Exception as error:
        if os.environ.get("CKPTAUDIT_DEBUG"):
            raise
        # One file must not hide the others.
        return FileScan(target.path, reason=printable(f"internal error ({type(error).__name__}: {error})", 300))


def scan_file(path: str | os.PathLike[str], *, deep: bool = False) -> FileScan:
    """Scan one file, or the checkpoint that an index of shards makes up.

    Raises
    ------
    CkptAuditError
        It could not be read.
    """
    path = Path(path)
    before = identity_of(path)
    try:
        result = _scan_file(path, deep)
    except CheckpointError:
        if identity_of(path) == before:
            raise
    else:
        if identity_of(path) == before:
            return result
    # What was found in two looks at two files says nothing of either.
    raise CorruptCheckpointError(path, "changed while it was audited")


def _scan_file(path: Path, deep: bool) -> FileScan:
    with collector_paused():
        if path.suffix == ".pb" and (result := _scan_graph(path)) is not None:
            return result
        with opened_checkpoint(path) as (source, checkpoint):
            findings = by_weight(check_checkpoint(checkpoint, source, deep))
    others: set[Path] = set()
    for branch in checkpoint.branches:
        table = branch.tensors
        others |= table.paths if isinstance(table, HeaderTable) else {tensor.storage.path for tensor in table.values()}
    return FileScan(
        path,
        checkpoint.format,
        checkpoint.nbytes,
        sum(len(branch.tensors) for branch in checkpoint.branches),
        findings,
        checkpoint.refused_globals,
        covered=frozenset(other.absolute() for other in others if other != checkpoint.path),
    )


def _scan_graph(path: Path) -> FileScan | None:
    """A SavedModel's graph, or what Keras notes beside it; None when it is neither."""
    from ckptaudit.read import saved_model

    with opened(path, 0) as source:
        if saved_model.recognise(source):
            return FileScan(path, saved_model.NAME, source.size, findings=by_weight(check_operators(saved_model.operators(source))))
        if path.name == _KERAS_METADATA:
            rule = next(rule for rule in REMARKS if rule.id == "keras-code")
            findings = [rule.finding(f"{words[:1].upper()}{words[1:]}.") for words in saved_model.keras_remarks(source)]
            return FileScan(path, "keras-metadata", source.size, findings=by_weight(findings))
    return None
