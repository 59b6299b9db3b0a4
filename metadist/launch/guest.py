"""Ray in a process that is somebody else's: what it changes there, put back."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

#: What ``ray.init`` sets and ``ray.shutdown`` leaves.
_VARIABLES = ("RAY_USAGE_STATS_ENABLED", "PYTHONBREAKPOINT")


@contextlib.contextmanager
def guest() -> Iterator[None]:
    """Put back the handler of SIGTERM and the variables that Ray changes, at the block's end."""
    before = {name: os.environ.get(name) for name in _VARIABLES}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if threading.current_thread() is threading.main_thread() and handler is not None:
            signal.signal(signal.SIGTERM, handler)
