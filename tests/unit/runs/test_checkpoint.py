"""Checkpoints that somebody has altered, seals and all, are damaged ones and no more than that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from data_pipeline.storage.local import read_sealed_json, sha256_bytes, write_sealed_json
from metadist.errors import DamagedCheckpoint
from metadist.runs import checkpoints
from metadist.runs.run_dir import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run with checkpoints of steps 1 and 2."""
    run = RunDir(tmp_path)
    data = safetensors.torch.save({"params/w": torch.ones(3)})
    for step in (1, 2):
        path = checkpoints.directory(run, step)
        path.mkdir(parents=True)
        (path / "state.safetensors").write_bytes(data)
        body = {
            "step": step,
            "best": {"step": 1, "score": 0.5},
            "lineage": "mine",
            "files": {"state.safetensors": {"sha256": sha256_bytes(data), "bytes": len(data)}},
        }
        write_sealed_json(path / "checkpoint.json", body)
    return run


def test_the_newest_is_found(run: RunDir) -> None:
    found = checkpoints.newest(run, "mine")
    assert found is not None
    assert found[0].step == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.update(files=[]),
        lambda body: body.update(files=["state.safetensors"]),
        lambda body: body.update(files={"state.safetensors": "x"}),
        lambda body: body.update(files={}),
        lambda body: body["files"]["state.safetensors"].pop("bytes"),
        lambda body: body["files"]["state.safetensors"].pop("sha256"),
        lambda body: body.pop("step"),
        lambda body: body.update(step="2"),
        lambda body: body.update(step=None),
        lambda body: body.pop("best"),
        lambda body: body.update(best=[]),
        lambda body: body.update(best={"step": 1}),
        lambda body: body.update(best={"step": 1, "score": "good"}),
        lambda body: body.update(best={"step": [], "score": 1.0}),
    ],
)
def test_an_altered_record_is_named_and_passed_over(
    change: Callable[[dict[str, Any]], object], run: RunDir, caplog: pytest.LogCaptureFixture
) -> None:
    path = checkpoints.directory(run, 2)
    body = read_sealed_json(path / "checkpoint.json")
    change(body)
    write_sealed_json(path / "checkpoint.json", body)
    with pytest.raises(DamagedCheckpoint, match="step-00000002"):
        checkpoints.load(path)
    found = checkpoints.newest(run, "mine")
    assert found is not None
    assert found[0].step == 1
    assert "damaged checkpoint passed over" in caplog.text
