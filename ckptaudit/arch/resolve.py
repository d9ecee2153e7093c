"""The name of an architecture, or a live model → :class:`~ckptaudit.arch.model.Model`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptaudit.arch import sources
from ckptaudit.arch.arguments import is_file, merge, split_name
from ckptaudit.arch.libraries import MissingLibraryError
from ckptaudit.arch.model import Model
from ckptaudit.arch.offer import Offer
from ckptaudit.arch.suggest import did_you_mean
from ckptaudit.errors import ArchitectureError
from ckptaudit.garbage import collector_paused
from ckptaudit.records import replace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def build_model(
    arch: str | object,
    arguments: Mapping[str, Any] | None = None,
    *,
    trace: bool = False,
    input_size: Sequence[int] | None = None,
    fresh: bool = False,
    real: bool = False,
) -> Model:
    """Build the model that a checkpoint is held against, without allocating, initialising or downloading its weights.

    Parameters
    ----------
    arch:
        ``deeplabv3_resnet50`` (every source is asked), ``torchvision:deeplabv3_resnet50``, ``package.module:factory``,
        ``path/to/file.py:factory``, each also with arguments behind it (``resnet50?num_classes=10``); or a live
        ``torch.nn.Module`` or ``keras.Model``, or a :class:`Model`, which is returned as it is.
    arguments:
        Keyword arguments for the factory, beside those in the name.
    trace:
        Find out the dataflow too (``graph.feeds``), by one forward pass without values. A model that cannot be traced has a remark.
    input_size:
        Sizes of one input of the pass, without the batch; guessed where it is not given.
    fresh:
        Build it now, even where it was built before or the shipped catalogue knows it. What is traced is always built now.
    real:
        Build it now, with weights that have values, to run it.

    Raises
    ------
    ArchitectureError
        There is no such architecture, a library is missing, or the factory fails.
    UsageError
        Arguments that contradict each other, or that are given for a live model.
    """
    with collector_paused(), _with_values() if real else nullcontext():  # libraries are imported in here
        model = _resolve(arch, arguments or {}, fresh or trace or real)
    if not trace:
        return model
    from ckptaudit.arch.trace import with_feeds

    return with_feeds(model, input_size)


def _with_values() -> AbstractContextManager[None]:
    from ckptaudit.arch.torch_build import built_for_real

    return built_for_real()


def _resolve(arch: str | object, arguments: Mapping[str, Any], fresh: bool) -> Model:
    if isinstance(arch, Model):
        return arch
    if not isinstance(arch, str):
        from ckptaudit.arch.live import model_of_object

        return model_of_object(arch, arguments)
    name, in_name = split_name(arch)
    return replace(_build(name, merge(in_name, arguments), fresh), arch=arch)


def _build(name: str, arguments: Mapping[str, Any], fresh: bool) -> Model:
    # From the right for files, whose folders may contain colons; sources and modules cannot.
    before, colon, after = name.rpartition(":") if is_file(name.rpartition(":")[0]) else name.partition(":")
    if not colon and not is_file(name):
        return _ask_everyone(name, arguments, fresh)
    if not is_file(before) and (source := sources.find(before)) is not None:
        return Offer(before, source, fresh).model(after, arguments)
    from ckptaudit.arch.factory import build_from_file, build_from_module

    if is_file(before):
        return build_from_file(Path(before), after, arguments, name)
    return build_from_module(before, after, arguments, name)


def _ask_everyone(name: str, arguments: Mapping[str, Any], fresh: bool) -> Model:
    """Ask every source for a name without prefix. The first that knows it answers; the model remarks on others that mean something else."""
    missing: list[MissingLibraryError] = []
    known: set[str] = set()
    for candidates in (sources.built_in, sources.third_party):
        offers: list[Offer] = []
        for prefix, source in candidates().items():
            if source.RANK is None:
                continue
            offer = Offer(prefix, source, fresh)
            try:
                if offer.knows(name):
                    offers.append(offer)
                known.update(offer.names())
            except MissingLibraryError as error:
                missing.append(error)
        if offers:
            first, *others = offers
            model = first.model(name, arguments)
            rivals = [other.prefix for other in others if not other.means(name, arguments, model)]
            if not rivals:
                return model
            also = (
                f"{name} is known to {', '.join([first.prefix, *rivals])}: {first.prefix} was taken; write {rivals[0]}:{name} for another"
            )
            return replace(model, remarks=(*model.remarks, also))
    if missing and not known:
        raise missing[0]
    dotted = name.rpartition(".")
    hint = f"; for a factory write {dotted[0]}:{dotted[2]}" if dotted[0] else did_you_mean(name, known)
    absent = f" ({missing[0]})" if missing else ""
    raise ArchitectureError(f"no architecture is named {name!r}{hint}{absent}")
