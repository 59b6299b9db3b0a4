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


def cooperative(space: Space, orders: Path) -> TrialScheduler:
    """The scheduler of a space.

    Args:
        orders: directory; an order to stop is a file with the trial's number for a name.
    """
    match space.scheduler:
        case None | Population():
            # A population is compared between rounds, not while its members run.
            return FIFOScheduler()  # type: ignore[no-untyped-call]
        case Asha(grace, reduction):
            inner: TrialScheduler = AsyncHyperBandScheduler(
                time_attr="step",
                max_t=space.steps,
                grace_period=grace * space.every,
                reduction_factor=reduction,
                stop_last_trials=False,
            )
        case MedianStopping(grace, trials):
            inner = MedianStoppingRule(
                time_attr="step", grace_period=grace * space.every, min_samples_required=trials
            )
        case _:
            raise AssertionError(space.scheduler)
    return Cooperative(inner, orders, space.steps)


class Cooperative(TrialScheduler):
    """Another scheduler, whose decisions to stop become orders.

    A trial whose process were ended from outside would leave its workers and their reservations
    behind. The order is there before the trial's report returns. Whoever has come to the last step
    gets none.
    """

    def __init__(self, inner: TrialScheduler, orders: Path, last: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inner = inner
        self._orders = orders
        self._last = last
        self._stopped: set[str] = set()

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Tell the scheduler what is searched."""
        super().set_search_properties(metric, mode, **spec)
        return self._inner.set_search_properties(metric, mode, **spec)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Go on, whatever the scheduler says; but leave the order."""
        order = self._orders / str(trial).rpartition("-")[2]
        if str(trial) in self._stopped and isinstance(self._inner, MedianStoppingRule):
            # It takes no more of a trial that it has stopped, but one that is repeated may have
            # gone further.
            return TrialScheduler.CONTINUE
        # Also of a trial that had its order in an earlier session: the others are judged by it.
        decision = self._inner.on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.STOP:
            self._stopped.add(str(trial))
            if result["step"] < self._last and not order.exists():
                order.touch()
        return TrialScheduler.CONTINUE

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Passed on."""
        self._inner.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Passed on."""
        self._inner.on_trial_error(tune_controller, trial)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Passed on."""
        self._inner.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Passed on."""
        self._inner.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Passed on."""
        return self._inner.choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        """Passed on."""
        return self._inner.debug_string()
