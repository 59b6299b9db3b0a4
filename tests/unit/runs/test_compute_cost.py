"""What a training has cost, from its log: attempts that died and steps done twice included."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_runs import image_recipe, make_run

from metadist.runs.log import LogWriter
from metadist.runs.readers.compute_cost import Cost, training_cost
from metadist.runs.run_dir import RunDir

#: Of the recipe: 300 steps of 32 tasks.
TASKS = 300 * 32


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return make_run(tmp_path, image_recipe())


def attempt(run: RunDir, first: int, last: int, speed: float, workers: int, at: int = 0) -> None:
    """An attempt that does steps ``first`` + 1 to ``last``, its last speed at step ``at``."""
    writer = LogWriter(claimed := run.claim({"world_size": workers}))
    claimed.record(from_step=first)
    for step in range(first + 1, last + 1):
        points = {"train/loss": 1.0}
        if step % 10 == 0 and step <= (at or last):
            points["perf/tasks_per_second"] = speed * (2 if step < (at or last) else 1)
        writer.add(step, points)
    writer.flush()


def test_one_attempt(run):
    attempt(run, 0, 300, speed=64.0, workers=2)
    assert training_cost(run, run.recipe()) == Cost(TASKS, TASKS / 64, 2 * TASKS / 64)


def test_steps_that_were_done_twice_cost_twice(run):
    attempt(run, 0, 150, speed=64.0, workers=2, at=150)
    attempt(run, 100, 300, speed=32.0, workers=4)
    seconds = (150 * 32 / 64, 200 * 32 / 32)
    expected = Cost(TASKS, sum(seconds), 2 * seconds[0] + 4 * seconds[1])
    assert training_cost(run, run.recipe()) == expected


def test_what_the_log_does_not_say_is_none(run):
    assert training_cost(run, run.recipe()) == Cost(TASKS, None, None)
    run.claim({"world_size": 1})
    assert training_cost(run, run.recipe()) == Cost(TASKS, None, None)


def test_a_learner_that_does_not_learn_costs_nothing(run):
    run.update(learner={"estimator": "none"})
    assert training_cost(run, run.recipe()) == Cost(0, 0.0, 0.0)
