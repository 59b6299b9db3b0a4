"""Asked to end by somebody else: a scheduler that wants the machine back, a job that is stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from metadist.engine.orders import Order
from metadist.errors import Terminated


class Sigterm:
    """While the block runs, SIGTERM is noted, for the workers to write a checkpoint and leave.

    Ray has a handler of its own, which ends the process at once: enter this after connecting. In
    another thread than the main one nothing is noted.

    Args:
        heeded: somebody looks at :attr:`asked` about once a second, or is told by ``tell``. If not,
            and when it comes a second time, it ends the block as Ctrl-C does.
        tell: called when it comes, amid whatever the main thread does.
    """

    def __init__(self, *, heeded: bool = True, tell: Callable[[], None] | None = None) -> None:
        self._heeded = heeded
        self._tell = tell
        self._before: Any = None
        self.asked = threading.Event()

    def _end(self, number: int, frame: FrameType | None) -> None:
        # Nothing of Ray is called here: the main thread may be inside it.
        if not self._heeded or self.asked.is_set():
            raise Terminated
        self.asked.set()
        if self._tell is not None:
            self._tell()

    def order(self) -> Order:
        """What a run in this process asks: see :class:`metadist.engine.orders.Orders`."""
        return "leave" if self.asked.is_set() else "go on"

    def __enter__(self) -> Sigterm:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._end)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
