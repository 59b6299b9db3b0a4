"""A learner on tiny synthetic tasks, in float64, away from any special point."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args, get_origin

import torch
from torch import Tensor

from metadist import algorithms
from metadist.compute.learners import build, context
from metadist.compute.strategies import ChunkResult, Loop, Vmap
from metadist.context import Context, NormMode
from metadist.errors import RecipeError
from metadist.keys import Key
from metadist.learner import Learner
from metadist.overrides import Scalar
from metadist.recipe.schema import Recipe
from metadist.tasks import Params, Prediction, TaskBatch, TaskShape, wanted

TASKS, WAYS, SHOTS, QUERIES = 5, 3, 2, 2
#: Different training classes of the images.
CLASSES = 6
IMAGE, POINT = (1, 8, 8), (2,)
TOTAL_STEPS = 1000
SEED = Key.of("metadist", "check")

Dtype = Literal["float32", "float64"]


@dataclass(frozen=True)
class Where:
    """On which network, in which normalisation mode, with which options a learner is tried."""

    model: str
    options: Mapping[str, Scalar]
    shape: TaskShape
    norm: NormMode = "none"
    part_options: Mapping[str, Scalar] = field(default_factory=dict)

    def __str__(self) -> str:
        norm = [] if self.norm == "none" else [f"norm {self.norm}"]
        given = [f"{key} = {value!r}" for key, value in self.part_options.items()]
        return ", ".join([self.model, self.shape.targets, *norm, *given])


LABELS = TaskShape(IMAGE, WAYS, WAYS, classes=CLASSES, attributes=2)
VALUES = TaskShape(POINT, 1, latent=2)
_MLP: dict[str, Scalar] = {"hidden": 6, "activation": "tanh"}
_CONV: dict[str, Scalar] = {"filters": 3, "affine": "scale_shift"}

PLACES = (
    Where("mlp", _MLP, LABELS),
    Where("mlp", _MLP, VALUES),
    Where("conv4", _CONV, LABELS, "transductive"),
    Where("conv4", _CONV, LABELS, "support"),
    Where("conv4", _CONV, LABELS, "running"),
)


def columns(shape: TaskShape, key: Key) -> dict[str, Tensor]:
    """Every column that tasks can have here, float64: noisy prototypes, or linear maps."""
    if shape.ways:
        return _images(shape, key)
    # Their mean is not 0: there is something to learn for those who do not adapt.
    slope = 1 + key.fold("slope").normal((TASKS, *shape.inputs, shape.outputs), torch.float64)
    found = {"latent": slope.reshape(TASKS, -1)}
    for name, each in (("support", SHOTS), ("query", QUERIES), ("unlabeled", SHOTS)):
        x = key.fold(name).normal((TASKS, WAYS * each, *shape.inputs), torch.float64)
        found |= {f"{name}_x": x, f"{name}_y": torch.matmul(x, slope)}
    return found


def _images(shape: TaskShape, key: Key) -> dict[str, Tensor]:
    prototypes = SEED.normal((shape.classes, *shape.inputs), torch.float64)
    order = key.fold("classes").uniform((TASKS, shape.classes), torch.float64).argsort(1)
    classes = order[:, : shape.ways]
    told = SEED.fold("attributes").normal((shape.classes, shape.attributes), torch.float64)
    found = {"class_ids": classes, "class_attributes": told[classes]}
    for name, each in (("support", SHOTS), ("query", QUERIES), ("unlabeled", SHOTS)):
        noise = key.fold(name).normal((TASKS, shape.ways, each, *shape.inputs), torch.float64)
        images = prototypes[classes][:, :, None] + 0.5 * noise
        labels = torch.arange(shape.ways).repeat_interleave(each).repeat(TASKS, 1)
        # Nothing is to be known of an example by its place.
        mixed = key.fold("order", name).uniform((TASKS, shape.ways * each)).argsort(1)
        rows = torch.arange(TASKS)[:, None]
        x = images.reshape(TASKS, -1, *shape.inputs)[rows, mixed]
        found |= {f"{name}_x": x, f"{name}_y": labels[rows, mixed]}
    # One of them is of none of the ways.
    found["unlabeled_y"][:, 0] = -1
    return found


@dataclass(frozen=True)
class Setting:
    """A learner made concrete.

    Attributes:
        name: of the part in recipes.
        all: every column that its tasks could have.
    """

    name: str
    where: Where
    learner: Learner
    params: Params
    all: Mapping[str, Tensor]
    ctx: Context
    noise: list[dict[str, Tensor]]

    @property
    def tasks(self) -> TaskBatch:
        """The tasks as the engine hands them on in this phase."""
        needs, phase = self.learner.needs, self.ctx.phase
        chosen = {n: t for n, t in self.all.items() if wanted(n, needs, phase)}
        count = len(self.all["support_x"])
        return TaskBatch(tuple(range(count)), {**chosen, "slot": torch.arange(count)})

    @property
    def trains(self) -> bool:
        """Whether there is anything that is meta-learned."""
        return self.learner.estimator != "none" and bool(self.params)

    def task_ctx(self, index: int) -> Context:
        """What the learner may know of a task."""
        return self.ctx.for_task(self.noise[index])

    def value(self, params: Params, index: int = 0) -> Tensor:
        """The loss of one task."""
        return self.learner.loss(params, self.tasks.task(index), self.task_ctx(index)).value

    def at(self, **changes: Any) -> Setting:
        """The same at another phase or step, with random numbers for it."""
        ctx = replace(self.ctx, **changes)
        return replace(self, ctx=ctx, noise=noise_of(self.learner, ctx, len(self.noise)))

    @property
    def tested(self) -> Setting:
        """The same in the test phase, with one step more than in training."""
        return self.at(phase="test", inner_steps=self.ctx.inner_steps + 1)

    def chunk(self, start: int, stop: int, size: int = 0) -> ChunkResult:
        """The engine's gradient of some tasks, one after the other or ``size`` at once."""
        strategy = Vmap(size) if size else Loop()
        tasks, noise = self.tasks.slice(start, stop), self.noise[start:stop]
        return strategy.chunk(self.learner, self.params, tasks, noise, self.ctx)

    def predictions(self, tasks: TaskBatch | None = None, size: int = 0) -> list[list[Prediction]]:
        """What is predicted of each task after each step, by a learner that sees what it may."""
        strategy = Vmap(size) if size else Loop()
        chosen = self.tasks if tasks is None else tasks
        return strategy.predict(self.learner, self.params, chosen, self.noise, self.ctx)

    @functools.cached_property
    def looped(self) -> ChunkResult:
        """All tasks, one after the other."""
        return self.chunk(0, len(self.noise))


