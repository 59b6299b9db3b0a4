"""A run that was asked to end: its workers write a checkpoint after the step they are at and yield.

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
from metadist.training.run_control import Command, Progress


class SignalControl(StopRequest):
    """A signal has the run yield. Workers of this process ask it; others are told by ``tell``.

    Args:
        run: directory of the run.
        tell, handled: see :class:`metadist.process.signals.StopRequest`.
        lost: whether the workers are gone, and will not yield by themselves.
    """

    judges = False

    def __init__(
        self,
        run: Path,
        *,
        tell: Callable[[], None] | None = None,
        handled: bool = True,
        lost: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(handled=handled, tell=tell, pointless=lambda: lost() or self._trained())
        self._run = RunDir(run)

    def _trained(self) -> bool:
        """Whether the last step is in a checkpoint."""
        with contextlib.suppress(OSError, DataError, MetadistError):
            return self._run.recipe().outer.steps in checkpoints.steps(self._run)
        return False

    def command(self, progress: Progress) -> Command:
        return "yield" if self.event.is_set() else "go"
