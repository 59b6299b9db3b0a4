"""Meta-learning is worth it: baselines stay where the theory says that they must."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import metadist

pytestmark = [pytest.mark.slow, pytest.mark.learning, pytest.mark.timeout(900)]


def by_step(directory: Path, algorithm: str, steps: int, *more: str) -> list[float]:
    """Mean error on 600 sinusoids after 0, 1, ... adaptation steps."""
    metadist.train(
        "sinusoid-10shot-maml",
        name=algorithm,
        overrides=[
            f"algorithm.name={algorithm}",
            f"outer.steps={steps}",
            "engine.mode=vmap",
            "engine.chunk=25",
            *more,
        ],
        data_dir=directory / "data",
        runs_dir=directory / "runs",
        offline=True,
    )
    file = directory / "runs" / algorithm / "evaluation" / "test-100q.json"
    return [row["mean"] for row in json.loads(file.read_text())["by_step"]]


@pytest.mark.long
def test_fine_tuning_a_joint_network_is_far_from_maml_and_from_the_oracle(tmp_path: Path) -> None:
    tuned = by_step(tmp_path, "finetune", 2000)
    # It has learned the mean of all sinusoids, than which nothing is better before a support set
    # is seen (3.006), and gets away from it slowly.
    assert 2.7 <= tuned[0] <= 3.5
    assert 1.3 <= tuned[10] <= 2.0
    assert tuned[0] > tuned[1] > tuned[2] > tuned[3]
    maml = by_step(tmp_path, "maml", 5000)
    assert tuned[10] >= 4 * maml[10]
    told = by_step(tmp_path, "oracle", 2000, "inner.steps=0", "eval.steps=1")
    assert told[0] <= 0.1


@pytest.mark.long
def test_a_fresh_network_learns_little_from_ten_points(tmp_path: Path) -> None:
    error = by_step(tmp_path, "scratch", 1)
    # E[y^2] = E[A^2] / 2 = 4.25 is the error of predicting 0.
    assert 4.0 <= error[0] <= 5.0
    assert 3.6 <= error[10] <= 4.8
