"""Where output goes: printed, or written whole and never over an existing file unasked."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ckptaudit.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ckptaudit.report import Options


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a command shows: formats, each with the file that it is written to or None where it is printed; made by :func:`plan_outputs`."""

    targets: tuple[tuple[str, str | None], ...]
    force: bool
    quiet: bool
    verbose: bool

    def write(self, render: Callable[[str, Options], str]) -> None:
        """Render every format, then write the files, then print: what fails to render leaves nothing behind.

        With ``github``, the page of the job gets the report too, where there is such a page.
        """
        texts = [(file, render(chosen, render_options(file, self.quiet, self.verbose))) for chosen, file in self.targets]
        page = os.environ.get("GITHUB_STEP_SUMMARY")
        if page and any(chosen == "github" for chosen, _ in self.targets):
            append(render("markdown", render_options(page, self.quiet, self.verbose)), page)
        for file, text in sorted(texts, key=lambda pair: pair[0] is None):
            emit(text, file, self.force)


def plan_outputs(
    formats: Sequence[tuple[str, str | None]], output: str | None, *, force: bool = False, quiet: bool = False, verbose: bool = False
) -> Outputs:
    """Where each format goes: to its own file, or else to ``output``, or else to the terminal.

    Raises
    ------
    UsageError
        Two formats would be printed, two would be written to one file, or ``output`` has no format left to hold.
    OutputError
        A file exists and ``force`` is not given.
    """
    from ckptaudit.errors import UsageError

    formats = formats or [("terminal", None)]
    loose = [chosen for chosen, file in formats if file is None]
    if len(loose) > 1:
        raise UsageError(f"--format {loose[0]} and --format {loose[1]} go to the same place; give one a file: --format {loose[1]}=FILE")
    if output is not None and not loose:
        raise UsageError("-o goes with a --format without a file")
    targets = tuple((chosen, output if file is None else file) for chosen, file in formats)
    written: set[Path] = set()
    for _, file in targets:
        if file is not None:
            if Path(file).resolve() in written:
                raise UsageError(f"{file}: two formats would be written to this file")
            written.add(Path(file).resolve())
            check_output(file, force)
    return Outputs(targets, force, quiet, verbose)


def render_options(output: str | None, quiet: bool, verbose: bool) -> Options:
    """How to render for where the output goes: colours and the width of the terminal only at a terminal."""
    from ckptaudit.report import Options

    at_terminal = output is None and sys.stdout.isatty()
    color = at_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    width = 80
    if at_terminal or "COLUMNS" in os.environ:
        import shutil

        width = shutil.get_terminal_size((80, 24)).columns
    return Options(verbose=verbose, quiet=quiet, color=color, width=max(40, min(width, 120)))


def check_output(output: str | None, force: bool) -> None:
    """Say that an output exists before minutes of work, not after."""
    from ckptaudit.errors import OutputError
    from ckptaudit.files import is_stream

    if output is not None and not force and os.path.lexists(output) and not is_stream(output):
        raise OutputError(f"{output}: exists already; --force overwrites it")


def append(text: str, file: str) -> None:
    """Add ``text``, whole or not at all, to a file that others write to before and after.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    from ckptaudit.errors import OutputError

    try:
        with Path(file).open("ab", buffering=0) as opened:
            before = opened.tell()
            left = memoryview(text.encode("utf-8", "backslashreplace"))
            try:
                while left:
                    left = left[opened.write(left) :]
            except BaseException:
                if opened.seekable():
                    opened.truncate(before)
                raise
    except OSError as error:
        raise OutputError(f"{file}: could not be written ({error.strerror or error})") from None


def emit(text: str, output: str | None = None, force: bool = False) -> None:
    """Print ``text``, or write it to the file ``output``."""
    if output is not None:
        from ckptaudit.files import write_file

        write_file(output, text, force=force)
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would be written once more at the end, and fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # `| head`: what was wanted has been read. The exit code still tells the verdict.
            from ckptaudit.errors import OutputError

            raise OutputError(f"standard output could not be written ({error.strerror or error})") from None
