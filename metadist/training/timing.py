"""Where the time of training goes."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass
class Clock:
    """Seconds of training. Validation and checkpoints stand apart."""

    engine: float = 0.0
    waited: float = 0.0
    apart: float = 0.0
    began: float = 0.0

    @property
    def training(self) -> float:
        """Seconds since the start without validation and checkpoints."""
        return max(time.perf_counter() - self.began - self.apart, 1e-9)

    def speed(self, tasks: int) -> dict[str, float]:
        """Tasks per second over all workers, and shares of the time."""
        return {
            "perf/tasks_per_second": tasks / self.training,
            "perf/data_wait": self.waited / self.training,
            "perf/engine": self.engine / self.training,
        }
