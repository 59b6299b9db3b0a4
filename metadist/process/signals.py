"""Being asked to end: Ctrl-C, a scheduler's SIGTERM, the SIGHUP of a terminal that closes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from metadist.errors import Terminated

#: The signals by which a process is asked to end. Whoever ignores one, as ``nohup`` does, means it.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds within which another signal is the same request: ``timeout`` signals the process and then
#: its group, a shell passes on what the terminal has sent already.
SAME_SECONDS = 1.0
#: Set where a thread hangs that would take the exit status with it: end by ``os._exit``.
HANGING = threading.Event()
#: Seconds between two looks whether there is still something to wait for.
_LOOK_SECONDS = 0.5


def _main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def kept() -> Iterator[None]:
    """Whoever puts in handlers while the block runs, they are ours again after it."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    except SystemExit:  # one of theirs was called
        raise Terminated from None
    finally:
        for number, handler in before.items():
            if handler is not None and _main_thread():
                signal.signal(number, handler)


class StopRequest:
    """While the block runs, a signal of :data:`STOP_SIGNALS` is a request to end.

    In another thread than the main one nothing is noted.

    Args:
        handled: somebody looks at :attr:`event`, or is told by ``tell``, and ends the block. If
            not, and when a signal comes a second time, it raises :class:`Terminated`.
        tell: called when the first one comes, amid whatever the main thread does.
        pointless: asked again and again from then on; when it is true nobody will handle the
            request any more, and it raises :class:`Terminated`.
    """

    #: When a signal was last taken; of the process, for blocks lie within each other.
    _taken = -SAME_SECONDS

    def __init__(
        self,
        *,
        handled: bool = True,
        tell: Callable[[], None] | None = None,
        pointless: Callable[[], bool] | None = None,
    ) -> None:
        self._handled = handled
        self._tell = tell
        self._pointless = pointless
        self._number = int(signal.SIGTERM)
        self._before: dict[signal.Signals, Any] = {}
        self._over = threading.Event()
        self._looking: threading.Thread | None = None
        #: Set when the first signal has come.
        self.event = threading.Event()

    def error(self) -> Terminated:
        """What the request ends the block with."""
        return Terminated(self._number)

    def check(self) -> None:
        """Raise :class:`Terminated` if a signal has come."""
        if self.event.is_set():
            raise self.error()

    def _end(self, number: int, frame: FrameType | None) -> None:
        # Nothing of Ray is called here: the main thread may be inside it.
        now = time.monotonic()
        if now - StopRequest._taken < SAME_SECONDS:
            return
        StopRequest._taken = now
        first = not self.event.is_set()
        if first:
            self._number = number
            self.event.set()
        if not (first and self._handled):
            raise self.error()
        if self._tell is not None:
            self._tell()
        if self._pointless is not None:
            self._looking = threading.Thread(target=self._look, name="asked", daemon=True)
            self._looking.start()

    def _look(self) -> None:
        """End the block from outside when there is nothing more to wait for."""
        assert self._pointless is not None
        while not self._over.wait(_LOOK_SECONDS):
            if self._pointless():
                StopRequest._taken = -SAME_SECONDS
                signal.pthread_kill(threading.main_thread().ident or 0, self._number)
                return

    def start(self) -> Self:
        """Begin; for a block that ends elsewhere than it begins."""
        if _main_thread():
            for number in STOP_SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._end)
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End; whoever was there before is there again."""
        self._over.set()
        try:
            if self._looking is not None:
                self._looking.join(1.0)  # what it sends must not meet whoever was there before us
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)