def noise_of(learner: Learner, ctx: Context, count: int) -> list[Params]:
    """Random numbers of each task."""
    return [learner.noise(SEED.fold("noise", index), ctx) for index in range(count)]


def recipe_of(name: str, where: Where, dtype: Dtype) -> Recipe:
    """A learner in this place, as a recipe says it."""
    return Recipe.model_validate(
        {
            "data": {"dataset": "none", "ways": WAYS, "shots": SHOTS, "queries": QUERIES},
            "model": {"name": where.model, "norm": where.norm, **where.options},
            "algorithm": {"name": name, **where.part_options},
            "inner": {"lr": 0.05, "steps": 2, "loss": "mean"},
            "outer": {"steps": TOTAL_STEPS},
            "engine": {"dtype": dtype},
        }
    )


def make(name: str, where: Where, dtype: Dtype = "float64", step: int = 0) -> Setting:
    """A learner in a place.

    Raises:
        RecipeError: it does not work there.
    """
    recipe, kind = recipe_of(name, where, dtype), getattr(torch, dtype)
    learner = build(recipe, where.shape)
    params = {
        n: (p.double() + 0.1 * SEED.fold(n).normal(p.shape, torch.float64)).to(kind)
        for n, p in learner.init(SEED).items()
    }
    ctx = context(recipe, "train", step)
    ctx = replace(ctx, state=learner.initial_state(ctx))
    everything = {
        n: t.to(kind) if t.is_floating_point() else t
        for n, t in columns(where.shape, SEED.fold("tasks")).items()
    }
    noise = noise_of(learner, ctx, TASKS)
    setting = Setting(name, where, learner, params, everything, ctx, noise)
    if not learner.step_scalar_names:
        return setting
    table = Loop().step_scalars(learner, params, setting.tasks, noise, ctx)
    named = zip(learner.step_scalar_names, table.to(kind), strict=True)
    return replace(setting, ctx=replace(ctx, step_scalars=dict(named)))


def places(name: str, options: Mapping[str, Scalar]) -> Iterator[Where]:
    """Where a learner says that it works."""
    for where in PLACES:
        if where.shape.targets in algorithms.targets(name):
            yield replace(where, part_options=options)


def switched(name: str, options: Mapping[str, Scalar]) -> Iterator[Mapping[str, Scalar]]:
    """Options with one truth value or choice exchanged for each of its other values."""
    usual = algorithms.options(name, dict(options))
    for option, declared in type(usual).model_fields.items():
        now = getattr(usual, option)
        choices = [False, True] if declared.annotation is bool else _choices(declared.annotation)
        for value in choices:
            if value == now:
                continue
            try:
                algorithms.options(name, {**options, option: value})
            except RecipeError:  # not without other options
                continue
            yield {**options, option: value}


def _choices(annotation: Any) -> list[Any]:
    """The values of a Literal, also inside a union."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for one in get_args(annotation) for value in _choices(one)]
