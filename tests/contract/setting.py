"""A case made concrete: parameters away from any special point, tasks, random numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_pipeline.episodes.types import ALWAYS, EpisodeBatch
from metadist.compute.learners import build, context
from metadist.compute.strategies import ChunkResult, GradientStrategy, Loop, Vmap
from metadist.context import Context
from metadist.keys import Key
from metadist.learner import Learner
from metadist.tasks import Params, Prediction, Task, TaskBatch, TaskShape, to_tasks
from tests.contract.cases import ATTRIBUTES, QUERIES, SHOTS, TASKS, WAYS, Case
from tests.numerics.definitions import DEFINITIONS
from tests.numerics.reference import Episode, Tensors, derivative, leaves, total

CPU = torch.device("cpu")


def synthetic_episodes(shape: TaskShape, key: Key, count: int, first: int = 0) -> EpisodeBatch:
    """Ways are noisy copies of the prototypes of their classes; functions are linear maps."""
    ids = np.arange(first, first + count)
    if shape.targets == "values":
        # Their mean is not 0: there is something to learn for those who do not adapt.
        slope = 1 + key.fold("slope").normal((count, *shape.inputs, shape.outputs), torch.float64)
        sizes = {"support": WAYS * SHOTS, "query": WAYS * QUERIES}
        x = [
            key.fold(name).normal((count, size, *shape.inputs), torch.float64)
            for name, size in sizes.items()
        ]
        y = [torch.matmul(part, slope).numpy() for part in x]
        more = {"latent": slope.reshape(count, -1).numpy()}
        parts = [x[0].numpy(), y[0], x[1].numpy(), y[1]]
        return EpisodeBatch(ids, dict(zip(ALWAYS, parts, strict=True)) | more)
    # Every other number tells little of the class: there is something to learn about features.
    spread = torch.tensor([0.5, 2.0], dtype=torch.float64)
    spread = spread[torch.arange(math.prod(shape.inputs)) % 2].reshape(shape.inputs)
    prototypes = Key.of("prototypes").normal((shape.classes, *shape.inputs), torch.float64)
    order = key.fold("classes").uniform((count, shape.classes), torch.float64).argsort(1)
    classes = order[:, :WAYS]
    parts = []
    for name, copies in (("support", SHOTS), ("query", QUERIES)):
        noise = key.fold(name).normal((count, WAYS, copies, *shape.inputs), torch.float64)
        images = prototypes[classes][:, :, None] + spread * noise
        labels = torch.arange(WAYS).repeat_interleave(copies).repeat(count, 1)
        parts += [images.reshape(count, -1, *shape.inputs).numpy(), labels.numpy()]
    attributes = Key.of("attributes").normal((shape.classes, ATTRIBUTES), torch.float64)
    more = {
        "class_ids": 4 * classes.numpy(),
        "class_attributes": attributes[classes].numpy(),
        **_unlabeled(prototypes, order, key.fold("unlabeled")),
    }
    return EpisodeBatch(ids, dict(zip(ALWAYS, parts, strict=True)) | more)


def _unlabeled(prototypes: Tensor, order: Tensor, key: Key) -> dict[str, np.ndarray]:
    """Two examples of each way and of one distractor class, which none of the ways is."""
    classes = order[:, [*range(WAYS), WAYS] * 2]
    noise = key.normal((*classes.shape, *prototypes.shape[1:]), torch.float64)
    labels = torch.tensor([*range(WAYS), -1] * 2).repeat(len(order), 1)
    return {"unlabeled_x": (prototypes[classes] + noise).numpy(), "unlabeled_y": labels.numpy()}


def tasks_of(algorithm: Learner, episodes: EpisodeBatch, dtype: torch.dtype) -> TaskBatch:
    """The tasks with what the algorithm needs to know beside the examples, and no more."""
    return to_tasks(episodes, dtype, CPU, algorithm.needs, turned=False)


def episode_of(task: Task, needs: frozenset[str] = frozenset()) -> Episode:
    """A task, for definitions, with what a learner needs to know of it."""
    support, query = task.support, task.query
    info = dict(task.info)
    if "unlabeled" in needs:
        info["unlabeled_x"] = task.unlabeled.x
    if "unlabeled_y" in needs:
        info["unlabeled_y"] = task.unlabeled.reveal(torch.arange(len(task.unlabeled)))
    return Episode(support.x, support.y, query.x, query.y, info=info)


def with_columns(tasks: TaskBatch, **columns: Tensor) -> TaskBatch:
    """The same tasks with other columns."""
    return replace(tasks, tensors={**tasks.tensors, **columns})


def chosen(tasks: TaskBatch, rows: list[int]) -> TaskBatch:
    """The tasks at these rows."""
    ids = tuple(tasks.ids[row] for row in rows)
    return TaskBatch(ids, {name: column[rows] for name, column in tasks.tensors.items()})


@dataclass(frozen=True)
class Setting:
    """A case made concrete."""

    case: Case
    algorithm: Learner
    params: Params
    tasks: TaskBatch
    ctx: Context
    noise: list[dict[str, Tensor]]

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def episodes(self) -> list[Episode]:
        """The tasks, for definitions."""
        needs = self.algorithm.needs
        return [episode_of(self.tasks.task(i), needs) for i in range(len(self))]

    def task_ctx(self, index: int) -> Context:
        """What the learner may know of a task."""
        return self.ctx.for_task(self.noise[index])

    def loss(self, params: Params, index: int = 0) -> Tensor:
        """The loss of one task."""
        task = self.tasks.task(index)
        return self.algorithm.loss(params, task, self.task_ctx(index)).value

    def predictions(self, index: int) -> list[Tensor]:
        """Outputs for a task's queries after each step."""
        return [one.mean for one in self.only(index).predicted(Loop())[0]]

    def predicted(self, how: GradientStrategy) -> list[list[Prediction]]:
        """What the engine has predicted of each task after each step."""
        return how.predict(self.algorithm, self.params, self.tasks, self.noise, self.ctx)

    def adapted(self, index: int) -> Sequence[Any]:
        """What predicts after each step, of a learner that sees what it may."""
        task = self.tasks.task(index).view(self.algorithm.needs)
        return self.algorithm.adapt(self.params, task, self.task_ctx(index))

    def metrics(self) -> list[dict[str, Tensor]]:
        """What is reported of each task."""
        return [
            self.algorithm.loss(self.params, self.tasks.task(i), self.task_ctx(i)).metrics
            for i in range(len(self))
        ]

    def only(self, index: int) -> Setting:
        """One of the tasks alone."""
        return self.part(index, index + 1)

    def part(self, start: int, stop: int) -> Setting:
        """Some of the tasks; step scalars stay those of all."""
        return replace(self, tasks=self.tasks.slice(start, stop), noise=self.noise[start:stop])

    def at(self, **changes: Any) -> Setting:
        """The same at another phase, outer step or number of inner steps, with draws for it."""
        ctx = replace(self.ctx, **changes)
        return replace(self, ctx=ctx, noise=noise_of(self.case, self.algorithm, ctx, len(self)))

    def loop(self) -> ChunkResult:
        """The engine's gradient, task by task."""
        return Loop().chunk(self.algorithm, self.params, self.tasks, self.noise, self.ctx)

    def vmap(self, size: int) -> list[ChunkResult]:
        """The engine's gradient, ``size`` tasks at once."""
        parts = [self.part(start, start + size) for start in range(0, len(self), size)]
        return [
            Vmap(size).chunk(self.algorithm, self.params, p.tasks, p.noise, self.ctx) for p in parts
        ]

    @functools.cached_property
    def looped(self) -> ChunkResult:
        """``loop()``, computed once."""
        return self.loop()

    @functools.cached_property
    def exact(self) -> Params:
        """The derivative of the loss itself, task by task on the tape, without the engine."""
        parts = []
        for index in range(len(self)):
            at = leaves(self.params)
            parts.append(derivative(self.loss(at, index), at))
        return total(parts)

    @functools.cached_property
    def defined(self) -> tuple[Tensor, Tensors]:
        """Losses [T] and summed gradient by the algorithm's definition."""
        definition = DEFINITIONS[self.case.algorithm]
        learner = replace(self.case.reference, step_scalars=self.ctx.step_scalars)
        pairs = [
            definition(learner, self.params, episode, noise)
            for episode, noise in zip(self.episodes, self.noise, strict=True)
        ]
        return torch.stack([value for value, _ in pairs]), total(g for _, g in pairs)


