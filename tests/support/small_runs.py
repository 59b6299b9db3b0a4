"""Small run directories for tests."""

from __future__ import annotations

from pathlib import Path

from metadist.compute.resolve import resolve
from metadist.episode_data import open_data
from metadist.recipe.schema import Recipe, load_recipe
from metadist.runs.listing import create_run
from metadist.runs.run_dir import RunDir

SMALL = (
    "outer.steps=6",
    "outer.batch=4",
    "engine.mode=loop",
    "engine.chunk=1",
    "eval.every=3",
    "eval.episodes=4",
    "eval.val_episodes=4",
    "eval.extra_queries=0",
    "eval.steps=2",
)


def small_run(directory: Path, *more: str) -> tuple[RunDir, Path]:
    """A run directory of a small sinusoid recipe, and its data directory."""
    recipe = resolve(load_recipe("sinusoid-10shot-maml", (*SMALL, *more)))
    data = directory / "data"
    return fresh_run(directory, recipe, data), data


def fresh_run(directory: Path, recipe: Recipe, data: Path) -> RunDir:
    """A run directory of a sinusoid recipe."""
    digest = open_data(recipe, data).digest
    facts = {"dataset": {"name": "sinusoid", "digest": digest}, "mlflow": None}
    return create_run(directory / "runs", "small", recipe, facts)
