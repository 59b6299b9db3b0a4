"""Learners that were not trained, with their episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ended_runs import FUNCTIONS

from metadist.compute.learners import build, context, initial_params
from metadist.compute.resolve import resolve
from metadist.episode_data import open_data
from metadist.evaluation.inference.task_facts import TaskFacts
from metadist.evaluation.inference.trained_model import TrainedModel
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.recipe.schema import parse_recipe

CPU = torch.device("cpu")


def learner(
    text: str = FUNCTIONS, *overrides: str, root: Path = Path()
) -> tuple[TrainedLearner, Any]:
    """A fresh learner and its episodes."""
    recipe = resolve(parse_recipe(text, "fresh", overrides))
    data = open_data(recipe, root)
    algorithm = build(recipe, data.shape)
    params = initial_params(recipe, algorithm)
    state = algorithm.initial_state(context(recipe, "train", 0))
    return TrainedLearner(algorithm, params, state, recipe, CPU), data


def sources(trained: TrainedLearner, data: Any) -> tuple[Any, Any]:
    section = trained.recipe.data
    return data.live("train", section.queries, section.seed), data.live("test", 7, 0)


def fresh_model(
    text: str, *overrides: str, root: Path = Path(), shots: int = 2
) -> tuple[TrainedModel, Any]:
    """A learner as a model in memory, and the test episodes of its data."""
    trained, data = learner(text, *overrides, root=root)
    facts = {"run": trained.recipe.algorithm.name}
    return TrainedModel(trained, TaskFacts.of(data), facts), data.live("test", 2, 0, shots)