def noise_of(case: Case, algorithm: Learner, ctx: Context, count: int) -> list[dict[str, Tensor]]:
    """Random numbers of each task."""
    key = Key.of("contract", case.model)
    return [algorithm.noise(key.fold("draws", i), ctx) for i in range(count)]


def step_scalars_of(setting: Setting, size: int | None = None) -> dict[str, Tensor]:
    """The step scalars of all tasks, as the trainer hands them on; of ``size`` tasks at once."""
    names = setting.algorithm.step_scalar_names
    if not names:
        return {}
    how: GradientStrategy = Vmap(size) if size else Loop()
    parts = [setting.part(i, i + (size or 1)) for i in range(0, len(setting), size or 1)]
    tables = [
        how.step_scalars(setting.algorithm, setting.params, p.tasks, p.noise, setting.ctx)
        for p in parts
    ]
    dtype = getattr(torch, setting.case.dtype)
    return {n: row.to(dtype) for n, row in zip(names, torch.cat(tables, 1), strict=True)}


def make(case: Case) -> Setting:
    """A case made concrete."""
    key = Key.of("contract", case.model)
    shape = case.network.shape
    algorithm = build(case.recipe, shape)
    dtype = getattr(torch, case.dtype)
    params = {
        name: (p.double() + 0.1 * key.fold(name).normal(p.shape, torch.float64)).to(dtype)
        for name, p in algorithm.init(key).items()
    }
    ctx = context(case.recipe, "train", case.outer_step)
    ctx = replace(ctx, state=algorithm.initial_state(ctx))
    tasks = tasks_of(algorithm, synthetic_episodes(shape, key, TASKS), dtype)
    return of_tasks(case, algorithm, params, tasks, ctx)


def of_tasks(
    case: Case, algorithm: Learner, params: Params, tasks: TaskBatch, ctx: Context
) -> Setting:
    """These parameters on these tasks, with random numbers and step scalars."""
    noise = noise_of(case, algorithm, ctx, len(tasks))
    setting = Setting(case, algorithm, params, tasks, ctx, noise)
    return replace(setting, ctx=replace(ctx, step_scalars=step_scalars_of(setting)))
