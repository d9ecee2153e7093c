"""``ckptaudit lock``: write down what the released checkpoints hold."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ckptaudit.cli._exit_codes import FIT, NOT_FIT
from ckptaudit.cli._output import emit
from ckptaudit.errors import UsageError
from ckptaudit.text import printable


@click.command(short_help="Write down the checkpoints of the project's contracts.")
@click.option("--config", type=click.Path(dir_okay=False), help="The pyproject.toml; by default the nearest one with [tool.ckptaudit].")
@click.option("--from", "copies", multiple=True, metavar="NAME=FILE", help="A local copy of a contract's checkpoint; repeatable.")
@click.option("--no-digest", is_flag=True, help="Do not hash the files.")
@click.option("--deep", is_flag=True, help="Scan every value for NaN, not a sample of each tensor.")
@click.option("--force", is_flag=True, help="Overwrite a ckptaudit.lock that cannot be read.")
def lock(config: str | None, copies: tuple[str, ...], no_digest: bool, deep: bool, force: bool) -> None:
    """Write ckptaudit.lock: names, shapes and facts of each contract's checkpoint, and the settings of the model as it is now.

    A checkpoint that is not at hand keeps what the lock holds of it. Nothing is fetched.
    """
    from ckptaudit.errors import LockError
    from ckptaudit.files import write_file
    from ckptaudit.lock.building import build_contract, project_first
    from ckptaudit.lock.contracts import find_configuration, load_project
    from ckptaudit.lock.document import load_lock, lock_text
    from ckptaudit.lock.locking import lock_contract

    project = load_project(Path(config) if config else find_configuration(Path.cwd()))
    files = _files(copies, [contract.name for contract in project.contracts])
    try:
        earlier = load_lock(project.lock) if project.lock.exists() else {}
    except LockError as error:
        if not force:
            raise LockError(f"{error}; --force writes a new one") from None
        earlier = {}
    lockings = []
    with project_first(project):
        for contract in project.contracts:
            model = build_contract(project, contract)
            lockings.append(
                lock_contract(
                    project,
                    contract,
                    model,
                    file=files.get(contract.name),
                    earlier=earlier.get(contract.name),
                    digest=not no_digest,
                    deep=deep,
                )
            )
    write_file(project.lock, lock_text([locking.entry for locking in lockings]), force=True)
    for locking in lockings:
        verdict = locking.audit.verdict
        kept = " (kept from the lock: the file is not at hand)" if locking.kept else ""
        line = f"{'✓' if verdict.passes(project.fail_on) else '✗'} {locking.entry.name}  {verdict.status}{kept}: {verdict.summary}"
        emit(printable(line) + "\n")
    sys.exit(FIT if all(locking.audit.verdict.passes(project.fail_on) for locking in lockings) else NOT_FIT)


def _files(copies: tuple[str, ...], known: list[str]) -> dict[str, Path]:
    from ckptaudit.arch.suggest import did_you_mean

    files = {}
    for copy in copies:
        name, equals, file = copy.partition("=")
        if not equals or not file:
            raise UsageError(f"--from {copy}: write --from NAME=FILE")
        if name not in known:
            raise UsageError(f"--from {copy}: there is no contract {name!r}{did_you_mean(name, known)}")
        files[name] = Path(file)
    return files
