"""A directory of runs of a small problem, and how one dies there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import metadist
from metadist.runs.log import series
from metadist.runs.run_dir import RunDir
from metadist.training.trainer import Trainer

SETTINGS = (
    "outer.steps=12",
    "outer.batch=4",
    "engine.mode=loop",
    "engine.chunk=1",
    "eval.every=5",
    "eval.episodes=6",
    "eval.val_episodes=4",
    "eval.extra_queries=20",
    "eval.steps=2",
    "run.checkpoint_every=4",
    "run.keep=2",
)


class Place:
    """A directory with runs of a small sinusoid recipe."""

    def __init__(self, directory: Path) -> None:
        self.runs = directory / "runs"

    def train(self, *more: str, recipe: str = "sinusoid-10shot-maml", **options: Any) -> Any:
        """Train with the settings above and more."""
        return metadist.train(
            recipe,
            overrides=[*SETTINGS, *more],
            runs_dir=self.runs,
            data_dir=self.runs.parent / "data",
            **{"offline": True, **options},
        )

    def run(self, name: str) -> RunDir:
        """A run by name."""
        return RunDir(self.runs / name)


class Boom(Exception):
    """Stands for a process that dies."""


def die_before(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let training die before this outer step (counted from 0)."""
    original = Trainer.step

    def dying(self: Trainer, *arguments: Any) -> Any:
        if self.step_done == step:
            raise Boom
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "step", dying)


def died(place: Place, monkeypatch: pytest.MonkeyPatch, step: int, *more: str, name: str) -> None:
    """A run that died before ``step``."""
    with monkeypatch.context() as patch:
        die_before(patch, step)
        with pytest.raises(Boom):
            place.train(*more, name=name)


def losses(run: RunDir) -> list[tuple[int, float]]:
    """(step, loss) in the log."""
    return [(p.step, p.value) for p in series(run)["train/loss"]]


def files(run: RunDir) -> dict[str, bytes]:
    """Everything under ``evaluation/``."""
    return {p.name: p.read_bytes() for p in sorted(run.evaluation.iterdir())}
