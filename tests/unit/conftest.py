"""Where the runs of a test go, and an MLflow store that is made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_place import Place

from metadist import track


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database whose tables were made once; to be copied."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    track.ensure_experiment(f"sqlite:///{path}", "other")
    return path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty place."""
    return Place(tmp_path)
