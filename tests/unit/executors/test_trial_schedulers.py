"""A scheduler's decision to stop becomes an order; the trial itself is never stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ray.tune.schedulers import TrialScheduler

from metadist.executors.ray_tune import SCORE
from metadist.executors.trial_schedulers import cooperative
from metadist.space import Asha, LogUniform, MedianStopping, Scheduler, Space

SPACE = Space(
    about="",
    base="",
    search={"inner.lr": LogUniform(0.1, 1.0)},
    metric="val/accuracy",
    mode="max",
    steps=90,
    every=10,
)


@dataclass(frozen=True)
class Trial:
    """As much of Tune's as schedulers look at."""

    number: int

    @property
    def trial_id(self) -> str:
        return str(self.number)

    def __str__(self) -> str:
        return f"trial-{self.number:04d}"


class Controller:
    """Tune, with nobody waiting."""

    def get_live_trials(self) -> list[Trial]:
        return []


def _told(directory: Path, scheduler: Scheduler, scores: dict[int, list[float]]) -> TrialScheduler:
    """The scheduler, after it has been told all scores."""
    made = cooperative(replace(SPACE, scheduler=scheduler), directory)
    made.set_search_properties(SCORE, "max")
    trials = {number: Trial(number) for number in scores}
    for trial in trials.values():
        made.on_trial_add(None, trial)  # type: ignore[arg-type]
    for number, values in scores.items():
        for i, value in enumerate(values, 1):
            result = {SCORE: value, "step": 10 * i, "time_total_s": i}
            said = made.on_trial_result(Controller(), trials[number], result)  # type: ignore[arg-type]
            assert said == TrialScheduler.CONTINUE
    return made


def _orders(directory: Path, scheduler: Scheduler, scores: dict[int, list[float]]) -> set[str]:
    _told(directory, scheduler, scores)
    return {path.name for path in directory.iterdir()}


def test_successive_halving_orders_the_worse_to_stop(tmp_path: Path) -> None:
    good = {n: [0.8 + n / 100] * 9 for n in (1, 2, 3)}
    assert _orders(tmp_path, Asha(), {**good, 4: [0.2] * 9}) == {"0004"}


def test_nobody_is_stopped_at_the_last_step(tmp_path: Path) -> None:
    # Rungs at 10, 30 and 90: the last is the budget, which has been spent by then.
    scores = {1: [0.9] * 9, 2: [0.91] * 3 + [0.1] * 6}
    assert _orders(tmp_path, Asha(1, 9), scores) == set()


def test_median_stopping_orders_the_worse_to_stop(tmp_path: Path) -> None:
    scores = {n: [0.8] * 9 for n in (1, 2, 3)} | {4: [0.2] * 9}
    assert _orders(tmp_path, MedianStopping(1, 3), scores) == {"0004"}


@pytest.mark.parametrize("mode", ["max", "min"])
def test_without_a_scheduler_nobody_is_stopped(tmp_path: Path, mode: str) -> None:
    made = cooperative(replace(SPACE, mode=mode), tmp_path)  # type: ignore[arg-type]
    assert type(made).__name__ == "FIFOScheduler"


def _rungs(made: TrialScheduler) -> list[tuple[float, dict[str, float]]]:
    (bracket,) = made._brackets  # type: ignore[attr-defined]
    return [(rung, dict(scores)) for rung, scores in bracket._rungs]


def _averages(made: TrialScheduler) -> dict[str, list[float]]:
    results = made._results  # type: ignore[attr-defined]
    return {str(trial): [row[SCORE] for row in rows] for trial, rows in results.items()}


@pytest.mark.parametrize(
    ("scheduler", "knows"), [(Asha(), _rungs), (MedianStopping(1, 3), _averages)]
)
def test_after_a_resume_a_scheduler_knows_what_it_knew(
    tmp_path: Path, scheduler: Scheduler, knows: Callable[[TrialScheduler], object]
) -> None:
    # A trial that has its order reports no more.
    scores = {1: [0.8] * 9, 2: [0.81] * 9, 3: [0.82] * 9, 4: [0.2]}
    before = knows(_told(tmp_path, scheduler, scores))
    assert {path.name for path in tmp_path.iterdir()} == {"0004"}
    assert "4" in str(before)
    assert knows(_told(tmp_path, scheduler, scores)) == before
    assert {path.name for path in tmp_path.iterdir()} == {"0004"}
