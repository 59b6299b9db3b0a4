"""From a recipe to its learner, the learner's first parameters, contexts and random keys."""

from __future__ import annotations

import torch

from metadist import algorithms, backbones
from metadist.algorithms import Parts
from metadist.backbones import Backbone
from metadist.errors import RecipeError
from metadist.keys import Key
from metadist.learner import Learner
from metadist.recipe.rate_changes import parse_changes, rate_after
from metadist.recipe.schema import Recipe
from metadist.tasks import Context, Params, Phase, TaskShape


def build(recipe: Recipe, shape: TaskShape) -> Learner:
    """The learner of a recipe for tasks of this shape.

    Raises:
        RecipeError: a part or an option is unknown, or does not fit the tasks.
    """
    if shape.kind == "regression" and recipe.inner.loss != "mean":
        raise RecipeError(
            f"inner.loss: regression has no ways to sum over; 'mean' is needed, got "
            f"{recipe.inner.loss!r}"
        )

    def network(wanted: TaskShape) -> Backbone:
        built = backbones.build(recipe.model.name, recipe.model.options, wanted)
        if recipe.model.norm != "none" and not built.norm_layers:
            raise RecipeError(
                f"model.norm: network {recipe.model.name!r} has no normalisation layers; 'none' is "
                f"needed, got {recipe.model.norm!r}"
            )
        return built

    parts = Parts(
        network=network,
        shape=shape,
        inner_lr=recipe.inner.lr,
        inner_loss=recipe.inner.loss,
        options=algorithms.options(recipe.algorithm.name, recipe.algorithm.options),
        inner_steps=recipe.inner.steps,
    )
    return algorithms.build(recipe.algorithm.name, parts)


class Learners:
    """The learner of a run, whose inner learning rate may change between outer steps.

    Raises:
        RecipeError: see :func:`build`; or the rate changes and this learner learns its own.
    """

    def __init__(self, recipe: Recipe, shape: TaskShape) -> None:
        self._recipe, self._shape = recipe, shape
        self._changes = parse_changes(recipe.inner.lr_changes)
        self._built: dict[float, Learner] = {}
        first = self.after(0)
        if self._changes:
            start = initial_params(recipe, first)
            for step, _ in self._changes:
                other = initial_params(recipe, self.after(step))
                if any(not torch.equal(p, start[name]) for name, p in other.items()):
                    raise RecipeError(
                        f"inner.lr_changes: {recipe.algorithm.name} learns its step sizes, and "
                        "inner.lr is where they start; leave the changes out"
                    )

    def after(self, done: int) -> Learner:
        """The learner for the outer step that follows when so many are done."""
        return self._with(rate_after(self._recipe.inner.lr, self._changes, done))

    def at(self, checkpoint: int) -> tuple[Learner, Recipe]:
        """The learner that has been trained for so many outer steps, to be evaluated, and its
        recipe with the inner learning rate that it was trained with last."""
        lr = rate_after(self._recipe.inner.lr, self._changes, max(checkpoint - 1, 0))
        return self._with(lr), self._recipe.with_inner_lr(lr)

    def _with(self, lr: float) -> Learner:
        if lr not in self._built:
            self._built[lr] = build(self._recipe.with_inner_lr(lr), self._shape)
        return self._built[lr]


def context(recipe: Recipe, phase: Phase, step: int) -> Context:
    """What the learner may know in this phase; its state is added by the caller."""
    training = phase == "train"
    return Context(
        phase=phase,
        step=step,
        total_steps=recipe.outer.steps,
        inner_steps=recipe.inner.steps if training else recipe.eval_steps,
        trained_steps=recipe.inner.steps,
        norm=recipe.model.norm,
    )


def initial_params(recipe: Recipe, algorithm: Learner) -> Params:
    """Fresh parameters: a function of the recipe's ``run.seed`` alone."""
    dtype = getattr(torch, recipe.engine.dtype)
    params = algorithm.init(Key.of("metadist", recipe.run.seed).fold("init"))
    return {name: p.to(dtype) for name, p in params.items()}


def episode_key(recipe: Recipe, phase: Phase, step: int, episode: int) -> Key:
    """The random key of one task: a function of seed, step and episode id."""
    seed = recipe.run.seed if phase == "train" else recipe.eval.seed
    return Key.of("metadist", seed).fold(phase, step, episode)
