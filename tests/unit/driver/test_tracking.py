"""Which tracking store a run is sent to."""

from __future__ import annotations

import pytest

from metadist.driver import tracking
from metadist.driver.request import RunRequest


@pytest.mark.parametrize("given", [None, ""])
def test_without_an_address_the_store_lies_beside_the_runs(given, tmp_path, monkeypatch):
    """An empty one is that of a variable which is not set: ``--tracking-uri "$STORE"``."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    asked = []
    monkeypatch.setattr(tracking, "ensure_experiment", lambda uri, experiment: asked.append(uri))
    tracking.check_tracking(RunRequest(runs_dir=tmp_path / "runs", tracking_uri=given))
    assert asked == [f"sqlite:///{tmp_path}/mlflow.db"]
