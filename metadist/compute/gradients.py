"""The gradient of one chunk of tasks: the atom of work, with the same bits wherever it runs.

``loop`` takes one task at a time on the tape. ``vmap`` takes the tasks of a chunk together with
``vmap(grad(...))``, vmap outermost: the form whose second-order gradient is right through fused
batch normalisation. In both, a chunk is always computed whole and in the same shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from metadist.learner import Learner, Loss
from metadist.tasks import Context, Params, Task, TaskBatch

Noise = dict[str, Tensor]


@dataclass(frozen=True)
class ChunkResult:
    """Sums over the finite tasks of one chunk.

    Attributes:
        gradients: summed over the chunk's finite tasks, in the parameters' type (float64 in a
            chunk of several tasks computed by ``loop``).
        statistics: float64 sums.
        metrics: per task, float64 [tasks], by name; of all tasks.
        finite: bool [tasks]: the gradients, statistics and loss of a task are finite. None is if
            the sums are not.
    """

    gradients: Params
    statistics: dict[str, Tensor]
    metrics: dict[str, Tensor]
    finite: Tensor


def _all_finite(tensors: Iterable[Tensor]) -> bool:
    """One look at all of them: a look at each costs more than the copy."""
    return bool(torch.isfinite(torch.cat([t.reshape(-1) for t in tensors])).all())


def _checked(
    gradients: Params, statistics: dict[str, Tensor], metrics: dict[str, Tensor], finite: Tensor
) -> ChunkResult:
    """The result of a chunk; sums of finite numbers that are not finite are left out."""
    several = len(finite) > 1
    if several and not _all_finite([*gradients.values(), *statistics.values()]):
        gradients = {name: torch.zeros_like(g) for name, g in gradients.items()}
        statistics = {name: torch.zeros_like(s) for name, s in statistics.items()}
        finite = torch.zeros_like(finite)
    return ChunkResult(gradients, statistics, metrics, finite)


def _task_gradient(
    learner: Learner, leaves: Params, task: Task, ctx: Context
) -> tuple[Params, Loss]:
    """The gradient of one task on the tape, or what the learner puts in its place."""
    if learner.estimator == "pseudo":
        return learner.pseudo_gradient(leaves, task, ctx)
    loss = learner.loss(leaves, task, ctx)
    parts = torch.autograd.grad(loss.value, list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, parts, strict=True)), loss


def loop_chunk(
    learner: Learner, params: Params, tasks: TaskBatch, noise: Sequence[Noise], ctx: Context
) -> ChunkResult:
    """One task after the other on the tape; memory holds one task's graph."""
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    gradients: Params = {}
    statistics: dict[str, Tensor] = {}
    metrics: dict[str, list[Tensor]] = {}
    finite = torch.zeros(len(tasks), dtype=torch.bool)
    for index in range(len(tasks)):
        now = ctx.for_task(noise[index], tasks.info_of(index))
        parts, loss = _task_gradient(learner, leaves, tasks.task(index), now)
        parts = {name: parts[name].detach() for name in leaves}
        sums = dict(loss.statistics)
        for name, value in loss.metrics.items():
            metrics.setdefault(name, []).append(value.detach().double())
        good = _all_finite([*parts.values(), *sums.values(), loss.metrics["loss"].detach()])
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
    return _checked(gradients, statistics, stacked, finite)


def _together(
    one: Callable[[Task, Context], Any],
    tasks: TaskBatch,
    noise: Sequence[Noise],
    ctx: Context,
    size: int,
) -> Any:
    """``one`` of each task under vmap; a short chunk is padded to ``size`` with its last task."""
    rows = torch.arange(size).clamp_max(len(tasks) - 1)
    functional = replace(ctx, functional=True)
    stacked = {name: torch.stack([noise[int(row)][name] for row in rows]) for name in noise[0]}

    def call(
        support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor, d: Noise, s: Noise
    ) -> Any:
        return one(Task(support_x, support_y, query_x, query_y), functional.for_task(d, s))

    return torch.func.vmap(call)(
        tasks.support_x[rows],
        tasks.support_y[rows],
        tasks.query_x[rows],
        tasks.query_y[rows],
        stacked,
        {name: values[rows] for name, values in tasks.info.items()},
    )


def chunk_step_scalars(
    learner: Learner,
    params: Params,
    tasks: TaskBatch,
    noise: Sequence[Noise],
    ctx: Context,
    size: int | None,
) -> Tensor:
    """Step scalars of the tasks of one chunk, float64 [scalars, tasks], without gradient.

    Args:
        size: of the chunk under vmap; None takes one task at a time.
    """
    with torch.no_grad():
        if size is not None:
            values = _together(
                lambda task, now: learner.step_scalars(params, task, now), tasks, noise, ctx, size
            )
        else:
            nows = [ctx.for_task(d, tasks.info_of(i)) for i, d in enumerate(noise)]
            each = [learner.step_scalars(params, tasks.task(i), n) for i, n in enumerate(nows)]
            values = {n: torch.stack([e[n] for e in each]) for n in learner.step_scalar_names}
    return torch.stack([values[n][: len(tasks)].double() for n in learner.step_scalar_names])


def vmap_chunk(
    learner: Learner,
    params: Params,
    tasks: TaskBatch,
    noise: Sequence[Noise],
    ctx: Context,
    size: int,
) -> ChunkResult:
    """All tasks of a chunk at once; a short chunk is padded to ``size`` with masked tasks."""
    count = len(tasks)

    def one(task: Task, now: Context) -> Any:
        if learner.estimator == "pseudo":
            direction, loss = learner.pseudo_gradient(params, task, now)
            return direction, (loss.metrics, loss.statistics)

        def value(p: Params) -> tuple[Tensor, tuple[dict[str, Tensor], dict[str, Tensor]]]:
            loss = learner.loss(p, task, now)
            return loss.value, (loss.metrics, loss.statistics)

        return torch.func.grad(value, has_aux=True)(params)

    gradients, (metrics, statistics) = _together(one, tasks, noise, ctx, size)
    per_task = {name: m[:count].detach().double() for name, m in metrics.items()}
    gradients = {name: g[:count] for name, g in gradients.items()}
    statistics = {name: s[:count].double() for name, s in statistics.items()}
    finite = torch.ones(count, dtype=torch.bool)
    if not _all_finite([*gradients.values(), *statistics.values(), per_task["loss"]]):
        finite = per_task["loss"].isfinite()
        for part in (*gradients.values(), *statistics.values()):
            finite = finite & part.reshape(count, -1).isfinite().all(1)
        gradients = {name: _kept(g, finite) for name, g in gradients.items()}
        statistics = {name: _kept(s, finite) for name, s in statistics.items()}
    summed = {name: g.sum(0) for name, g in gradients.items()}
    sums = {name: s.sum(0) for name, s in statistics.items()}
    return _checked(summed, sums, per_task, finite.cpu())


def _kept(parts: Tensor, finite: Tensor) -> Tensor:
    """Parts [tasks, ...], with zeros for tasks that are not finite."""
    return torch.where(finite.reshape(-1, *[1] * (parts.dim() - 1)), parts, 0.0)
