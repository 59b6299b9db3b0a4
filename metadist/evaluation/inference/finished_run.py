"""The best checkpoint of a finished run as a model in memory, without the run's data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from data_pipeline.errors import DataError
from metadist.compute.digest import params_sha256
from metadist.compute.learners import at_checkpoint, build
from metadist.episode_data import open_data
from metadist.errors import RecipeError, RunError
from metadist.evaluation.evaluation_lock import EvaluationLock
from metadist.evaluation.inference.task_facts import KEY, TaskFacts
from metadist.evaluation.inference.trained_model import TrainedModel
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.recipe.schema import Recipe
from metadist.runs.checkpoints import Best, TrainState
from metadist.runs.readers.plugins import read_plugins
from metadist.runs.record import UNREADABLE, describe
from metadist.runs.run_dir import RunDir

#: Plugins that data are made with; a run that says how it reads examples does without.
_OF_DATA = ("dataset", "function", "episode_source")
_FIGURES = ("ci95", "classes", "ci95_classes")


def check_finished(run: RunDir) -> dict[str, Any]:
    """The record of a run that is finished.

    Raises:
        RunError: it is not.
    """
    info = run.info()
    if info["status"] != "finished":
        raise RunError(
            f"{run.path}: a finished run is needed, this one is {info['status']!r}; let it "
            f"end, or go on with --resume {run.name}"
        )
    return info


def plugins_of(info: Mapping[str, Any]) -> dict[str, Any]:
    """The plugins that a run's learner cannot do without, as run.json has them.

    Raises:
        RunError: that is no record of plugins.
    """
    try:
        plugins = read_plugins(info.get("plugins", {}))
    except ValueError as error:
        raise RunError(f"run.json of {info.get('name')}: {error}") from None
    return {kind: made for kind, made in plugins.items() if KEY not in info or kind not in _OF_DATA}


def open_finished(
    run: RunDir,
    data_dir: Path,
    device: torch.device,
    parts: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> TrainedModel:
    """The model of a run. Its plugins must be in use.

    Args:
        data_dir: looked into for runs that do not say themselves how they read examples.
        parts: see :class:`TrainedModel`.

    Raises:
        RunError: the run is not finished, has no good checkpoint, or its data are needed and not
            there.
        NumericsError: the data are others than the run's.
    """
    info, recipe = check_finished(run), run.recipe()
    tasks = _tasks(run, info, recipe, data_dir)
    best = _best(run, info, EvaluationLock.of(run, recipe).state())
    recipe = at_checkpoint(recipe, best.step)
    trained = TrainedLearner.of(build(recipe, tasks.shape), best, recipe, device)
    dataset, result = info["dataset"], info.get("result") or {}
    facts = {
        "run": run.name,
        "recipe_hash": info["recipe_hash"],
        "dataset": dataset["name"],
        "split": dataset.get("split", ""),
        "dataset_digest": dataset["digest"],
        "licence": dataset.get("licence", ""),
        "checkpoint": {"step": best.step, "params_sha256": params_sha256(best.params)},
    }
    figures = (trained.metric.name, *_FIGURES)
    facts |= {name: result.get(name) for name in figures}
    return TrainedModel(trained, tasks, facts, plugins_of({KEY: None, **info}), parts)


def _tasks(run: RunDir, info: Mapping[str, Any], recipe: Recipe, data_dir: Path) -> TaskFacts:
    """What the run says of its tasks; of an older run, what its data say."""
    if KEY in info:
        try:
            return TaskFacts.read(**info[KEY])
        except UNREADABLE as error:
            raise RunError(f"{run.path}: 'tasks' in run.json: {describe(error)}") from None
    try:
        data = open_data(recipe, data_dir)
    except (DataError, RecipeError) as error:
        raise RunError(
            f"{run.path}: it was made before runs noted how they read examples, so its data are "
            f"needed, and cannot be opened ({error}); name their directory with data_dir "
            "(--data-dir)"
        ) from None
    data.check(run.path, info["dataset"]["digest"])
    return TaskFacts.of(data)


def _best(run: RunDir, info: Mapping[str, Any], state: TrainState) -> Best:
    result = info.get("result") or {}
    step = result.get("best_step")
    if not step:  # it has learned nothing: any is as good
        return state.best or state.current()
    found = [best for best in (state.best, state.current()) if best and best.step == step]
    if not found:
        raise RunError(
            f"{run.path}: its result is of the checkpoint of step {step}, which the last one (of "
            f"step {state.step}) does not hold; one of them was altered, put it back"
        )
    return found[0]
