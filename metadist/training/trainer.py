"""One outer step: this worker's chunks, the exact sum, the outer update."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.profiler import record_function

from data_pipeline.episodes.types import EpisodeBatch
from metadist.compute.collectives import Group
from metadist.compute.learners import context, episode_key, initial_params
from metadist.compute.order_free_sum import Layout, reduce_step
from metadist.compute.outer_optimizer import OuterOptimizer
from metadist.compute.strategies import ChunkResult, strategy
from metadist.context import Context
from metadist.errors import NonFiniteError
from metadist.learner import Learner
from metadist.recipe.schema import Recipe
from metadist.runs.checkpoints import Best, TrainState, clone, move
from metadist.tasks import Params, TaskBatch, to_tasks
from metadist.training.profile import MARK


@dataclass(frozen=True)
class StepReport:
    """Averages over the tasks of one step, and the episodes whose numbers were not finite."""

    metrics: dict[str, float]
    bad_episodes: list[int]


class Trainer:
    """The state of meta-training on one worker; equal on all workers between steps."""

    def __init__(
        self, recipe: Recipe, learner: Learner, group: Group, device: torch.device
    ) -> None:
        self.recipe = recipe
        self.learner = learner
        self.device = device
        self.step_done = 0
        self.best: Best | None = None
        #: Parameters before the present stage, of episodes that depend on them; else empty.
        self.stage_params: Params = {}
        self._strategy = strategy(recipe.engine.mode, recipe.engine.chunk)
        self._group = group
        self._dtype = getattr(torch, recipe.engine.dtype)
        params = move(initial_params(recipe, learner), device)
        self._outer = OuterOptimizer(params, recipe.outer)
        self.learner_state = move(learner.initial_state(context(recipe, "train", 0)), device)
        self._layout = Layout(
            gradients={name: tuple(p.shape) for name, p in params.items()},
            statistics=learner.statistics(context(recipe, "train", 0)),
            metrics=learner.metric_names,
            tasks=recipe.outer.batch,
            chunk=recipe.engine.chunk,
            dtype=self._dtype,
        )
        self._chunks = self._layout.share(group.rank, group.size)

    @property
    def params(self) -> Params:
        """The current meta-parameters."""
        return self._outer.params

    @property
    def share(self) -> tuple[int, int]:
        """The tasks [first, last) of each step that this worker adapts."""
        first, last = self._chunks
        if first == last:
            return (0, 0)
        return self._layout.bounds(first)[0], self._layout.bounds(last - 1)[1]

    def _compute(self, episodes: EpisodeBatch | None) -> list[ChunkResult]:
        """This worker's chunks, in index order."""
        if episodes is None or not len(episodes):
            if self.learner.step_scalar_names:
                # The others wait for every worker's share of the sum.
                self._step_scalars([], context(self.recipe, "train", self.step_done))
            return []
        turned = self.recipe.data.rotations != "none"
        offset = self.share[0]
        with record_function(f"{MARK}tasks"):
            tasks = to_tasks(
                episodes,
                self._dtype,
                self.device,
                self.learner.columns,
                turned=turned,
                first_slot=offset,
            )
        step = self.step_done
        ctx = replace(context(self.recipe, "train", step), state=self.learner_state)
        keys = [episode_key(self.recipe, "train", step, i) for i in tasks.ids]
        noise = [move(self.learner.noise(key, ctx), self.device) for key in keys]
        bounds = [[b - offset for b in self._layout.bounds(c)] for c in range(*self._chunks)]
        chunks = [(tasks.slice(start, stop), noise[start:stop]) for start, stop in bounds]
        if self.learner.step_scalar_names:
            ctx = replace(ctx, step_scalars=self._step_scalars(chunks, ctx))
        with record_function(f"{MARK}gradients"):
            params = self.learner.arranged(self.params)
            return [self._strategy.chunk(self.learner, params, *chunk, ctx) for chunk in chunks]

    def _step_scalars(
        self, chunks: Sequence[tuple[TaskBatch, list[dict[str, Tensor]]]], ctx: Context
    ) -> dict[str, Tensor]:
        """The scalars of all tasks of the step, each [B], with the same bits on all workers."""
        names = self.learner.step_scalar_names
        table = torch.zeros(len(names), self._layout.tasks, dtype=torch.float64, device=self.device)
        at = self.share[0]
        for tasks, noise in chunks:
            table[:, at : at + len(tasks)] = self._strategy.step_scalars(
                self.learner, self.params, tasks, noise, ctx
            )
            at += len(tasks)
        # One worker wrote each column, the others hold zeros: the sum of bit patterns is exact.
        self._group.sum_(table.view(torch.int64))
        return {name: row.to(self._dtype) for name, row in zip(names, table, strict=True)}

    def step(self, episodes: EpisodeBatch | None, ids: Sequence[int]) -> StepReport:
        """Adapt this worker's tasks, average over all workers and take one outer step.

        Args:
            episodes: this worker's share of the step.
            ids: episode ids of the whole step, to name bad ones.

        Raises:
            NonFiniteError: a loss or gradient was not finite and the recipe says ``stop``;
                nothing has changed.
        """
        results = self._compute(episodes)
        with record_function(f"{MARK}sum over workers"):
            total = reduce_step(
                results,
                self._chunks[0],
                self._layout,
                self._group,
                self.device,
                self.recipe.engine.reduction,
            )
        bad = [ids[task] for task, good in enumerate(total.good.tolist()) if not good]
        if bad and self.recipe.engine.on_nonfinite == "stop":
            raise NonFiniteError(
                f"step {self.step_done + 1}: loss or gradient not finite in episodes {bad}; start "
                "a run of another name with a lower inner.lr or outer.lr, or with "
                "engine.on_nonfinite = 'skip', which leaves such tasks out"
            )
        if total.good_tasks:
            with record_function(f"{MARK}outer update"):
                self._outer.step(total.gradients, self.step_done)
            ctx = context(self.recipe, "train", self.step_done)
            new = self.learner.update_state(self.learner_state, total.statistics, self.params, ctx)
            # The optimizer goes on writing into the parameters, of which a state may be made.
            self.learner_state = {name: tensor.detach().clone() for name, tensor in new.items()}
        self.step_done += 1
        metrics = {
            name: float(values[total.good].mean()) if total.good_tasks else float("nan")
            for name, values in total.metrics.items()
        }
        return StepReport(metrics, bad)

    def begin_stage(self) -> None:
        """Keep the parameters as they are for the episodes of the stage that begins."""
        self.stage_params = clone(self.params)

    def consider_best(self, score: float) -> bool:
        """Keep the current parameters as the best if their validation score is strictly better."""
        if math.isnan(score) or (
            self.best and not self.learner.objective.metric.better(score, self.best.score)
        ):
            return False
        self.best = Best(self.step_done, score, clone(self.params), clone(self.learner_state))
        return True

    def state(self) -> TrainState:
        """Everything needed to go on, on the CPU."""
        return TrainState(
            step=self.step_done,
            params=clone(self.params),
            optimizer=self._outer.state(),
            learner_state=clone(self.learner_state),
            best=self.best,
            stage_params=self.stage_params,
        )

    def restore(self, state: TrainState) -> None:
        """Go on from a state."""
        self.step_done = state.step
        self._outer.load(move(ordered(state.params, self.params), self.device), state.optimizer)
        self.learner_state = move(ordered(state.learner_state, self.learner_state), self.device)
        self.stage_params = clone(ordered(state.stage_params, self.params))
        best = state.best
        if best is not None:
            best = Best(best.step, best.score, clone(best.params), clone(best.learner_state))
        self.best = best


def ordered(tensors: dict[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in the order of others: a file gives them back in any."""
    known = {name: tensors[name] for name in like if name in tensors}
    return {**known, **{name: tensors[name] for name in sorted(tensors) if name not in known}}
