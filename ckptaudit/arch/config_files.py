"""Configs on disk that say what is to be built: a JSON file, or the folder that holds ``config.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ckptaudit.errors import ArchitectureError

_MAX_BYTES = 16 << 20


def is_config(name: str) -> bool:
    """Whether a name is a path rather than a class."""
    return "/" in name or name.endswith(".json") or Path(name).is_dir()


def config_file(name: str) -> Path:
    """The file that a path leads to."""
    path = Path(name)
    return path / "config.json" if path.is_dir() else path


def read_config(path: Path, label: str) -> dict[str, Any]:
    """The JSON object in a file.

    Raises
    ------
    ArchitectureError
        It cannot be read, is too large for a config, or holds something else.
    """
    try:
        if not path.is_file():
            raise ArchitectureError(f"{label}: there is no such file")
        if path.stat().st_size > _MAX_BYTES:
            raise ArchitectureError(f"{label}: {path.stat().st_size:,} bytes are no config")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ArchitectureError(f"{label}: {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ArchitectureError(f"{label}: {path} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ArchitectureError(f"{label}: {path} holds no JSON object")
    return content
