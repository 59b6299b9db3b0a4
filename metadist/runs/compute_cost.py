"""What the training of a run has cost.

Two measures that say different things: the number of tasks is a fact of the recipe and the same on
every machine; seconds are what one machine needed, under the load that it had. Validation,
checkpoints, evaluation and the start of workers are in neither.
"""

from __future__ import annotations

from dataclasses import dataclass

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


def training_cost(run: RunDir, recipe: Recipe, *, learns: bool = True) -> Cost:
    """The cost of a run that has finished.

    The log holds, every few steps, the tasks per second since the start of the attempt; an
    attempt's seconds are the tasks up to its last such point over that speed. An attempt that was
    killed has worked for up to ten steps more.

    Args:
        learns: whether the learner meta-learns; one that does not takes no outer steps.

    Raises:
        RunError, DataError: the record of an attempt is damaged.
    """
    if not learns:
        return Cost(0, 0.0, 0.0)
    tasks = recipe.outer.steps * recipe.outer.batch
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
