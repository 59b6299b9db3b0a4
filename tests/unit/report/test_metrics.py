"""Whatever an objective measures is shown as what it is: names, directions, percents, failures."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from compared_runs import drawn_classes
from report_page import read
from report_runs import function_recipe, image_recipe, make_run, write_log, write_results

from metadist.objectives import MSE, NLL, Metric
from metadist.report.figures import learning_curves
from metadist.runs.log import LogWriter
from metadist.runs.readers.evaluations import read_figures
from metadist.runs.readers.run_data import load_run
from metadist.runs.run_dir import RunDir
from metadist.statistics.format import exact_ci, logarithmic, mean_of, score, score_ci

# Of most pages the text is looked at.
pytestmark = pytest.mark.drawn(False)

NAN = float("nan")
#: Of a stranger's objectives: an error, a share of which more is better, a gain without bounds.
SPREAD = Metric("spread", "spread of errors", higher_is_better=False)
HITS = Metric("hits", "hits among five", higher_is_better=True, percent=True, failed=0.25)
GAIN = Metric("gain", "return", higher_is_better=True)


def measured(root: Path, metric: Metric, **more: object) -> RunDir:
    """A finished run on functions whose objective is a stranger's."""
    run = make_run(root, function_recipe(), status="finished")
    write_log(run, 100, accuracy=False)
    write_results(run, 10, regression=True, metric=metric, **more)  # type: ignore[arg-type]
    return run


@pytest.mark.drawn
def test_a_strangers_error_is_an_error(tmp_path):
    run = measured(tmp_path, SPREAD, failed=3)
    page = read(run)
    for words in (
        "spread of errors on 60 test episodes of unseen functions, 10 queries, after 1",
        "Spread of errors after each adaptation step",
        "mean spread of errors ± 95 % CI",
        "spread of errors of an episode",
        "Outputs were not finite in 3 of 60 (10 queries); left out of the mean.",
        "The curve is the mean over the rest.",
        "lowest spread of errors on validation episodes",
        "median",
    ):
        assert words in page.text, words
    assert "mean squared error" not in page.text
    assert "accuracy" not in page.text
    # The zero-shot floor is one of squared errors.
    assert "loor" not in page.text


def test_intervals_for_new_classes_are_in_the_units_of_the_metric(tmp_path):
    run = make_run(tmp_path, image_recipe(), status="finished")
    write_log(run, 100, accuracy=False)
    write_results(run, 1, metric=GAIN, classes=drawn_classes(60, 20))
    page = read(run).text
    assert re.search(r"20 classes; ± [\d.]+ for new classes", page)
    table = page[page.index("95 % CI, new classes") :]
    assert re.search(r"\b1 [\d.]+ ± [\d.]+ ± [\d.]+ ", table)


def test_a_strangers_share_is_read_in_percent_and_has_no_chance(tmp_path):
    run = make_run(tmp_path, image_recipe(), status="finished")
    write_results(run, 1, metric=HITS, failed=2)
    page = read(run)
    for words in (
        "% hits among five on 60 test episodes of unseen classes",
        "Outputs were not finite in 2 of 60 (1 query per class); counted with hits among five 0.25",
        "Their hits among five is 0.25.",
        "highest hits among five on validation episodes",
    ):
        assert words in page.text, words
    assert "chance" not in page.text
    assert "median" not in page.text


@pytest.mark.slow
@pytest.mark.drawn
def test_who_says_what_is_measured_has_a_level_of_chance_and_a_floor(tmp_path):
    run = make_run(tmp_path / "images", image_recipe(), status="finished")
    write_results(run, 1, metric=replace(HITS, measures="right"))
    assert "chance" in read(run).text
    run = measured(tmp_path, replace(SPREAD, measures="squared_error"))
    assert "Zero-shot floor" in read(run).text


def test_an_unfinished_run_says_what_its_metric_is(tmp_path):
    told = {"learner": {"metrics": {"hits": HITS.as_dict()}}}
    for info, expected in (
        (told, HITS),
        ({"learner": {"metrics": {"hits": 3}}}, None),
        ({"learner": []}, None),
    ):
        run = make_run(tmp_path / str(len(str(info))), function_recipe(), **info)
        writer = LogWriter(run.claim({}))
        writer.add(1, {"train/hits": 0.5, "val/hits": 0.25})
        writer.flush()
        found = load_run(run).metric
        assert found == (expected or Metric("hits", "hits", higher_is_better=False)), info


def test_a_gain_is_not_drawn_as_an_error(tmp_path):
    run = measured(tmp_path, GAIN)
    stored = load_run(run).protocols[0]
    assert stored.metric == GAIN
    assert "highest return on validation episodes" in read(run).text
    assert not logarithmic(GAIN, [1.0, 2.0])
    assert logarithmic(SPREAD, [1.0, 2.0])
    assert not logarithmic(NLL, [-1.0, 2.0])


