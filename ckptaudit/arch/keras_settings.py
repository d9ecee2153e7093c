"""What the user has set up for Keras, without importing it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def user_settings() -> Mapping[str, Any]:
    """What ``keras.json`` says; nothing where there is none that can be read."""
    home = os.environ.get("KERAS_HOME") or str(Path("~/.keras").expanduser())
    try:
        told = json.loads(Path(home, "keras.json").read_bytes())
    except (OSError, ValueError, RuntimeError):
        return {}
    return told if isinstance(told, dict) else {}
