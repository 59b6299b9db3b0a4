"""Where one classifier is right on every training task, MAML learns it and not to adapt.

Yin et al., "Meta-Learning without Memorization", ICLR 2020, section 3.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

import metadist
from metadist.runs.log import LogReader
from metadist.runs.run_dir import RunDir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.learning,
    pytest.mark.long,
    pytest.mark.timeout(1800),
]

#: A quarter of the recipes' steps.
STEPS = 2000


def accuracies(root: Path, recipe: str) -> tuple[float, float]:
    """After adaptation: on tasks of training characters, late in training, and of unseen ones."""
    overrides = (
        f"outer.steps={STEPS}",
        f"eval.every={STEPS}",
        "eval.extra_queries=0",
        "eval.episodes=200",
    )
    result = metadist.train(
        recipe,
        name=recipe,
        overrides=overrides,
        data_dir=root / "data",
        runs_dir=root / "runs",
        offline=True,
    )
    points = LogReader(RunDir(root / "runs" / recipe)).poll()
    trained = [p.value for p in points if p.metric == "train/accuracy" and p.step > STEPS - 100]
    assert trained
    return fmean(trained), result["accuracy"]


def test_maml_collapses_on_fixed_labels_and_not_on_others(tmp_path: Path) -> None:
    fixed_seen, fixed_unseen = accuracies(tmp_path, "strokes-20w1s-fixed-maml")
    seen, unseen = accuracies(tmp_path, "strokes-20w1s-maml")
    # Chance is 5 %. Labels that mean nothing are learned in the task: seen or not, all the same.
    assert seen - unseen < 0.2
    assert unseen > 0.28
    # Labels that mean something are known by heart, and nothing is known of others.
    assert fixed_seen > 0.6
    assert fixed_unseen < 0.2
    assert fixed_unseen < unseen / 1.8
