"""A run that was trained, for tests of what explains it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ended_runs import FUNCTIONS, ended_run

from metadist.runs.run_dir import RunDir


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="session")
def masked(root: Path) -> RunDir:
    """An MT-net on sinusoids."""
    return ended_run(root, "masked", FUNCTIONS, "algorithm.name=mtnet", "eval.steps=3")


@pytest.fixture
def run(masked: RunDir, tmp_path: Path) -> RunDir:
    """A copy that a test may alter."""
    return RunDir(Path(shutil.copytree(masked.path, tmp_path / "masked")))
