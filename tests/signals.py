"""What a process needs that a test interrupts."""

import signal


def heard() -> None:
    """A ``preexec_fn``: Ctrl-C reaches the process, also where the tests run in the background, as behind nohup, and ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
