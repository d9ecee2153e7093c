"""What can be wrong with a file by itself. Each check declares its rule and yields findings; they are described in docs/scan.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, cast

from ckptaudit.errors import ValuesUnavailableError
from ckptaudit.graph.tensors import is_float
from ckptaudit.read import Branch, Checkpoint, Remark
from ckptaudit.read.ahead import reading_ahead
from ckptaudit.read.header_table import HeaderTable
from ckptaudit.rules.finding import Finding, Rule
from ckptaudit.rules.pickled import refused_global
from ckptaudit.rules.wording import percent, plural

if TYPE_CHECKING:
    from pathlib import Path

    from ckptaudit.read import StoredTensor
    from ckptaudit.read.source import Source
    from ckptaudit.rules.finding import Severity

#: Values looked at per tensor when the whole is not asked for: one page of float32.
_SAMPLE = 1024
#: Bytes between the members of a zip that are no data descriptor (24 at most) and no alignment.
_GAP = 64

TORCHSCRIPT = Rule("torchscript-code", "The file holds TorchScript code", "note", "file")
EXTERNAL = Rule("external-data", "Values lie in other files", "note", "file")
NON_FINITE = Rule("non-finite-values", "Weights are NaN or infinite", "warning", "file")
OVERLAPPING = Rule("overlapping-storage", "Tensors overlap in the file", "warning", "file")
UNREFERENCED = Rule("unreferenced-bytes", "The file holds bytes that no tensor refers to", "warning", "file")
TENSORFLOW = Rule("tensorflow-file-access", "The graph reads or writes files, or runs Python", "error", "file")

#: Rules of remarks that readers make, beside those above.
REMARKS = (
    Rule("keras-code", "The config holds or names code", "warning", "file"),
    Rule("outside-file", "The file leads to another one", "warning", "file"),
    Rule("missing-values", "Values are not in the file", "warning", "file"),
    Rule("odd-structure", "Something that no honest writer does", "warning", "file"),
)
RULES = (refused_global.RULE, TENSORFLOW, TORCHSCRIPT, EXTERNAL, NON_FINITE, OVERLAPPING, UNREFERENCED, *REMARKS)

#: Operators that give a graph the reach of a program. Savers (SaveV2, RestoreV2) are in every SavedModel and write where they are told.
_WRITING = frozenset({"WriteFile", "PrintV2File", "DatasetToTFRecord", "ExperimentalDatasetToTFRecord", "CreateSummaryFileWriter"})
_READING = frozenset(
    (
        *("ReadFile", "MatchingFiles", "ImmutableConst", "WholeFileReader", "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2"),
        *("FixedLengthRecordReader", "FixedLengthRecordReaderV2", "TFRecordReader", "TFRecordReaderV2", "LMDBReader", "SqlDataset"),
        *(
            "TextLineDataset",
            "TFRecordDataset",
            "TFRecordDatasetV2",
            "FixedLengthRecordDataset",
            "FixedLengthRecordDatasetV2",
            "LMDBDataset",
        ),
    )
)
_RUNNING = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc", "RemoteCall", "RpcCall", "RpcClient", "RpcServer"})


def check_checkpoint(checkpoint: Checkpoint, source: Source, deep: bool) -> Iterator[Finding]:
    """Yield all findings about a file that was read and is still open."""
    yield from refused_global.graded(checkpoint.refused_globals)
    yield from _remarks(checkpoint)
    for check in (_torchscript, _external, _overlapping):
        yield from check(checkpoint)
    if checkpoint.format in ("torch-zip", "torchscript", "keras"):
        yield from _gaps(source)
    with reading_ahead():
        yield from _non_finite(checkpoint, deep)


def check_operators(counts: dict[str, int]) -> Iterator[Finding]:
    """Yield a finding for each kind of operator that reaches outside the graph."""
    for listed, words in ((_WRITING, "writes files"), (_READING, "reads files by name"), (_RUNNING, "runs Python or calls other machines")):
        found = [f"{name} ({count:,}×)" for name, count in counts.items() if name in listed]
        if found:
            severity: Severity = "warning" if listed is _READING else "error"
            yield TENSORFLOW.finding(
                f"The graph {words} when it is run: {', '.join(found[:5])}.",
                severity=severity,
                fix="run it only where that is wanted, in a container",
            )


def _remarks(checkpoint: Checkpoint) -> Iterator[Finding]:
    by_id = {rule.id: rule for rule in RULES}
    for words in checkpoint.remarks:
        remark = Remark(words)
        yield by_id[remark.rule].finding(f"{remark[:1].upper()}{remark[1:]}.", severity=cast("Severity", remark.severity))


def _torchscript(checkpoint: Checkpoint) -> Iterator[Finding]:
    if checkpoint.format == "torchscript":
        yield TORCHSCRIPT.finding(
            "The file holds code, which torch.jit.load compiles and a call of the module runs; its operators cannot start programs.",
            fix="the state dict alone needs no code",
        )


def _external(checkpoint: Checkpoint) -> Iterator[Finding]:
    if checkpoint.framework == "onnx" and (files := checkpoint.metadata.get("external_data")):
        yield EXTERNAL.finding(f"Values lie in {plural(len(files), 'other file')} within the model's folder: {', '.join(list(files)[:5])}.")


def _tensors(branches: Iterable[Branch]) -> Iterator[tuple[str, StoredTensor]]:
    """Every tensor of the branches, each view of the file's bytes once."""
    seen = set()
    for branch in branches:
        apart = isinstance(branch.tensors, HeaderTable)
        before = f"{branch.name}." if branch.name else ""
        for name, tensor in branch.tensors.items():
            if not apart:
                address = tensor.address
                if address in seen:
                    continue
                seen.add(address)
            yield before + name, tensor


