"""From a recipe to its learner, the learner's first parameters, contexts and random keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from metadist import algorithms, backbones, objectives
from metadist.algorithms import Parts
from metadist.backbones import Backbone
from metadist.context import Context
from metadist.discovery import Options
from metadist.errors import PluginError, RecipeError, RunError
from metadist.inner.normalisation import DROPS
from metadist.kernels.library import available
from metadist.keys import Key
from metadist.learner import Learner
from metadist.recipe.rate_changes import rate_after
from metadist.recipe.schema import Recipe
from metadist.tasks import Params, Phase, TaskShape


def build(recipe: Recipe, shape: TaskShape, parts_of: type[Parts[Options]] = Parts) -> Learner:
    """The learner of a recipe for tasks of this shape.

    Torch computes where compiled kernels are asked for and there are none, so that what was trained
    can be looked at anywhere. Whoever trains demands them.

    Args:
        parts_of: makes what the learner is built from.

    Raises:
        RecipeError: a part or an option is unknown, or does not fit the tasks.
    """
    objective = objectives.build(recipe.objective.name, recipe.objective.options, shape)
    if not shape.ways and recipe.inner.loss != "mean":
        raise RecipeError(
            f"inner.loss: {objective.name} has no ways to sum over; 'mean' is needed, got "
            f"{recipe.inner.loss!r}"
        )

    made: list[Backbone] = []

    def network(wanted: TaskShape) -> Backbone:
        built = backbones.build(recipe.model.name, recipe.model.options, wanted)
        if recipe.model.norm != "none" and not built.norm_layers:
            raise RecipeError(
                f"model.norm: network {recipe.model.name!r} has no normalisation layers; 'none' is "
                f"needed, got {recipe.model.norm!r}"
            )
        made.append(built)
        library = available() if recipe.engine.kernels == "fused" else None
        return built if library is None else built.with_kernels(library)

    parts = parts_of(
        network=network,
        shape=shape,
        objective=objective,
        inner_lr=recipe.inner.lr,
        inner_loss=recipe.inner.loss,
        options=algorithms.options(recipe.algorithm.name, recipe.algorithm.options),
        inner_steps=recipe.inner.steps,
    )
    learner = algorithms.build(recipe.algorithm.name, parts)
    if "loss" not in learner.metric_names:
        raise PluginError(
            f"algorithm {recipe.algorithm.name!r}: metric_names has to name 'loss', which every "
            f"step reports; got {', '.join(learner.metric_names) or 'nothing'}"
        )
    if any(one.drops for one in made):
        _check_dropped(recipe, learner)
    return learner


def _check_dropped(recipe: Recipe, learner: Learner) -> None:
    """A network that drops something is to have the numbers that say what."""
    if DROPS not in learner.noise(Key.of("metadist"), context(recipe, "train", 0)):
        raise RecipeError(
            f"network {recipe.model.name!r} drops a part of its features in training, and "
            f"algorithm {recipe.algorithm.name!r} has no random numbers for it: noise(key, ctx) of "
            f"a Normalised learner returns them ({DROPS!r}), and an own one has to add them, "
            "{**super().noise(key, ctx), ...}; or take a network that drops nothing"
        )


def with_ways(recipe: Recipe, shape: TaskShape, params: Params, ways: int) -> Learner:
    """A trained learner for tasks of another number of classes than it was trained for.

    Args:
        shape: of the tasks it was trained for.
        params: what it has learned.

    Raises:
        RunError: something that it has learned has the size of the number of classes.
    """
    if ways == shape.ways:
        return build(recipe, shape)
    if not shape.ways:
        raise RunError(f"ways: {recipe.data.dataset} has no classes, {ways} were asked for")
    learner = build(recipe, replace(shape, outputs=ways, ways=ways))
    fresh = initial_params(recipe, learner)
    ctx = context(recipe, "train", 0)
    states = (one.initial_state(ctx) for one in (build(recipe, shape), learner))
    found = zip((params, fresh), states, strict=True)
    shapes = [{n: t.shape for n, t in (*p.items(), *state.items())} for p, state in found]
    if sized := sorted({name for name, _ in shapes[0].items() ^ shapes[1].items()}):
        raise RunError(
            f"ways: {recipe.algorithm.name} was trained to tell {shape.ways} classes apart and "
            f"cannot tell {ways}: {', '.join(sized)} of what it has learned has that size; train "
            f"with data.ways = {ways}, or take a learner whose parameters do not depend on it"
        )
    return learner


def check_rate_changes(recipe: Recipe, shape: TaskShape) -> None:
    """See that an inner learning rate that changes is one that the learner is told.

    Raises:
        RecipeError: it changes, and this learner learns its own.
    """
    if not recipe.inner.lr_changes:
        return
    asked: list[str] = []

    class Watched(Parts[Options]):
        def __getattribute__(self, name: str) -> Any:
            if name == "inner_lr":
                asked.append(name)
            return super().__getattribute__(name)

    build(recipe, shape, Watched)
    if asked:
        raise RecipeError(
            f"inner.lr_changes: {recipe.algorithm.name} learns its step sizes, and inner.lr is "
            "where they start (or it keeps the rate that it is built with, parts.inner_lr, and "
            "does not read ctx.inner_lr); leave the changes out"
        )


def at_checkpoint(recipe: Recipe, step: int) -> Recipe:
    """The recipe of a learner that was trained for so many outer steps, to be evaluated: its inner
    learning rate is the one it was trained with last."""
    return recipe.with_inner_lr(inner_lr(recipe, max(step - 1, 0)))


def inner_lr(recipe: Recipe, done: int) -> float:
    """The inner learning rate of the outer step that follows when so many are done."""
    return rate_after(recipe.inner.lr, recipe.inner.lr_changes, done)


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
        inner_lr=inner_lr(recipe, step),
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
