"""What ``model.norm`` means for the passes of one network, and the running statistics behind it.

What passes drop in training, where the network drops something, is said here too.

``transductive``: every pass uses the statistics of its own batch. ``support``: passes over queries
use those of the support set. ``running``: training uses the batch's and averages what the support
passes saw; other phases use the average, after T steps and more that of T. ``none``: no statistics.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from metadist.backbones import Backbone, Drops, Norm, Statistics
from metadist.backbones._drop_block import BITS
from metadist.context import Context
from metadist.keys import Key
from metadist.learner import Learner, Loss
from metadist.tasks import Examples, Params, Task

#: Name of the numbers that decide what is dropped, among a task's random numbers.
DROPS = "drops"


@dataclass(frozen=True)
class Normalisation:
    """How a network's passes are normalised, and what they drop.

    Attributes:
        per_step: keep running statistics for each number of steps taken, 0 to T.
        momentum: of the exponential moving average of ``running`` normalisation.
    """

    backbone: Backbone
    per_step: bool = True
    momentum: float = 0.1

    def rows(self, ctx: Context) -> int:
        """R, rows of the running statistics."""
        return ctx.trained_steps + 1 if self.per_step else 1

    def support(self, ctx: Context, step: int = 0) -> Norm:
        """Normalisation of a pass over examples that are learned from, after ``step`` steps."""
        norm, drops = self._norm(ctx, step), self.drops(ctx, step)
        return norm if drops is None else replace(norm, drops=drops)

    def _norm(self, ctx: Context, step: int) -> Norm:
        if ctx.norm == "none":
            return Norm("off", step=step)
        if ctx.norm == "running" and ctx.phase != "train":
            row = min(step, self.rows(ctx) - 1)
            statistics = {
                layer: (ctx.state[f"{layer}.mean"][row], ctx.state[f"{layer}.variance"][row])
                for layer in self.backbone.norm_layers
            }
            return Norm("given", statistics=statistics, step=step)
        return Norm("batch", record=ctx.norm == "running", step=step)

    def query(self, params: Params, support: Examples, ctx: Context, step: int = 0) -> Norm:
        """Normalisation of a pass over queries with parameters that ``step`` steps have given."""
        norm, drops = self.support(ctx, step), self.drops(ctx, step, query=True)
        if ctx.norm == "support":
            measured = replace(norm, record=True)
            passed = self.backbone.forward(params, support.x, measured)
            return Norm("given", statistics=passed.statistics, step=step, drops=drops)
        if norm.record or drops is not None:
            return replace(norm, record=False, drops=drops)
        return norm

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        """The random numbers of a task, of which follows what its passes drop in training."""
        if ctx.phase != "train" or not self.backbone.drops:
            return {}
        return {DROPS: key.fold(DROPS).uniform((2,), torch.float64)}

    def drops(self, ctx: Context, step: int = 0, *, query: bool = False) -> Drops | None:
        """What decides what a pass after ``step`` steps drops; None: it drops nothing."""
        if DROPS not in ctx.noise:
            return None
        seed = (ctx.noise[DROPS] * 2**BITS).to(torch.int64)
        return Drops(seed, ctx.step).at(2 * step + query)

    def sums(self, recorded: Sequence[Statistics]) -> dict[str, Tensor]:
        """Sums over tasks of mean and second moment, [passes, C] each.

        Every support pass of a layer has equally many positions, so averages of moments over
        tasks are moments over all positions and the positions need not be counted.
        """
        sums: dict[str, Tensor] = {}
        for layer in self.backbone.norm_layers:
            rows = [s[layer] for s in recorded if layer in s]
            if rows:
                mean = torch.stack([m.detach().double() for m, _ in rows])
                variance = torch.stack([v.detach().double() for _, v in rows])
                sums[f"{layer}.mean"] = mean
                sums[f"{layer}.square"] = variance + mean * mean
        return sums

    def statistics(self, ctx: Context) -> dict[str, tuple[int, ...]]:
        """Mean and second moment [R, C] of each norm layer, in ``running`` mode only."""
        if ctx.norm != "running":
            return {}
        layers, rows = self.backbone.norm_layers.items(), self.rows(ctx)
        return {f"{layer}.{m}": (rows, c) for layer, c in layers for m in ("mean", "square")}

    def initial_state(self, ctx: Context) -> dict[str, Tensor]:
        """Running statistics [R, C], float64: mean 0 and variance 1."""
        if ctx.norm != "running":
            return {}
        rows = self.rows(ctx)
        state = {}
        for layer, channels in self.backbone.norm_layers.items():
            state[f"{layer}.mean"] = torch.zeros(rows, channels, dtype=torch.float64)
            state[f"{layer}.variance"] = torch.ones(rows, channels, dtype=torch.float64)
        return state

    def update_state(
        self, state: Mapping[str, Tensor], means: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Running statistics after an outer step whose statistics averaged to ``means``."""
        new = dict(state)
        for layer in self.backbone.norm_layers:
            if f"{layer}.mean" not in means:
                continue
            mean = means[f"{layer}.mean"]
            variance = (means[f"{layer}.square"] - mean * mean).clamp_min(0.0)
            for name, value in (("mean", mean), ("variance", variance)):
                old = state[f"{layer}.{name}"]
                new[f"{layer}.{name}"] = old + self.momentum * (value - old)
        return new


class Normalised(Learner):
    """A learner whose state are the running statistics of its network."""

    @property
    @abstractmethod
    def normalisation(self) -> Normalisation:
        """How the network's passes are normalised."""

    def recorded(self, fitted: Any) -> Sequence[Statistics]:
        """Statistics of the passes over the support set that have led to what predicts."""
        return []

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        """That of the queries after adaptation, with what was :meth:`recorded`."""
        fitted = self.adapt(params, task.view(self.needs), ctx)[-1]
        prediction = self.predict(fitted, task.visible_query(self.needs), ctx)
        loss = self.objective.loss_and_metrics(prediction, task.query)
        return Loss(*loss, self.normalisation.sums(self.recorded(fitted)))

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        return self.normalisation.noise(key, ctx)

    def statistics(self, ctx: Context) -> dict[str, tuple[int, ...]]:
        return self.normalisation.statistics(ctx)

    def initial_state(self, ctx: Context) -> dict[str, Tensor]:
        return self.normalisation.initial_state(ctx)

    def update_state(
        self,
        state: Mapping[str, Tensor],
        means: Mapping[str, Tensor],
        new_params: Params,
        ctx: Context,
    ) -> dict[str, Tensor]:
        return self.normalisation.update_state(state, means)
