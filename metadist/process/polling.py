"""Looking at something again and again while a block runs."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self


class Polling(ABC):
    """A context manager that calls :meth:`look` in a thread of its own.

    Attributes:
        interval: seconds between two looks.
    """

    interval: float

    @abstractmethod
    def look(self) -> None:
        """Look once; a look may find nothing new. It must not raise."""

    def last(self) -> None:
        """What is done when the block has ended, in its own thread: one look more."""
        self.look()

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        name = type(self).__name__.lower()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.last()

    def _work(self) -> None:
        while not self._stop.wait(self.interval):
            self.look()
