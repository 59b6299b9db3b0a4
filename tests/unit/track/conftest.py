"""A tracking store and a run that nobody has sent there yet."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from metadist import track
from metadist.recipe.schema import Recipe, load_recipe
from metadist.runs.listing import create_run
from metadist.runs.run_dir import RunDir


@pytest.fixture
def uri(template: Path, tmp_path: Path) -> str:
    shutil.copy(template, tmp_path / "mlflow.db")
    return track.default_tracking_uri(tmp_path)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return load_recipe("strokes-5w1s-maml")


@pytest.fixture
def run(tmp_path: Path, recipe: Recipe) -> RunDir:
    facts = {
        "dataset": {"name": "strokes", "digest": "d" * 64},
        "versions": {"metadist": "0.1.0"},
        "learner": {"algorithm": "maml", "norm": "transductive", "derivative_order": 2},
        "mlflow": None,
        "result": None,
    }
    return create_run(tmp_path / "runs", "demo", recipe, facts)
