"""A run that was asked to end: its workers write a checkpoint after the step they are at and leave.

When the last step is in a checkpoint there is nothing left to lose. The evaluation that follows is
made anew by whoever goes on, so that it is not waited for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from data_pipeline.errors import DataError
from metadist.errors import MetadistError
from metadist.process.signals import StopRequest
from metadist.runs import checkpoints
from metadist.runs.run_dir import RunDir
from metadist.training.run_control import Order


class Leaving(StopRequest):
    """Notes that the run is to end, and answers the workers of this process that ask.

    Args:
        run: directory of the run.
        tell, heeded: see :class:`metadist.process.signals.StopRequest`.
        lost: whether the workers are gone, and will not leave by themselves.
    """

    def __init__(
        self,
        run: Path,
        *,
        tell: Callable[[], None] | None = None,
        heeded: bool = True,
        lost: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(heeded=heeded, tell=tell, pointless=lambda: lost() or self._trained())
        self._run = RunDir(run)

    def _trained(self) -> bool:
        """Whether the last step is in a checkpoint."""
        with contextlib.suppress(OSError, DataError, MetadistError):
            return self._run.recipe().outer.steps in checkpoints.steps(self._run)
        return False

    def order(self) -> Order:
        """What a run in this process asks: see :class:`metadist.training.run_control.Orders`."""
        return "leave" if self.event.is_set() else "go on"
