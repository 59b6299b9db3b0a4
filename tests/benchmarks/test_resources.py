"""Where time and memory of a run go: by its own accounting, with wide margins."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

import metadist
from metadist.runs.log import series
from metadist.runs.run_dir import RunDir
from metadist.training.trainer import Trainer

pytestmark = [pytest.mark.slow, pytest.mark.benchmark]


def test_time_is_spent_in_the_engine(tmp_path: Path) -> None:
    metadist.train(
        "strokes-5w1s-maml",
        name="a",
        overrides=["outer.steps=60", "eval.every=60", "eval.episodes=20", "eval.val_episodes=20"],
        data_dir=tmp_path / "data",
        runs_dir=tmp_path / "runs",
        offline=True,
    )
    points = series(RunDir(tmp_path / "runs" / "a"))
    assert points["perf/engine"][-1].value >= 0.90
    assert points["perf/data_wait"][-1].value <= 0.05


@pytest.mark.parametrize("mode", ["loop", "vmap"])
def test_memory_is_flat_over_a_thousand_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    resident: list[int] = []
    process = psutil.Process()
    original = Trainer.step

    def watched(self: Trainer, *arguments: object) -> object:
        if self.step_done % 50 == 0:
            resident.append(process.memory_info().rss)
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "step", watched)
    metadist.train(
        "strokes-5w1s-maml",
        name="a",
        overrides=[
            "outer.steps=1000",
            "outer.batch=2",
            "model.filters=16",
            f"engine.mode={mode}",
            f"engine.chunk={2 if mode == 'vmap' else 1}",
            "eval.every=200",
            "eval.val_episodes=4",
            "eval.episodes=4",
        ],
        data_dir=tmp_path / "data",
        runs_dir=tmp_path / "runs",
        offline=True,
    )
    # The first steps warm caches up; after that nothing may grow with the number of steps.
    settled = resident[4:]
    assert len(settled) == 16
    growth = max(settled[8:]) - max(settled[:8])
    assert growth < 16 * 2**20, [r // 2**20 for r in resident]
