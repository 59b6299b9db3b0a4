"""It learns, on every kind of task that it declares."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metadist.compute.learners import context
from metadist.context import Context
from metadist.keys import Key
from metadist.tasks import Phase
from metadist.training.trainer import Trainer
from tests.contract.cases import LEARNING, Case, works_on
from tests.contract.setting import Setting, of_tasks, synthetic_episodes, tasks_of
from tests.contract.training import train, trainer

STEPS, RATE, HELD_OUT = 40, 0.02, 40
#: Steps and rate of those that must learn what a label is before any label helps them.
FROM_NOTHING = {"snail": (120, 0.005)}
#: What takes thousands of episodes before it recalls a label: no test here waits for it.
TOO_LONG = {"mann"}

# One of each family: a learned start, learned rates, a part that is frozen, no gradient of the loss
# after adaptation, no episodes. All others, and all on functions, are slow.
QUICK = ("maml", "nil", "reptile")


def held_out(worker: Trainer, case: Case, phase: Phase) -> Setting:
    """What the worker has learned so far, on tasks that it is not trained on."""
    episodes = synthetic_episodes(case.network.shape, Key.of("held out"), HELD_OUT)
    tasks = tasks_of(worker.learner, episodes, torch.float64)
    ctx: Context = replace(context(case.recipe, phase, 0), state=worker.learner_state)
    return of_tasks(case, worker.learner, worker.params, tasks, ctx)


def objective(worker: Trainer, case: Case) -> float:
    """What training lowers and reports, on average."""
    (chunk,) = held_out(worker, case, "train").vmap(HELD_OUT)
    return float(chunk.metrics["loss"].mean())


def error(worker: Trainer, case: Case) -> float:
    """Mean squared error, or share of wrong classes, after adaptation."""

    def one(outputs: Tensor, targets: Tensor) -> Tensor:
        if case.network.targets == "values":
            return (outputs - targets).square().mean()
        return (outputs.argmax(-1) != targets).double().mean()

    setting = held_out(worker, case, "test")
    with torch.no_grad():
        errors = [
            one(setting.predictions(i)[-1], setting.tasks.task(i).query.y) for i in range(HELD_OUT)
        ]
    return float(torch.stack(errors).mean())


@pytest.mark.parametrize(
    ("algorithm", "model"),
    [
        pytest.param(
            algorithm,
            model,
            marks=[] if algorithm in QUICK and model == "mlp-relu" else pytest.mark.slow,
        )
        for algorithm in LEARNING
        if algorithm not in TOO_LONG
        for model in ("mlp-tanh", "mlp-relu")
    ],
)
def test_it_learns(algorithm: str, model: str):
    if not works_on(algorithm, model):
        return
    steps, rate = FROM_NOTHING.get(algorithm, (STEPS, RATE))
    case = Case(algorithm, model, "none", 2, outer={"batch": 4, "lr": rate}, engine={"chunk": 4})
    worker = trainer(case)
    before = objective(worker, case), error(worker, case)
    train(worker, case, steps)
    assert objective(worker, case) < 0.9 * before[0]
    assert error(worker, case) < 0.9 * before[1]
