"""What somebody outside wants of a run while it trains, and how all workers get to know it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal, Protocol

from metadist.compute.collectives import Group

#: ``save``: write a checkpoint and go on. ``yield``: write one and leave, to be continued by
#: another group of workers. ``stop``: the run ends here, as one that has finished early.
Command = Literal["go", "save", "yield", "stop"]
#: Seconds between two questions.
PACE = 1.0
#: Steps between two questions at most.
_MOST_STEPS = 1000


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Attributes:
        step: outer steps done, of ``steps``.
        score: of the validation after this step, NaN where an episode failed and no mean can be
            trusted; None: there was none.
        best: the best score so far; NaN if there is none.
    """

    step: int
    steps: int
    score: float | None = None
    best: float = math.nan


class RunControl(Protocol):
    """Whoever decides what becomes of a run: a signal, nodes that come and go, a search.

    It travels to all workers; rank 0 asks it.
    """

    @property
    def judges(self) -> bool:
        """Whether it decides by validations.

        It is then asked after each one, the last included, when the state that was validated is in
        a checkpoint. If not, it is asked about once a second, and not after the last step.
        """

    def command(self, progress: Progress) -> Command:
        """What is wanted now. A control that does not judge answers within seconds."""


class GroupControl:
    """Makes all workers do what rank 0 is told, after the same step.

    To ask after each step would cost a broadcast each time. With each answer rank 0 says after
    which step it asks again.

    Args:
        control: the same on all workers.
        group: all workers.
    """

    def __init__(self, control: RunControl, group: Group) -> None:
        self._control = control
        self._group = group
        self._due = 0
        self._asked: tuple[int, float] | None = None

    @property
    def judges(self) -> bool:
        """Whether validations decide; see :class:`RunControl`."""
        return self._control.judges

    def command(self, progress: Progress) -> Command:
        """What is to be done after a step; every worker calls it after every step."""
        if not self._is_due(progress):
            return "go"
        answer = None
        if self._group.rank == 0:
            due = progress.step + self._steps_in_a_pace(progress.step)
            answer = {"command": self._control.command(progress), "due": due}
        told = self._group.broadcast(answer)
        self._due = int(told["due"])
        command: Command = told["command"]
        return command

    def _is_due(self, progress: Progress) -> bool:
        if self.judges:
            return progress.score is not None
        return self._due <= progress.step < progress.steps

    def _steps_in_a_pace(self, step: int) -> int:
        now = time.monotonic()
        before, self._asked = self._asked, (step, now)
        if before is None:
            return 1
        seconds = max(now - before[1], 1e-6) / max(step - before[0], 1)
        return min(max(int(PACE / seconds), 1), _MOST_STEPS)
