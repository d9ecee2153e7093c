"""No downloads: while foreign code builds a model, this process opens no network connection."""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class DownloadRefusedError(ConnectionRefusedError):
    """Foreign code wanted to reach the network. An ``OSError``: code that can go on without the network does."""


class Refusals:
    """What was refused so far, outermost target first."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        #: Threads that ran before (a logger, a server of the calling program) are none of our business.
        self.exempt_threads = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}


#: The refusals in force; None while nothing is being built.
_in_force: Refusals | None = None
_hook_installed = False


@contextmanager
def network_refused() -> Iterator[Refusals]:
    """Refuse connections of this thread, and of threads started meanwhile, until the block is left."""
    global _hook_installed, _in_force  # noqa: PLW0603 (an audit hook can never be removed: it is installed once and switched)
    if not _hook_installed:
        sys.addaudithook(_on_audit_event)
        _hook_installed = True
    outer, _in_force = _in_force, Refusals()
    try:
        yield _in_force
    finally:
        _in_force = outer


def _on_audit_event(event: str, args: tuple[Any, ...]) -> None:
    if _in_force is None or threading.get_ident() in _in_force.exempt_threads:
        return
    target = _target(event, args)
    if target is not None:
        _in_force.targets.append(target)
        raise DownloadRefusedError(f"no network while a model is built: {target}")


def _target(event: str, args: tuple[Any, ...]) -> str | None:
    """Tell what the event would reach; None for an event that reaches nothing."""
    if event == "urllib.Request":
        url = str(args[0])
        return None if url.startswith(("file:", "data:")) else url
    if event == "socket.getaddrinfo":
        host, port = args[0], args[1]
        # Without a port only a name is looked up ("what is this machine called?"): nobody connects to that.
        return f"{_text(host)}:{_text(port)}" if port else None
    if event in ("socket.connect", "socket.sendto"):
        connection, address = args[0], args[1]
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        return f"{_text(address[0])}:{address[1]}" if isinstance(address, tuple) else _text(address)
    return None


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
