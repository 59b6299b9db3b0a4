"""A profile says where the time of a step went."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.profiler import record_function

from metadist.training.profile import MARK, PASSED, RECORDED, StepProfile


def step() -> None:
    with record_function(f"{MARK}gradients"):
        torch.ones(64, 64) @ torch.ones(64, 64)
    with record_function(f"{MARK}outer update"):
        torch.ones(8).add_(1.0)


def profiled(folder: Path, steps: int) -> None:
    profile = StepProfile(folder, 0, "worker 0 of 1, 4 tasks")
    for _ in range(steps):
        profile.before_step()
        step()
        profile.after_step()
    profile.close()


def test_some_steps_are_recorded_and_summed_up(tmp_path: Path):
    profiled(tmp_path / "profile", PASSED + RECORDED + 2)
    page = (tmp_path / "profile" / "breakdown-0.txt").read_text()
    assert page.startswith(f"worker 0 of 1, 4 tasks: {RECORDED} outer steps, ")
    rows = [line.split(None, 3) for line in page.splitlines() if " ms " in line and "%" in line]
    named = {name: float(share.rstrip("%")) for _, _, share, name in rows}
    assert {"gradients", "outer update"} <= named.keys()
    assert "aten::mm (1 calls)" in named
    phases = [named[n] for n in named if "::" not in n and "(" not in n]
    assert sum(phases) == pytest.approx(100.0, abs=0.5)
    events = json.loads((tmp_path / "profile" / "trace-0.json").read_text())["traceEvents"]
    marks = [event for event in events if event.get("name") == f"{MARK}gradients"]
    assert len([mark for mark in marks if mark.get("cat") == "user_annotation"]) == RECORDED


def test_a_run_that_is_too_short_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    profiled(tmp_path / "profile", PASSED)
    assert not (tmp_path / "profile").exists()
    assert "No outer step was recorded" in caplog.text


def test_what_was_recorded_of_a_short_run_is_written(tmp_path: Path):
    profiled(tmp_path / "profile", PASSED + 1)
    assert ": 1 outer steps, " in (tmp_path / "profile" / "breakdown-0.txt").read_text()
