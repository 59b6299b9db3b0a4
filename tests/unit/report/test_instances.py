"""Accuracy by instance in reports and comparisons: drawn, in a table, damaged ones noted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from compared_runs import compared_run, scores
from report_page import read
from report_runs import image_recipe, make_run, write_results

import metadist
from metadist.comparison import render, text
from metadist.runs.run_dir import RunDir

TOLD = {"first_example": 0.21, "instances": [0.36, 0.828, 0.91, 0.926, 0.949, None]}


def tell(run: RunDir, name: str, told: object) -> None:
    """Let a file of results say this of instances."""
    path = run.evaluation / f"{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "by_instance": told}))


def finished(root: Path, told: object) -> RunDir:
    run = make_run(root, image_recipe(), status="finished")
    write_results(run, 1)
    tell(run, "test-1q", told)
    return run


@pytest.mark.drawn
def test_a_report_draws_them(tmp_path: Path):
    page = read(finished(tmp_path, TOLD))
    assert "The very first image of an episode: 21.0 %." in page.text
    assert "instances" in page.ids
    for words in ("Accuracy by instance, 60 episodes", "36.0 %", "best guess at a first one"):
        assert words in page.text, words


@pytest.mark.drawn(False)
def test_a_damaged_record_is_noted(tmp_path: Path):
    page = read(finished(tmp_path, {"first_example": 0.2, "instances": [7]}))
    assert "accuracies lie in [0, 1]" in page.text


@pytest.mark.drawn(False)
def test_a_comparison_has_a_row_for_each_run_that_has_them(tmp_path: Path):
    for name in ("plain", "memory"):
        run = compared_run(tmp_path, name, score=scores(0.8))
        if name == "memory":
            tell(run, "test-1q", TOLD)
    result = metadist.compare(["plain", "memory"], runs_dir=tmp_path)
    assert "by_instance" not in result["runs"][0]
    assert result["runs"][1]["by_instance"] == TOLD
    lines = [" ".join(line.split()) for line in text(result)]
    assert "memory 21.0 % 36.0 % 82.8 % 91.0 % 92.6 % 94.9 %" in lines
    assert "accuracy by instance" in render(result)
