"""Ctrl-C while Ray Train computes."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def own_interrupt() -> Iterator[None]:
    """Let Ctrl-C end the block as it ends everything else, and be ours again after it.

    Ray Train puts in a handler of its own and leaves it there: it ends the group, and then the
    process, with the exit status of success; once its group has ended it swallows Ctrl-C twice.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if main and before is not None:
            signal.signal(signal.SIGINT, before)
