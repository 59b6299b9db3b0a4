"""Ray in a process that is somebody else's: it changes nothing there, and no signal breaks it."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
from collections.abc import Iterator

from metadist.process.environment import restored
from metadist.process.signals import HANGING, StopRequest, kept

#: What ``ray.init`` sets and ``ray.shutdown`` leaves.
_VARIABLES = ("RAY_USAGE_STATS_ENABLED", "PYTHONBREAKPOINT")


@contextlib.contextmanager
def process_restored() -> Iterator[None]:
    """Put back the handler of SIGTERM and the variables that Ray changes, at the block's end.

    So is the state of ``random``: Ray draws its ports from it, and whoever has seeded it goes on as
    with training in this process.
    """
    handler = signal.getsignal(signal.SIGTERM)
    drawn = random.getstate()
    try:
        with restored(*_VARIABLES):
            yield
    finally:
        random.setstate(drawn)
        if threading.current_thread() is threading.main_thread() and handler is not None:
            signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """A first signal waits until Ray has connected: half a connection ends the process with a
    crash, whatever exit status it would have had. A second one does not wait.

    Raises:
        Terminated: a signal has come.
    """
    with StopRequest() as asked:
        try:
            with kept():
                yield
        except KeyboardInterrupt:
            HANGING.set()
            raise
    asked.check()
