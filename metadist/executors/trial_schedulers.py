"""Tune's schedulers, but a trial that is to stop is told so and ends itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from metadist.space import Asha, MedianStopping, Mode, Population, Space

#: Worse than every score there is; finite, because schedulers and searchers do arithmetic.
WORST: dict[Mode, float] = {"max": -1e30, "min": 1e30}


class _StopsByFile(TrialScheduler):
    """What becomes of a scheduler's decisions to stop: files that the trials look for.

    A trial whose process were ended from outside would leave its workers and their reservations
    behind. The file is there before the trial's report returns. Whoever has come to the last step
    gets none.
    """

    stop_files: Path
    last: int
    stopped: set[str]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Go on, whatever the scheduler says; but leave the file."""
        if str(trial) in self.stopped and isinstance(self, MedianStoppingRule):
            # It takes no more of a trial that it has stopped, but one that is repeated may have
            # gone further.
            return TrialScheduler.CONTINUE
        # Also of a trial that was stopped in an earlier session: the others are judged by it.
        if super().on_trial_result(tune_controller, trial, result) == TrialScheduler.STOP:
            self.stopped.add(str(trial))
            if result["step"] < self.last:
                (self.stop_files / str(trial).rpartition("-")[2]).touch()
        return TrialScheduler.CONTINUE


class _Asha(_StopsByFile, AsyncHyperBandScheduler):
    pass


class _MedianStopping(_StopsByFile, MedianStoppingRule):
    pass


def cooperative(space: Space, stop_files: Path) -> TrialScheduler:
    """The scheduler of a space.

    Args:
        stop_files: directory; a file with a trial's number for a name tells that trial to stop.
    """
    scheduler: _StopsByFile
    match space.scheduler:
        case None | Population():
            # A population is compared between rounds, not while its members run.
            return FIFOScheduler()  # type: ignore[no-untyped-call]
        case Asha(grace, reduction):
            scheduler = _Asha(
                time_attr="step",
                max_t=space.steps,
                grace_period=grace * space.every,
                reduction_factor=reduction,
                stop_last_trials=False,
            )
        case MedianStopping(grace, trials):
            scheduler = _MedianStopping(
                time_attr="step", grace_period=grace * space.every, min_samples_required=trials
            )
        case _:
            raise AssertionError(space.scheduler)
    scheduler.stop_files, scheduler.last, scheduler.stopped = stop_files, space.steps, set()
    return scheduler
