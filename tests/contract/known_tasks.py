"""Tasks of which everything is known that can be, and what comes out of them in each mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from data_pipeline.episodes.types import EpisodeBatch
from metadist.compute.learners import context
from metadist.compute.strategies import GradientStrategy, Loop, Vmap
from metadist.keys import Key
from metadist.learner import Learner
from metadist.tasks import (
    Params,
    Phase,
    TaskBatch,
    to_tasks,
)
from tests.contract.cases import TASKS, WAYS, Case
from tests.contract.setting import CPU, synthetic_episodes

POINTS = 7
CASE = Case("maml", "mlp-relu", "none", 2, engine={"chunk": 2}, outer={"batch": TASKS})
Mode = Literal["loop", "vmap"]
each_mode = pytest.mark.parametrize("mode", ["loop", "vmap"])


def episodes() -> EpisodeBatch:
    """Tasks of which everything is known that can be."""
    key, shape = Key.of("seen"), CASE.network.shape
    plain = synthetic_episodes(shape, key, TASKS)
    x = key.fold("unlabeled").normal((TASKS, POINTS, *shape.inputs), torch.float64)
    y = (key.fold("hidden").uniform((TASKS, POINTS), torch.float64) * WAYS).long()
    before = key.fold("before").normal((TASKS, plain.query_x.shape[1]), torch.float64)
    more = {
        "unlabeled_x": x.numpy(),
        "unlabeled_y": y.numpy(),
        "query_before": before.numpy(),
        "latent": key.fold("latent").normal((TASKS, 2), torch.float64).numpy(),
    }
    arrays = dict(plain.arrays())
    return EpisodeBatch(arrays.pop("ids"), arrays | more)


def tasks_of(learner: Learner, phase: Phase) -> TaskBatch:
    """As the engine hands them on."""
    return to_tasks(episodes(), torch.float64, CPU, learner.needs, phase, turned=False)


def strategy_of(mode: Mode) -> GradientStrategy:
    return Vmap(2) if mode == "vmap" else Loop()


def fresh_params(learner: Learner) -> Params:
    return {name: p.double() for name, p in learner.init(Key.of("seen")).items()}


def run(learner: Learner, mode: Mode, phase: Phase, tasks: TaskBatch | None = None) -> list[Tensor]:
    """All that comes out: gradients in training, predictions elsewhere."""
    tasks = tasks_of(learner, phase) if tasks is None else tasks
    ctx = replace(context(CASE.recipe, phase, 0), inner_steps=2)
    how = strategy_of(mode)
    found: list[Tensor] = []
    for start in range(0, len(tasks), 2):
        part = tasks.slice(start, start + 2)
        given = (
            learner,
            fresh_params(learner),
            part,
            [learner.noise(Key.of(i), ctx) for i in part.ids],
        )
        if phase == "train":
            found += how.chunk(*given, ctx).gradients.values()
        else:
            found += [one.mean for after in how.predict(*given, ctx) for one in after]
    return found


def same_bits(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