def _overlapping(checkpoint: Checkpoint) -> Iterator[Finding]:
    if any(Remark(words).rule == OVERLAPPING.id for words in checkpoint.remarks):
        return  # the reader told of it
    if all(isinstance(branch.tensors, HeaderTable) for branch in checkpoint.branches):
        return  # the reader refuses it
    placed: dict[Path, dict[tuple[int, int, str], str]] = {}
    within: dict[tuple[int, int, str], str] = {}
    path: Path | None = None
    for name, tensor in _tensors(checkpoint.branches):
        storage = tensor.storage
        if storage.nbytes and storage.fetch is None and not storage.unavailable:
            if storage.path is not path:
                path = storage.path
                within = placed.setdefault(path, {})
            within.setdefault((storage.offset, storage.nbytes, storage.key), name)
    names: list[str] = []
    for path in sorted(placed, key=str):
        reached, before = 0, ""
        for (offset, nbytes, _), name in sorted(placed[path].items()):
            if offset < reached:
                names += [before, name]
            if offset + nbytes > reached:
                reached, before = offset + nbytes, name
    if names:
        yield OVERLAPPING.finding(
            f"{plural(len(dict.fromkeys(names)), 'tensor')} lie over the same bytes, the first `{names[0]}` and `{names[1]}`.",
            checkpoint=names,
        )


def _gaps(source: Source) -> Iterator[Finding]:
    """Bytes between the members of a zip: room for what no reader of the checkpoint sees."""
    found = [(start, end) for start, end in source.zip.gaps() if end - start > _GAP and any(source.data[start : min(end, start + 4096)])]
    if found:
        start, end = found[0]
        yield UNREFERENCED.finding(
            f"{sum(end - start for start, end in found):,} bytes belong to no member of the zip, "
            f"the first {end - start:,} from byte {start:,} on."
        )


def _non_finite(checkpoint: Checkpoint, deep: bool) -> Iterator[Finding]:
    bad: dict[str, float] = {}
    looked_at = 0
    # What callbacks and schedulers keep is no weight: Lightning's ModelCheckpoint begins with an infinite best value.
    weights = [branch for branch in checkpoint.branches if branch.role != "other" or branch is checkpoint.branch]
    for name, tensor in _tensors(weights):
        if not is_float(tensor.dtype) or 0 in tensor.shape:
            continue
        try:
            if not deep and tensor.surely_finite(_SAMPLE):
                looked_at += 1
                continue
            values = tensor.read() if deep else tensor.sample(_SAMPLE)
        except ValuesUnavailableError:
            continue
        import numpy  # not before there is a value that may be none

        looked_at += 1
        if tensor.dtype not in ("float16", "float32", "float64"):
            values = values.astype(numpy.float32)
        finite = numpy.isfinite(values)
        # Masks hold -inf on purpose.
        if not finite.all() and (share := (~finite & ~numpy.isneginf(values)).mean()):
            bad[name] = float(share)
    if bad:
        worst = max(bad, key=lambda name: bad[name])
        sampled = "its values" if deep else "the values that were sampled"
        yield NON_FINITE.finding(
            f"{len(bad):,} of {plural(looked_at, 'floating-point tensor')} {'holds' if len(bad) == 1 else 'hold'} NaN or infinite values"
            f", most of all `{worst}`: "
            f"{percent(bad[worst])} of {sampled}.",
            checkpoint=bad,
            fix="the training diverged, or the file is damaged: take an earlier checkpoint",
        )
