"""Ray in a process that is somebody else's: what it changes there, put back."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Iterator

#: What ``ray.init`` sets and ``ray.shutdown`` leaves.
_VARIABLES = ("RAY_USAGE_STATS_ENABLED", "PYTHONBREAKPOINT")


@contextlib.contextmanager
def guest() -> Iterator[None]:
    """Put back the handler of SIGTERM and the variables that Ray changes, at the block's end.

    So is the state of ``random``: Ray draws its ports from it, and whoever has seeded it goes on as
    with training in this process.
    """
    before = {name: os.environ.get(name) for name in _VARIABLES}
    handler = signal.getsignal(signal.SIGTERM)
    drawn = random.getstate()
    try:
        yield
    finally:
        random.setstate(drawn)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if threading.current_thread() is threading.main_thread() and handler is not None:
            signal.signal(signal.SIGTERM, handler)
