"""Recipes learn what they should, in ranges that tell right from wrong."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest

import metadist

pytestmark = [pytest.mark.slow, pytest.mark.learning]


def _by_step(run: Path, protocol: str) -> list[float]:
    summary = json.loads((run / "evaluation" / f"{protocol}.json").read_text())
    return [row["mean"] for row in summary["by_step"]]


@pytest.mark.long
def test_strokes_reach_their_accuracy_on_unseen_characters(tmp_path: Path) -> None:
    result = metadist.train(
        "strokes-5w1s-maml",
        name="a",
        data_dir=tmp_path / "data",
        runs_dir=tmp_path / "runs",
        offline=True,
    )
    # Raw-pixel nearest neighbour has 48 %, chance 20 %.
    assert result["accuracy_15q"] >= 0.80
    assert result["failed"] == 0
    before = _by_step(tmp_path / "runs" / "a", "test-15q")[0]
    # Labels are permuted in every episode: before adaptation nothing can be known.
    assert before == pytest.approx(0.2, abs=0.02)


@pytest.mark.long
def test_sinusoid_reaches_its_published_shape(tmp_path: Path) -> None:
    curves = []
    for seed in range(3):
        metadist.train(
            "sinusoid-10shot-maml",
            name=f"seed{seed}",
            overrides=["outer.steps=5000", f"run.seed={seed}"],
            data_dir=tmp_path / "data",
            runs_dir=tmp_path / "runs",
            offline=True,
        )
        curves.append(_by_step(tmp_path / "runs" / f"seed{seed}", "test-10q"))
    mean = [fmean(column) for column in zip(*curves, strict=True)]
    # No predictor that has not seen the support can be below 3.006.
    assert 2.7 <= mean[0] <= 3.5
    assert 0.45 <= mean[1] <= 0.70
    assert 0.12 <= mean[10] <= 0.27
    assert mean[0] > mean[1] > mean[2] > mean[3]


def test_omniglot_learns_fast(tmp_path: Path, data_root: Path) -> None:
    metadist.prepare("omniglot", source=data_root / "omniglot", data_dir=tmp_path / "data")
    result = metadist.train(
        "omniglot-5w1s-maml",
        name="a",
        overrides=["outer.steps=400", "eval.every=400", "eval.episodes=300"],
        data_dir=tmp_path / "data",
        runs_dir=tmp_path / "runs",
        offline=True,
    )
    # Raw-pixel nearest neighbour has 48 %; 4,400 steps reach 95 %.
    assert result["accuracy"] >= 0.80
