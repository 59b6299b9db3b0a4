"""A learner with what it has learned, ready to adapt to tasks it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from data_pipeline.episodes.types import EpisodeSource
from metadist.compute.learners import context, episode_key
from metadist.learner import Learner
from metadist.recipe.schema import Recipe
from metadist.runs.checkpoints import Best, move
from metadist.tasks import Context, Params, Phase, Task, TaskBatch, to_tasks


@dataclass(frozen=True)
class TrainedLearner:
    """A learner with its meta-parameters and state.

    Attributes:
        state: outer state that is not trained by gradient (running statistics).
        recipe: of its training.
        device: where it computes; parameters and state lie there.
    """

    algorithm: Learner
    params: Params
    state: Mapping[str, Tensor]
    recipe: Recipe
    device: torch.device

    @classmethod
    def of(
        cls, algorithm: Learner, best: Best, recipe: Recipe, device: torch.device
    ) -> TrainedLearner:
        """The learner at a checkpoint."""
        params, state = move(best.params, device), move(best.learner_state, device)
        return cls(algorithm, params, state, recipe, device)

    def tasks(self, source: EpisodeSource, ids: Sequence[int]) -> TaskBatch:
        """Episodes in the type this learner computes in."""
        dtype = getattr(torch, self.recipe.engine.dtype)
        turned = self.recipe.data.rotations != "none"
        return to_tasks(source.episodes(ids), dtype, self.device, self.algorithm.needs, turned)

    def outputs(
        self, task: Task, info: Mapping[str, Tensor], phase: Phase, episode: int, steps: int
    ) -> list[Tensor]:
        """Logits [Q, N] or values [Q, E] for a task's queries, without gradient.

        Args:
            info: what the learner needs to know of the task beside its examples.
            episode: its id, which with ``eval.seed`` decides its random numbers.
            steps: adaptation steps.

        Returns:
            After 0, 1, … ``steps`` steps; one element if the learner does not adapt by steps.
        """
        with torch.no_grad():
            fitted, now = self.fit(task.support_x, task.support_y, info, phase, episode, steps)
            return [self.algorithm.predict(f, task.query_x, now) for f in fitted]

    def fit(
        self,
        support_x: Tensor,
        support_y: Tensor,
        info: Mapping[str, Tensor],
        phase: Phase,
        episode: int,
        steps: int,
    ) -> tuple[Sequence[Any], Context]:
        """What predicts after 0, 1, … ``steps`` steps, without gradient, and what it must know.

        Args:
            info, episode, steps: see :meth:`outputs`.
        """
        ctx = context(self.recipe, phase, self.recipe.outer.steps)
        ctx = replace(ctx, state=self.state, inner_steps=steps)
        key = episode_key(self.recipe, phase, 0, episode)
        now = ctx.for_task(move(self.algorithm.noise(key, ctx), self.device), info)
        with torch.no_grad():
            return self.algorithm.adapt(self.params, support_x, support_y, now), now
