"""What is computed of one chunk of tasks, whatever the strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metadist.context import Context
from metadist.errors import PluginError
from metadist.learner import Learner, Loss
from metadist.tasks import Params, Prediction, Task, TaskBatch

Noise = dict[str, Tensor]
#: Of one task: named tensors, once or after each step.
PerTask = list[dict[str, Tensor]]


@dataclass(frozen=True)
class ChunkResult:
    """Sums over the finite tasks of one chunk.

    Attributes:
        gradients: summed over the chunk's finite tasks, float64 from ``loop``, in the parameters'
            type from ``vmap``.
        statistics: float64 sums.
        metrics: per task, float64 [tasks], by name; of all tasks.
        finite: bool [tasks]: the gradients, statistics and loss of a task are finite. None is if
            the sums are not.
    """

    gradients: Params
    statistics: dict[str, Tensor]
    metrics: dict[str, Tensor]
    finite: Tensor


class GradientStrategy(ABC):
    """How a learner's functions of one task are computed for several."""

    @abstractmethod
    def chunk(
        self,
        learner: Learner,
        params: Params,
        tasks: TaskBatch,
        noise: Sequence[Noise],
        ctx: Context,
    ) -> ChunkResult:
        """Gradients, metrics and statistics of the tasks of one chunk."""

    @abstractmethod
    def each(
        self,
        one: Callable[[Task, Context], PerTask],
        tasks: TaskBatch,
        noise: Sequence[Noise],
        ctx: Context,
    ) -> list[PerTask]:
        """``one`` of each task of one chunk."""

    def step_scalars(
        self,
        learner: Learner,
        params: Params,
        tasks: TaskBatch,
        noise: Sequence[Noise],
        ctx: Context,
    ) -> Tensor:
        """Step scalars of the tasks of one chunk, float64 [scalars, tasks], without gradient."""

        def one(task: Task, now: Context) -> PerTask:
            return [learner.step_scalars(params, task, now)]

        with torch.no_grad():
            found = self.each(one, tasks, noise, ctx)
        rows = [torch.stack([s[n] for (s,) in found]) for n in learner.step_scalar_names]
        return torch.stack(rows).double()

    def predict(
        self,
        learner: Learner,
        params: Params,
        tasks: TaskBatch,
        noise: Sequence[Noise],
        ctx: Context,
    ) -> list[list[Prediction]]:
        """Of each task, what is predicted for its queries after 0, 1, … ``ctx.inner_steps`` steps,
        without gradient; one element of a learner that does not adapt by steps."""

        def one(task: Task, now: Context) -> PerTask:
            return [p.tensors() for p in visible_predictions(learner, params, task, now)]

        with torch.no_grad():
            found = self.each(one, tasks, noise, ctx)
        return [[Prediction(**tensors) for tensors in after] for after in found]


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """One look at all of them: a look at each costs more than the copy."""
    return bool(torch.isfinite(torch.cat([t.reshape(-1) for t in tensors])).all())


def surely_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether the sum of each is finite; it may not be where all numbers are, but very large."""
    return bool(torch.isfinite(torch.stack([t.sum(dtype=torch.float64) for t in tensors])).all())


def checked(
    gradients: Params, statistics: dict[str, Tensor], metrics: dict[str, Tensor], finite: Tensor
) -> ChunkResult:
    """The result of a chunk; sums of finite numbers that are not finite are left out."""
    several = len(finite) > 1
    if several and not all_finite([*gradients.values(), *statistics.values()]):
        gradients = {name: torch.zeros_like(g) for name, g in gradients.items()}
        statistics = {name: torch.zeros_like(s) for name, s in statistics.items()}
        finite = torch.zeros_like(finite)
    return ChunkResult(gradients, statistics, metrics, finite)


def task_gradient(
    learner: Learner, params: Params, task: Task, ctx: Context
) -> tuple[Params, Loss]:
    """A task's part of the meta-gradient, with all that is summed beside it.

    Raises:
        PluginError: something is missing, or is there that was not declared.
    """
    gradients, loss = learner.gradient(params, task, ctx)
    check_declared(learner, params, gradients, loss.metrics, loss.statistics, ctx)
    return gradients, loss


def check_declared(
    learner: Learner,
    params: Params,
    gradients: Params,
    metrics: dict[str, Tensor],
    found: dict[str, Tensor],
    ctx: Context,
) -> None:
    """See that a learner returns what it has declared.

    Raises:
        PluginError: something is missing, or is there that was not declared.
    """
    statistics = learner.statistics(ctx) if ctx.phase == "train" else found
    for what, got, wanted in (
        ("gradient() has to return a gradient of each parameter", gradients, params),
        ("loss() has to return what metric_names says", metrics, learner.metric_names),
        ("loss() has to return what statistics() says", found, statistics),
    ):
        if set(got) != set(wanted):
            lacking = ", ".join(name for name in wanted if name not in got)
            further = ", ".join(name for name in got if name not in wanted)
            raise PluginError(
                f"{type(learner).__name__}: {what}; lacking: {lacking or 'none'}; "
                f"beside it: {further or 'none'}"
            )


def visible_predictions(
    learner: Learner, params: Params, task: Task, ctx: Context
) -> list[Prediction]:
    """What is predicted for a task's queries by a learner that sees what it may of the task.

    Raises:
        PluginError: it returns something else.
    """
    fitted = learner.adapt(params, task.view(learner.needs), ctx)
    if not isinstance(fitted, Sequence):
        raise PluginError(
            f"{type(learner).__name__}: adapt() has to return a list of what predicts after 0, 1, "
            f"... steps (of one element where there are none), got {type(fitted).__name__}"
        )
    query = task.visible_query(learner.needs)
    if len(fitted) not in (1, ctx.inner_steps + 1):
        raise PluginError(
            f"{type(learner).__name__}: adapt() has to return what predicts after 0, 1, ... "
            f"{ctx.inner_steps} steps, {ctx.inner_steps + 1} elements, or one element if it takes "
            f"no steps; got {len(fitted)}"
        )
    predictions = [learner.predict(one, query, ctx) for one in fitted]
    for prediction in predictions:
        if not isinstance(prediction, Prediction):
            raise PluginError(
                f"{type(learner).__name__}: predict() has to return a Prediction, got "
                f"{type(prediction).__name__}"
            )
    return predictions
