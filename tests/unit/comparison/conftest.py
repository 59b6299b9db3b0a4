"""Three runs that go together."""

from __future__ import annotations

from pathlib import Path

import pytest
from compared_runs import compared_run, scores


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Runs ``base``, ``good`` and ``same``, which differ in step sizes and figures."""
    compared_run(tmp_path, "base", score=scores(0.6, seed=1))
    compared_run(tmp_path, "good", "inner.lr=0.1", "outer.batch=8", score=scores(0.7, seed=2))
    compared_run(tmp_path, "same", "outer.lr=0.01", score=scores(0.6, seed=3), workers=4)
    return tmp_path
