"""The ROC curve of a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from report_page import read
from report_runs import finished_run

from metadist.evaluation.measures.roc import Pairs
from metadist.keys import Key
from metadist.runs.run_dir import RunDir


def verified(root: Path, **more: list[float]) -> RunDir:
    """A finished run whose main protocol has pairs."""
    run = finished_run(root)
    path = run.evaluation / "test-1q.json"
    same = torch.arange(60) % 3 == 0
    pairs = Pairs.of(Key.of("pairs").normal((60,)) + same, same)
    summary = json.loads(path.read_text())
    summary["verification"] = pairs.facts(pairs.best_threshold(), "val") | more
    path.write_text(json.dumps(summary))
    return run


@pytest.mark.slow
@pytest.mark.drawn
def test_the_curve_is_drawn(tmp_path: Path):
    page = read(verified(tmp_path))
    for words in (
        "Are two examples of the same class?",
        "of 20 pairs of the same class and 40 of different ones",
        "chosen on validation pairs",
    ):
        assert words in page.text, words


@pytest.mark.drawn(False)
def test_without_pairs_there_is_none(tmp_path: Path):
    assert "Are two examples of the same class?" not in read(finished_run(tmp_path)).text


@pytest.mark.drawn(False)
def test_a_damaged_curve_is_told(tmp_path: Path):
    text = read(verified(tmp_path, true_positive_rate=[0.0, 1.5])).text
    assert "evaluation/test-1q.json cannot be read: ValueError: verification: a curve" in text
