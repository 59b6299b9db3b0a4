"""Meta-training on synthetic tasks, by the engine's own trainer."""

from __future__ import annotations

import torch
from torch import Tensor

from data_pipeline.episodes.types import stack
from metadist.compute.collectives import Group, Solo
from metadist.keys import Key
from metadist.runs.checkpoints import TrainState
from metadist.training.trainer import Trainer
from tests.contract.cases import Case, built
from tests.contract.setting import CPU, synthetic_episodes


def trainer(case: Case, group: Group | None = None) -> Trainer:
    """A worker before the first step."""
    return Trainer(case.recipe, built(case), group or Solo(), CPU)


def train(worker: Trainer, case: Case, steps: int) -> Trainer:
    """Outer steps from where the worker is; the tasks of a step depend on the step alone."""
    batch = case.recipe.outer.batch
    for step in range(worker.step_done, steps):
        start, stop = worker.share
        first = step * batch
        parts = [
            synthetic_episodes(case.network.shape, Key.of("training", i), 1, i)
            for i in range(first + start, first + stop)
        ]
        worker.step(stack(parts) if parts else None, list(range(first, first + batch)))
    return worker


def bits(state: TrainState) -> dict[str, Tensor]:
    """All tensors of a state."""
    parts = {"params": state.params, "optimizer": state.optimizer, "learner": state.learner_state}
    every = {f"{part}/{n}": t for part, tensors in parts.items() for n, t in tensors.items()}
    return {**every, "step": torch.tensor(state.step)}


def same_bits(a: TrainState, b: TrainState) -> bool:
    """Whether two states are equal to the last bit; a NaN equals none."""
    left, right = bits(a), bits(b)
    return set(left) == set(right) and all(torch.equal(t, right[n]) for n, t in left.items())
