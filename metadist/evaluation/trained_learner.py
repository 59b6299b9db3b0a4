"""A learner with what it has learned, ready to adapt to tasks it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from data_pipeline.episodes.types import EpisodeSource
from metadist.compute.learners import context, episode_key
from metadist.compute.strategies import strategy
from metadist.context import Context
from metadist.learner import Learner
from metadist.objectives import Metric
from metadist.recipe.schema import Recipe
from metadist.runs.checkpoints import Best, move
from metadist.tasks import Params, Phase, Prediction, Task, TaskBatch, to_tasks


@dataclass(frozen=True)
class TrainedLearner:
    """A learner with its meta-parameters and state.

    Attributes:
        state: outer state that is not trained by gradient (running statistics).
        recipe: of its training.
        device: where it computes; parameters and state lie there.
    """

    learner: Learner
    params: Params
    state: Mapping[str, Tensor]
    recipe: Recipe
    device: torch.device

    @classmethod
    def of(
        cls, learner: Learner, best: Best, recipe: Recipe, device: torch.device
    ) -> TrainedLearner:
        """The learner at a checkpoint."""
        params, state = move(best.params, device), move(best.learner_state, device)
        return cls(learner, params, state, recipe, device)

    @property
    def metric(self) -> Metric:
        """What decides how good it is."""
        return self.learner.objective.metric

    def tasks(self, source: EpisodeSource, ids: Sequence[int]) -> TaskBatch:
        """Episodes in the type this learner computes in, with what it needs to know of them."""
        dtype, phase = getattr(torch, self.recipe.engine.dtype), source.identity.part
        turned = self.recipe.data.rotations != "none"
        return to_tasks(
            source.episodes(ids), dtype, self.device, self.learner.columns, phase, turned=turned
        )

    def context(self, phase: Phase, steps: int) -> Context:
        """What it may know in this phase, with so many adaptation steps to take."""
        ctx = context(self.recipe, phase, self.recipe.outer.steps)
        return replace(ctx, state=self.state, inner_steps=steps)

    def noise(self, ctx: Context, episode: int) -> dict[str, Tensor]:
        """The random numbers of an episode, which its id and ``eval.seed`` decide."""
        key = episode_key(self.recipe, ctx.phase, 0, episode)
        return move(self.learner.noise(key, ctx), self.device)

    def predict(self, tasks: TaskBatch, phase: Phase, steps: int) -> list[list[Prediction]]:
        """Predictions for the queries of tasks, without gradient.

        Args:
            steps: adaptation steps.

        Returns:
            Of each task, those after 0, 1, … ``steps`` steps; one element if the learner does not
            adapt by steps.
        """
        ctx = self.context(phase, steps)
        noise = [self.noise(ctx, episode) for episode in tasks.ids]
        chunk = self.recipe.eval.chunk
        how = strategy("vmap" if chunk > 1 else "loop", chunk)
        found: list[list[Prediction]] = []
        for start in range(0, len(tasks), chunk):
            part = tasks.slice(start, start + chunk), noise[start : start + chunk]
            found += how.predict(self.learner, self.params, *part, ctx)
        return found

    def fit(
        self, task: Task, phase: Phase, episode: int, steps: int
    ) -> tuple[Sequence[Any], Context]:
        """What predicts after 0, 1, … ``steps`` steps, without gradient, and what it must know.

        Args:
            episode: decides the random numbers, see :meth:`noise`.
        """
        ctx = self.context(phase, steps)
        now = ctx.for_task(self.noise(ctx, episode))
        with torch.no_grad():
            return self.learner.adapt(self.params, task.view(self.learner.needs), now), now
