"""The HTML report: complete, self-contained, escaped, reproducible, and honest about gaps."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from report_page import read, seen
from report_runs import (
    finished_run,
    function_recipe,
    image_recipe,
    make_run,
    write_function_examples,
    write_log,
    write_results,
)

from metadist.errors import RunError
from metadist.report import write_report
from metadist.report.figures import smooth
from metadist.report.html import render
from metadist.report.phrases import plural
from metadist.report.sections.episodes import label
from metadist.runs.log import LogWriter
from metadist.runs.readers.run_data import load_run
from metadist.runs.run_dir import RunDir
from metadist.statistics.classes import EpisodeClasses
from metadist.statistics.format import number

# Of most pages the text is looked at.
pytestmark = pytest.mark.drawn(False)


@pytest.mark.drawn
def test_a_finished_run_is_told_whole(tmp_path):
    page = read(finished_run(tmp_path))
    means = re.findall(r"(\d\d\.\d) ± \d\.\d % accuracy on 60 test episodes of unseen", page.text)
    assert len(means) == 2
    for words in (
        "1 query per class, after 1 adaptation step",
        "15 queries per class, after 1 adaptation step",
        "before adaptation",
        "chosen on validation classes, never on test",
        "step 250",
        "Query loss after adaptation",
        "Query accuracy after adaptation",
        "checkpoint chosen",
        "worst tenth",
        "Test episode 3",
        "2 (through the adaptation)",
        "231.4",
        "0 failed",
        "d" * 64,
        "e" * 64,
        "a" * 64,
        "Transductive normalisation.",
        "not finite",
    ):
        assert words in page.text, words
    assert "Bits unverified" not in page.text
    assert "secret" not in page.text
    # 4 episodes of 5 supports and 15 queries.
    assert page.tags.count("img") == 4 * 20
    assert {"✓", "✗"} <= set(page.text)


def test_ways_other_than_in_training_and_too_few_classes_are_said(tmp_path):
    data = load_run(finished_run(tmp_path))
    ids = np.arange(60 * 3, dtype=np.int64).reshape(60, 3) % 16
    protocols = [
        replace(
            own,
            classes=EpisodeClasses(ids, 4, 4),
            steps=tuple(replace(step, ci95_classes=1.45) for step in own.steps),
        )
        for own in data.protocols
    ]
    text = seen(render(replace(data, protocols=protocols)))
    assert "accuracy on 60 3-way test episodes of unseen classes (4 classes; no interval, " in text
    assert "there are too few classes" in text
    assert "± 145" not in text


@pytest.mark.drawn
def test_nothing_is_fetched_and_nothing_can_run(tmp_path):
    run = finished_run(tmp_path)
    page = read(run)
    assert "script" not in page.tags
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    text = run.report.read_text()
    assert "default-src 'none'" in text
    rest = text.replace("http://www.w3.org/2000/svg", "").replace(
        "http://www.w3.org/1999/xlink", ""
    )
    assert "http:" not in rest
    assert "https:" not in rest
    assert "url(http" not in rest


@pytest.mark.slow
@pytest.mark.drawn
def test_ids_of_the_figures_do_not_meet(tmp_path):
    page = read(finished_run(tmp_path))
    assert page.ids
    assert len(page.ids) == len(set(page.ids))
    assert all(link[1:] in page.ids for link in page.links if link.startswith("#"))


@pytest.mark.slow
@pytest.mark.drawn
def test_the_same_directory_gives_the_same_bytes(tmp_path):
    run = finished_run(tmp_path)
    first = write_report(run).read_bytes()
    import matplotlib as mpl

    with mpl.rc_context({"lines.linewidth": 9.0, "font.size": 30.0}):  # somebody's own settings
        assert write_report(run).read_bytes() == first


@pytest.mark.drawn
def test_text_from_the_run_directory_is_escaped(tmp_path):
    evil = "<script>alert(1)</script><img src=x onerror='alert(2)'>\"&"
    run = finished_run(tmp_path)
    run.update(
        status=evil,
        dataset={"name": evil, "digest": evil, "licence": evil},
        versions={evil: evil},
        learner={"algorithm": evil, "derivative_order": evil, "nested": {evil: [evil]}},
        mlflow={"experiment": evil, "run_id": evil},
        numerics={evil: {evil: evil}},
    )
    page = read(run)
    assert "script" not in page.tags
    assert page.tags.count("img") == 4 * 20
    assert page.text.count("alert(1)") >= 8


@pytest.mark.drawn
def test_colours_follow_the_page(tmp_path):
    text = write_report(finished_run(tmp_path)).read_text()
    assert "var(--main)" in text
    assert not re.search(r"#0\dfe0\d", text)
    assert "prefers-color-scheme: dark" in text


@pytest.mark.slow
@pytest.mark.drawn
def test_functions_are_drawn_with_their_fits(tmp_path):
    run = make_run(tmp_path, function_recipe(), status="finished")
    write_log(run, 120, accuracy=False)
    for queries in (10, 100):
        write_results(run, queries, regression=True, failed=2)
    write_function_examples(run)
    page = read(run)
    for words in (
        "10-shot regression",
        "mean squared error on 60 test episodes of unseen functions",
        "Mean squared error after each adaptation step",
        "truth",
        "after 2 steps",
        "Test episode 3",
        "Failed episodes. Outputs were not finite in 2 of 60 (10 queries), 2 of 60 (100 queries)",
        "left out of the mean",
    ):
        assert words in page.text, words
    assert "Transductive" not in page.text
    assert "img" not in page.tags


@pytest.mark.parametrize(("ways", "shots"), [(20, 1), (20, 5), (2, 3)])
def test_other_sizes_of_episodes(tmp_path, ways, shots):
    page = read(finished_run(tmp_path, image_recipe(ways, shots, "running"), channels=3))
    each = max(1, 15 // ways)
    assert page.tags.count("img") == 4 * (ways * shots + ways * min(each, 4))
    assert "Transductive" not in page.text


def test_a_new_run_says_what_is_missing(tmp_path):
    page = read(make_run(tmp_path, image_recipe()))
    for words in (
        "This run has not begun.",
        "No points in the log yet.",
        "No evaluation on test episodes yet",
        "No test episodes are kept",
    ):
        assert words in page.text, words


@pytest.mark.drawn
def test_an_unfinished_run_shows_its_curve(tmp_path):
    run = make_run(tmp_path, image_recipe(), status="running")
    write_log(run, 80)
    page = read(run)
    assert "80 of 300 outer steps done" in page.text
    assert "Query loss after adaptation" in page.text


def test_an_empty_result_before_any_step_and_one_point(tmp_path):
    run = make_run(tmp_path, image_recipe(), status="failed")
    write_log(run, 1)
    assert "This run ended early." in read(run).text


def test_losses_that_are_not_finite_are_counted(tmp_path):
    run = make_run(tmp_path, image_recipe(), status="failed")
    writer = LogWriter(run.claim({"bits": "unverified"}))
    for step, loss in enumerate([1.0, math.nan, math.inf, 0.5], 1):
        writer.add(step, {"train/loss": loss, "train/accuracy": 0.5})
    writer.flush()
    page = read(run)
    assert "2 steps without a finite loss are left out." in page.text
    assert "Bits unverified." in page.text


def test_no_run_no_report(tmp_path):
    with pytest.raises(RunError, match=r"run\.json"):
        write_report(RunDir(tmp_path))


def test_words():
    assert plural(1, "query") == "1 query"
    assert plural(15, "query") == "15 queries"
    assert plural(2, "way") == "2 ways"
    assert number(1.6) == "1.60"
    assert number(0.0967, like=1.14) == "0.10"
    assert number(123.4) == "123"
    assert number(1e-7) == "1.00e-07"
    assert number(0.0) == "0"
    assert number(math.nan) == "nan"
    assert label(0) == "A"
    assert label(25) == "Z"
    assert label(26) == "27"


def test_smoothing_keeps_the_mean_of_a_constant_and_the_ends():
    assert np.allclose(smooth(np.full(20, 3.0), 7), 3.0)
    ramp = np.arange(30, dtype=float)
    assert np.allclose(smooth(ramp, 5)[2:-2], ramp[2:-2])
    assert smooth(ramp, 5)[0] == pytest.approx(1.0)
