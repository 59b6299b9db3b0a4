"""Which MLflow store a request means."""

from __future__ import annotations

from pathlib import Path

import pytest

from metadist.driver import tracking
from metadist.driver.request import RunRequest


@pytest.mark.parametrize("given", [None, ""])
def test_a_store_that_is_not_named_is_the_file_beside_the_runs(
    given: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--tracking-uri "$MLFLOW_TRACKING_URI"`` names none where that is not set."""
    asked: list[str] = []
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(tracking, "ensure_experiment", lambda uri, _: asked.append(uri))
    tracking.check_tracking(RunRequest(tracking_uri=given, runs_dir=tmp_path / "runs"))
    assert asked == [f"sqlite:///{tmp_path}/mlflow.db"]
