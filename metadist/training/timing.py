"""Where the time of training goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal


class Clock:
    """Seconds of training. Validation and checkpoints stand apart.

    Attributes:
        waited: for data.
        last_speed: what a run's result says of the speed; zeros before the first step.
    """

    def __init__(self) -> None:
        self.waited = 0.0
        self.last_speed = {"tasks_per_second": 0.0, "data_wait": 0.0}
        self._spent = {"engine": 0.0, "apart": 0.0}
        self.start(0)

    def start(self, step: int) -> None:
        """Training begins when so many steps are done."""
        self._first, self._began = step, time.perf_counter()

    @contextmanager
    def during(self, what: Literal["engine", "apart"]) -> Iterator[None]:
        """The block takes an outer step (``engine``), or is no training (``apart``)."""
        began = time.perf_counter()
        yield
        self._spent[what] += time.perf_counter() - began

    def speed(self, step: int, batch: int) -> dict[str, float]:
        """Tasks per second over all workers, and shares of the time, when so many steps are done.

        Args:
            batch: tasks of a step.
        """
        training = max(time.perf_counter() - self._began - self._spent["apart"], 1e-9)
        tasks_per_second = (step - self._first) * batch / training
        data_wait = self.waited / training
        self.last_speed = {"tasks_per_second": tasks_per_second, "data_wait": data_wait}
        return {
            "perf/tasks_per_second": tasks_per_second,
            "perf/data_wait": data_wait,
            "perf/engine": self._spent["engine"] / training,
        }
