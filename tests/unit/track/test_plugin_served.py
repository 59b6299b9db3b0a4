"""A learner of values from outside behind MLflow's own server."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from plugin_files import install
from plugin_parts import FOLDER, LEARNED

import metadist
from tests.unit.track.test_served import ask, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_server_says_what_the_loaded_model_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, learned, _ = LEARNED
    monkeypatch.chdir(tmp_path)
    install(tmp_path / "site", "set-lab", {}, algorithm__set_regression="lab_sets")
    (tmp_path / "site/lab_sets.py").write_bytes((FOLDER / "set_regression.py").read_bytes())
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    learned.train(tmp_path, "sets", plugins=(), offline=False)
    registered = metadist.register("sets")
    model = metadist.load("sets")
    (tmp_path / "runs").rename(tmp_path / "gone")

    x = np.random.default_rng(0).uniform(-5, 5, (6, 1))
    y, query = np.sin(x), np.linspace(-5, 5, 4)[:, None]
    found = model.adapt(x, y).predict(query)
    rows = [{"role": "support", "x": [*a], "y": [*b]} for a, b in zip(x, y, strict=True)]
    rows += [{"role": "query", "x": [*a], "y": []} for a in query]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path / "site"),
        "MLFLOW_TRACKING_URI": registered["tracking_uri"],
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    with serving(registered["uri"], environment, tmp_path / "serve.log") as address:
        status, answer = ask(address, {"dataframe_records": rows})
        assert status == 200, answer
        assert found.scale is not None
        assert [row["mean"] for row in answer["predictions"]] == found.mean.tolist()
        assert [row["scale"] for row in answer["predictions"]] == found.scale.tolist()
        status, answer = ask(address, {"dataframe_records": rows[6:]})
        assert status == 400
        assert "no support point" in answer["message"]
