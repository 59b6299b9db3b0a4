"""One task after the other on the tape; memory holds one task's graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metadist.compute.strategies.chunk import (
    ChunkResult,
    GradientStrategy,
    Noise,
    PerTask,
    all_finite,
    checked,
    task_gradient,
)
from metadist.context import Context
from metadist.learner import Learner
from metadist.tasks import Params, Task, TaskBatch


class Loop(GradientStrategy):
    """See the module."""

    def chunk(
        self,
        learner: Learner,
        params: Params,
        tasks: TaskBatch,
        noise: Sequence[Noise],
        ctx: Context,
    ) -> ChunkResult:
        params = learner.arranged(params)
        gradients: Params = {}
        statistics: dict[str, Tensor] = {}
        metrics: dict[str, list[Tensor]] = {}
        finite = torch.zeros(len(tasks), dtype=torch.bool)
        for index in range(len(tasks)):
            now = ctx.for_task(noise[index])
            parts, loss = task_gradient(learner, params, tasks.task(index), now)
            parts = {name: parts[name].detach() for name in params}
            sums = dict(loss.statistics)
            for name, value in loss.metrics.items():
                metrics.setdefault(name, []).append(value.detach().double())
            good = all_finite([*parts.values(), *sums.values(), loss.metrics["loss"].detach()])
            finite[index] = good
            if not good:
                parts = {name: torch.zeros_like(part) for name, part in parts.items()}
                sums = {name: torch.zeros_like(part) for name, part in sums.items()}
            for name, part in parts.items():
                if len(tasks) > 1:
                    part = part.double()
                gradients[name] = gradients[name] + part if index else part
            for name, part in sums.items():
                statistics[name] = statistics[name] + part if index else part.double()
        stacked = {name: torch.stack(values) for name, values in metrics.items()}
        return checked(gradients, statistics, stacked, finite)

    def each(
        self,
        one: Callable[[Task, Context], PerTask],
        tasks: TaskBatch,
        noise: Sequence[Noise],
        ctx: Context,
    ) -> list[PerTask]:
        return [one(tasks.task(index), ctx.for_task(own)) for index, own in enumerate(noise)]