def test_further_metrics_and_pooled_ones_stand_beside_it(tmp_path):
    """The deciding one is the likelihood; the squared error and a coverage are told, too."""
    run = measured(tmp_path, NLL, others=(MSE, HITS), pooled={"coverage_95": 0.93})
    stored = load_run(run).protocols[0]
    assert [own.metric for own in stored.further[:2]] == [HITS, MSE]
    assert stored.further[2].metric.title == "coverage 95"
    figures = [own.mean[stored.figure_step] for own in stored.further]
    assert figures == pytest.approx([stored.figure.mean / 100, stored.figure.mean / 100, 0.93])
    assert math.isnan(stored.further[2].ci95[1])
    page = read(run)
    for words in (
        "negative log-likelihood on 60 test episodes of unseen functions",
        "mean squared error on the same test episodes",
        "hits among five on the same test episodes",
        "0.930 coverage 95 on the same test episodes",
        "query loss hits among five mean squared error coverage 95",
    ):
        assert words in page.text, words


def test_a_record_that_does_not_describe_its_metric_is_damaged(tmp_path):
    run = measured(tmp_path, SPREAD)
    path = run.evaluation / "test-10q.json"
    raw = json.loads(path.read_text())
    for broken in (
        {"metric": None},
        {"metric": {"name": "other"} | raw["metric"] | {"name": "other"}},
        {"metric": [1]},
        {"metrics": {"mse": {"mean": [1.0], "ci95": [1.0]}}},
        {"metrics": {"mse": 3}},
        {"pooled": {"coverage_95": "high"}},
        {"pooled": {1000 * "x": [1.0, 1.0]}},
        {"metrics": {"<b>": {"mean": [1.0, 1.0], "ci95": [1.0, 1.0]}}},
        {"metric": raw["metric"] | {"higher_is_better": "false"}},
    ):
        path.write_text(json.dumps(raw | broken))
        assert "evaluation/test-10q.json cannot be read" in read(run).text, broken


def test_a_further_metric_that_is_badly_described_is_called_by_its_name(tmp_path):
    run = measured(tmp_path, NLL, others=(HITS,))
    path = run.evaluation / "test-10q.json"
    raw = json.loads(path.read_text())
    odd = HITS.as_dict() | {"percent": "false"}
    for told in (None, [1], odd, {"name": "hits"}, {"name": "other", "title": "<b>"}):
        raw["metrics"]["hits"]["metric"] = told
        path.write_text(json.dumps(raw))
        assert load_run(run).protocols[0].further[0].metric.title == "hits", told
    raw["metrics"]["hits"]["metric"] = HITS.as_dict() | {"title": "<i>" + 999 * "x"}
    path.write_text(json.dumps(raw))
    page = read(run)
    assert "<i>" + 77 * "x" + " on the same" in page.text


@pytest.mark.drawn
def test_what_training_reports_is_drawn(tmp_path):
    run = make_run(tmp_path, function_recipe())
    writer = LogWriter(run.claim({"world_size": 1}))
    for step in range(1, 101):
        writer.add(step, {"train/loss": -0.1 * step, "train/mse": 1 / step, "train/kl/z": 2.0})
        if step % 50 == 0:
            writer.add(step, {"val/nll": -0.2 * step, "val/loss": -0.2 * step})
    writer.flush()
    data = load_run(run)
    assert data.metric == NLL
    drawn = learning_curves(data, None)
    # The likelihood is the loss, and has no figure of its own.
    assert [figure.partition("Query ")[2].partition(" after")[0] for figure in drawn] == [
        "loss",
        "mean squared error",
        "kl/z",
    ]


def test_a_metric_that_is_not_the_loss_has_a_curve(tmp_path):
    run = make_run(tmp_path, function_recipe())
    writer = LogWriter(run.claim({"world_size": 1}))
    for step in (1, 2):
        writer.add(step, {"train/loss": 1.0, "val/gain": float(step), "val/loss": 2.0})
    writer.flush()
    assert len(learning_curves(load_run(run), None)) == 2


def test_labels_are_told_from_values_by_the_recipe(tmp_path):
    run = make_run(tmp_path, image_recipe(), status="finished")
    write_results(run, 1, metric=NLL)
    assert read_figures(run, "test-1q").labels
    assert "1 query per class" in read(run).text
    (run.path / "recipe.toml").write_text("[data\n")
    assert not read_figures(run, "test-1q").labels


@pytest.mark.parametrize(
    ("metric", "value", "ci95", "short", "long"),
    [
        (HITS, 0.8731, 0.0051, ("87.3", "± 0.5 %"), "87.31 % ± 0.51 %"),
        (MSE, 0.5341, 0.041, ("0.534", "± 0.041"), "0.5341 ± 0.0410"),
        (GAIN, -12.5, NAN, ("-12.5", ""), "-12.5000"),
        (SPREAD, 1.2e9, 1e8, ("1.20e+09", "± 1.00e+08"), "1.200e+09 ± 1.000e+08"),
    ],
)
def test_figures_in_words(metric, value, ci95, short, long):
    assert score_ci(metric, value, ci95) == short
    assert exact_ci(metric, value, ci95) == long
    assert score(metric, value).split(" ")[0] == short[0]
    assert score_ci(metric, NAN, NAN) == ("none finite", "")


def test_a_mean_of_means_is_called_a_mean():
    assert mean_of(MSE) == "mean squared error"
    assert mean_of(replace(MSE, title="error")) == "mean error"


@pytest.mark.slow
def test_readers_of_run_directories_load_no_torch():
    script = (
        "import sys, metadist.comparison, metadist.report.html; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
