"""One task after the other on the tape; memory holds one task's graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from metadist.compute.strategies.chunk import (
    ChunkResult,
    GradientStrategy,
    Noise,
    PerTask,
    all_finite,
    checked,
    surely_finite,
    task_gradient,
)
from metadist.context import Context
from metadist.learner import Learner, Loss
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

        def summed(rows: Iterable[int]) -> Sums:
            sums = Sums()
            for row in rows:
                own = ctx.for_task(noise[row])
                sums.add(*task_gradient(learner, params, tasks.task(row), own), params)
            return sums

        every = summed(range(len(tasks)))
        metrics = {name: torch.stack(values) for name, values in every.metrics.items()}
        numbers = [*every.gradients.values(), *every.statistics.values(), metrics["loss"]]
        if surely_finite(numbers):
            finite = torch.ones(len(tasks), dtype=torch.bool)
            return ChunkResult(every.gradients, every.statistics, metrics, finite)
        # Whose numbers are not finite is found by a second look, task by task.
        finite = torch.tensor([summed([row]).finite for row in range(len(tasks))])
        good = summed(row for row in range(len(tasks)) if finite[row])
        zeros = [{n: torch.zeros_like(p) for n, p in part.items()} for part in every.parts]
        gradients, statistics = (z | p for z, p in zip(zeros, good.parts, strict=True))
        return checked(gradients, statistics, metrics, finite)

    def each(
        self,
        one: Callable[[Task, Context], PerTask],
        tasks: TaskBatch,
        noise: Sequence[Noise],
        ctx: Context,
    ) -> list[PerTask]:
        return [one(tasks.task(index), ctx.for_task(own)) for index, own in enumerate(noise)]


@dataclass
class Sums:
    """Of several tasks, float64, and the metrics of each."""

    gradients: dict[str, Tensor] = field(default_factory=dict)
    statistics: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, gradients: Params, loss: Loss, names: Iterable[str]) -> None:
        """One task's."""
        for sums, parts in zip(self.parts, (gradients, loss.statistics), strict=True):
            for name in names if parts is gradients else parts:
                part = parts[name].detach()
                if name in sums:
                    sums[name].add_(part)
                else:
                    sums[name] = part.to(torch.float64, copy=True)
        for name, value in loss.metrics.items():
            self.metrics.setdefault(name, []).append(value.detach().double())

    @property
    def parts(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Gradients and statistics."""
        return self.gradients, self.statistics

    @property
    def finite(self) -> bool:
        """Whether these sums and the losses are."""
        return all_finite(
            [*self.gradients.values(), *self.statistics.values(), *self.metrics["loss"]]
        )
