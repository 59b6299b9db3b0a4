"""What the training of a run has cost.

Two measures that say different things: the number of tasks is a fact of the recipe and the same on
every machine; seconds are what one machine needed, under the load that it had. Validation,
checkpoints, evaluation and the start of workers are in neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metadist.recipe.schema import Recipe
from metadist.runs.log import by_attempt
from metadist.runs.run_dir import RunDir


@dataclass(frozen=True)
class Cost:
    """The cost of a training.

    Attributes:
        tasks: that meta-gradients were made of: outer steps times tasks per step.
        seconds: of training by the clock, over all attempts, steps that had to be done again
            included; None if the log does not say.
        worker_seconds: the same, times the workers of each attempt.
    """

    tasks: int
    seconds: float | None
    worker_seconds: float | None


def meta_learns(info: Mapping[str, Any]) -> bool:
    """Whether the learner that a run.json names takes outer steps."""
    learner = info.get("learner")
    return not isinstance(learner, Mapping) or learner.get("estimator") != "none"


def trained_tasks(info: Mapping[str, Any], recipe: Recipe) -> int:
    """Tasks that a finished run was meta-trained on."""
    return recipe.outer.steps * recipe.outer.batch if meta_learns(info) else 0


def training_cost(run: RunDir, recipe: Recipe) -> Cost:
    """The cost of a run that has finished.

    The log holds, every few steps, the tasks per second since the start of the attempt; an
    attempt's seconds are the tasks up to its last such point over that speed. An attempt that was
    killed has worked for up to ten steps more.

    Raises:
        RunError, DataError: run.json or the record of an attempt is damaged.
    """
    tasks = trained_tasks(run.info(), recipe)
    if not tasks:
        return Cost(0, 0.0, 0.0)
    seconds = worker_seconds = 0.0
    told = False
    for number, points in by_attempt(run).items():
        speeds = [p for p in points if p.metric == "perf/tasks_per_second" and p.value > 0]
        facts = run.attempt_facts(number)
        first, workers = facts.get("from_step"), facts.get("world_size")
        if not speeds or not isinstance(first, int) or not isinstance(workers, int):
            continue
        last = max(speeds, key=lambda point: point.step)
        took = max(last.step - first, 0) * recipe.outer.batch / last.value
        seconds, worker_seconds, told = seconds + took, worker_seconds + workers * took, True
    return Cost(tasks, seconds, worker_seconds) if told else Cost(tasks, None, None)
