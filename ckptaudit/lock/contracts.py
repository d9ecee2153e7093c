"""``[tool.ckptaudit]`` of ``pyproject.toml``: which checkpoints the project promises to restore, and into what."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from ckptaudit.arch.suggest import did_you_mean
from ckptaudit.errors import ContractError
from ckptaudit.lazily import compiled_when_used
from ckptaudit.lock.tables import TableReader
from ckptaudit.records import dataclass
from ckptaudit.rules import all_rules
from ckptaudit.rules.allowance import Allowance
from ckptaudit.rules.comparison import Intent
from ckptaudit.verdict import Bar

CONFIGURATION = "pyproject.toml"
LOCK = "ckptaudit.lock"

_INTENTS: tuple[Intent, ...] = get_args(Intent)
_BARS: tuple[Bar, ...] = get_args(Bar)
_URL = compiled_when_used(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_HEADER = compiled_when_used(r"^\s*\[\[\s*tool\s*\.\s*ckptaudit\s*\.\s*contracts\s*\]\]")
_TABLE = compiled_when_used(r"^\s*\[\s*tool\s*\.\s*ckptaudit\s*\]")


@dataclass(frozen=True, slots=True)
class Contract:
    """One promise: this checkpoint restores into this model.

    Attributes
    ----------
    name:
        What reports call it; unique.
    checkpoint:
        A path, from the folder of the configuration, or a URL. A URL is never fetched.
    arch, arguments:
        What builds the model, as ``--arch`` and ``--arch-arg`` take it.
    intent:
        What the checkpoint is wanted for.
    branch:
        Which part of the file is meant; None for the one that fits best.
    allow:
        Findings that are allowed.
    line:
        Where it stands in the configuration, from 1.
    """

    name: str
    checkpoint: str
    arch: str
    arguments: Mapping[str, Any]
    intent: Intent
    branch: str | None
    allow: tuple[Allowance, ...]
    line: int

    @property
    def is_url(self) -> bool:
        """Whether the checkpoint is named by a URL."""
        return bool(_URL.match(self.checkpoint))


@dataclass(frozen=True, slots=True)
class Project:
    """The configuration.

    Attributes
    ----------
    configuration:
        Path of the ``pyproject.toml``.
    contracts:
        At least one, in its order.
    fail_on:
        The verdict from which on a contract is broken; None: whatever does not serve its intent.
    paths:
        Folders that models are imported from, absolute, the first first.
    """

    configuration: Path
    contracts: tuple[Contract, ...]
    fail_on: Bar | None
    paths: tuple[Path, ...]

    @property
    def root(self) -> Path:
        """The folder of the configuration."""
        return self.configuration.parent

    @property
    def lock(self) -> Path:
        """Where the lock is."""
        return self.root / LOCK


def find_configuration(start: Path) -> Path:
    """The nearest ``pyproject.toml`` with a table ``[tool.ckptaudit]``, from ``start`` upwards.

    Raises
    ------
    ContractError
        There is none.
    """
    folder = start.absolute()
    for place in (folder, *folder.parents):
        file = place / CONFIGURATION
        if file.is_file() and "ckptaudit" in _tools(file):
            return file
    raise ContractError(f"no {CONFIGURATION} with a table [tool.ckptaudit] in {folder} or above it")


def load_project(configuration: Path) -> Project:
    """Read the contracts of a ``pyproject.toml``.

    Raises
    ------
    ContractError
        It cannot be read, or a key is unknown, missing or of the wrong kind; one line names each.
    """
    configuration = configuration.absolute()
    tools = _tools(configuration)
    if "ckptaudit" not in tools:
        raise ContractError(f"{configuration.name} has no table [tool.ckptaudit]")
    reader = TableReader()
    table = reader.table(tools["ckptaudit"], "tool.ckptaudit", ("contracts", "fail-on", "paths"))
    items = reader.get(table, "tool.ckptaudit", "contracts", list, [])
    lines = _lines(configuration)
    contracts = [
        contract for index, item in enumerate(items) if (contract := _contract(reader, item, index, lines[min(index, len(lines) - 1)]))
    ]
    if not items and not reader.wrong:
        reader.wrong.append("tool.ckptaudit.contracts: there is none; write [[tool.ckptaudit.contracts]] with name, checkpoint and arch")
    for name in {c.name for c in contracts if sum(other.name == c.name for other in contracts) > 1}:
        reader.wrong.append(f"tool.ckptaudit.contracts: {name!r} is the name of several")
    fail_on = reader.choice(table, "tool.ckptaudit", "fail-on", _BARS, None)
    root = configuration.parent
    usual = [place for place in ("src", ".") if place == "." or ((root / place).is_dir() and not (root / place / "__init__.py").exists())]
    paths = list(reader.strings(table, "tool.ckptaudit", "paths", usual))
    for place in paths:
        if Path(place).is_absolute() or not (root / place).is_dir():
            reader.wrong.append(f"tool.ckptaudit.paths: {place!r} is no folder below {root.name}")
    if reader.wrong:
        raise ContractError(f"{configuration.name}: {'; '.join(reader.wrong)}")
    return Project(configuration, tuple(contracts), fail_on, tuple((root / place).resolve() for place in paths))


def _tools(file: Path) -> Mapping[str, Any]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ContractError(f"{file} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ContractError(f"{file} is no TOML: {' '.join(str(error).split())}") from error
    tools = document.get("tool", {})
    return tools if isinstance(tools, dict) else {}


def _lines(file: Path) -> list[int]:
    """The line of each contract; of the table where contracts are written in another way than one header each."""
    lines = file.read_text(encoding="utf-8").splitlines()
    found = [number for number, line in enumerate(lines, 1) if _HEADER.match(line)]
    return found or [next((number for number, line in enumerate(lines, 1) if _TABLE.match(line)), 1)]


def _contract(reader: TableReader, item: Any, index: int, line: int) -> Contract | None:
    where = f"tool.ckptaudit.contracts[{index}]"
    table = reader.table(item, where, ("name", "checkpoint", "arch", "arguments", "intent", "branch", "allow"))
    before = len(reader.wrong)
    name, checkpoint, arch = (reader.words(table, where, key) for key in ("name", "checkpoint", "arch"))
    arguments = reader.get(table, where, "arguments", dict, {})
    for key in (key for key in arguments if not key.isidentifier()):
        reader.wrong.append(f"{where}.arguments: {key!r} is no name of an argument")
    allow = [
        _allowance(reader, entry, f"{where}.allow[{position}]")
        for position, entry in enumerate(reader.get(table, where, "allow", list, []))
    ]
    intent = reader.choice(table, where, "intent", _INTENTS, "eval")
    branch = reader.words(table, where, "branch", None)
    if len(reader.wrong) > before or not table:
        return None
    return Contract(name, checkpoint, arch, arguments, intent, branch, tuple(a for a in allow if a), line)


def _allowance(reader: TableReader, item: Any, where: str) -> Allowance | None:
    table = reader.table(item, where, ("rule", "reason", "names"))
    if not table:
        return None
    rule = reader.get(table, where, "rule", str)
    known = [known.id for known, _ in all_rules()]
    if rule and rule not in known:
        reader.wrong.append(f"{where}.rule: there is no rule {rule!r}{did_you_mean(rule, known)}")
    return Allowance(rule, reader.words(table, where, "reason"), tuple(reader.strings(table, where, "names", [])))
