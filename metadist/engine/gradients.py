"""The gradient of one chunk of tasks: the atom of work, with the same bits wherever it runs.

``loop`` takes one task at a time on the tape. ``vmap`` takes the tasks of a chunk together with
``vmap(grad(...))``, vmap outermost: the form whose second-order gradient is right through fused
batch normalisation. In both, a chunk is always computed whole and in the same shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metadist.algorithms import Algorithm, Loss
from metadist.tasks import Context, Params, Task, TaskBatch

Draws = dict[str, Tensor]


@dataclass(frozen=True)
class ChunkResult:
    """Sums over the tasks of one chunk.

    Attributes:
        gradients: summed over the chunk's tasks, in the parameters' type (float64 in a chunk of
            several tasks computed by ``loop``).
        statistics: float64 sums.
        metrics: per task, float64 [tasks], by name.
        finite: every gradient, statistic and loss is finite.
    """

    gradients: Params
    statistics: dict[str, Tensor]
    metrics: dict[str, Tensor]
    finite: bool


def _finish(gradients: Params, statistics: dict[str, Tensor], metrics: dict[str, Tensor]) -> bool:
    everything = [*gradients.values(), *statistics.values(), metrics["loss"]]
    return all(bool(torch.isfinite(t).all()) for t in everything)


def loop_chunk(
    algorithm: Algorithm, params: Params, tasks: TaskBatch, draws: Sequence[Draws], ctx: Context
) -> ChunkResult:
    """One task after the other on the tape; memory holds one task's graph."""
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    gradients: Params = {}
    statistics: dict[str, Tensor] = {}
    metrics: dict[str, list[Tensor]] = {}
    for index in range(len(tasks)):
        loss = algorithm.loss(leaves, tasks.task(index), ctx.with_draws(draws[index]))
        parts = torch.autograd.grad(loss.value, list(leaves.values()), materialize_grads=True)
        for name, part in zip(leaves, parts, strict=True):
            if len(tasks) > 1:
                part = part.double()
            gradients[name] = gradients[name] + part if index else part
        for name, part in loss.statistics.items():
            statistics[name] = statistics[name] + part if index else part.double()
        for name, value in loss.metrics.items():
            metrics.setdefault(name, []).append(value.detach().double())
    stacked = {name: torch.stack(values) for name, values in metrics.items()}
    return ChunkResult(gradients, statistics, stacked, _finish(gradients, statistics, stacked))


def vmap_chunk(
    algorithm: Algorithm,
    params: Params,
    tasks: TaskBatch,
    draws: Sequence[Draws],
    ctx: Context,
    size: int,
) -> ChunkResult:
    """All tasks of a chunk at once; a short chunk is padded to ``size`` with masked tasks."""
    count = len(tasks)
    rows = torch.arange(size).clamp_max(count - 1)
    functional = replace(ctx, functional=True)
    stacked_draws = {
        name: torch.stack([draws[int(row)][name] for row in rows]) for name in draws[0]
    }

    def one(
        support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor, d: Draws
    ) -> tuple[Params, tuple[dict[str, Tensor], dict[str, Tensor]]]:
        task = Task(support_x, support_y, query_x, query_y)

        def value(p: Params) -> tuple[Tensor, tuple[dict[str, Tensor], dict[str, Tensor]]]:
            loss: Loss = algorithm.loss(p, task, functional.with_draws(d))
            return loss.value, (loss.metrics, loss.statistics)

        result: tuple[Params, tuple[dict[str, Tensor], dict[str, Tensor]]]
        result = torch.func.grad(value, has_aux=True)(params)
        return result

    gradients, (metrics, statistics) = torch.func.vmap(one)(
        tasks.support_x[rows],
        tasks.support_y[rows],
        tasks.query_x[rows],
        tasks.query_y[rows],
        stacked_draws,
    )
    summed = {name: g[:count].sum(0) for name, g in gradients.items()}
    sums = {name: s[:count].double().sum(0) for name, s in statistics.items()}
    per_task = {name: m[:count].detach().double() for name, m in metrics.items()}
    return ChunkResult(summed, sums, per_task, _finish(summed, sums, per_task))
