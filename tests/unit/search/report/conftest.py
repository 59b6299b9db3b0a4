"""A search that has ended."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from search_dirs import (
    finished_search,
)

from metadist.search.search_dir import SearchDir


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SearchDir:
    """A search that has ended; not to be altered."""
    return finished_search(tmp_path_factory.mktemp("made"))


@pytest.fixture
def search(made: SearchDir, tmp_path: Path) -> SearchDir:
    """A copy that a test may alter."""
    return SearchDir(Path(shutil.copytree(made.path, tmp_path / "searches" / "demo")))
