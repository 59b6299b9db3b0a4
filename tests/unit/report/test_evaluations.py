"""Evaluations in the report: every protocol, what failed in it, and files that are damaged."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from compared_runs import drawn_classes
from damage import flip
from report_page import read
from report_runs import finished_run, function_recipe, image_recipe, make_run, write_results
from safetensors.numpy import save_file

# Of most pages the text is looked at.
pytestmark = pytest.mark.drawn(False)

# --- protocols ------------------------------------------------------------------------------------


def test_the_recipe_decides_which_protocol_leads(tmp_path):
    recipe = image_recipe()
    own = recipe.model_copy(update={"eval": recipe.eval.model_copy(update={"queries": 15})})
    run = make_run(tmp_path, own, status="finished")
    write_results(run, 1)
    write_results(run, 15)
    text = read(run).text
    assert text.index("15 queries per class") < text.index("1 query per class")


@pytest.mark.slow
@pytest.mark.drawn
def test_other_protocols_stand_beside_the_recipes_own(tmp_path):
    run = finished_run(tmp_path)
    write_results(run, 15, name="test-5shot-3step-15q", shots=5, figure_step=3)
    write_results(run, 1, name="val-1q")
    for episodes in range(100, 600, 100):  # more than there are colours
        write_results(run, 1, name=f"test-{episodes}episodes-1q")
    page = read(run)
    own = "60 test episodes, 1 query per class"
    other = "60 test episodes, 5 shots, 3 steps, 15 queries per class (test-5shot-3step-15q)"
    for words in (
        own,
        other,
        "60 validation episodes, 1 query per class (val-1q)",
        "60 test episodes, 500 episodes, 1 query per class (test-500episodes-1q)",
    ):
        assert words in page.text, words
    assert page.text.index(own) < page.text.index(other)
    # In the legend of the curve and in the table; the figures on top are the recipe's own.
    assert page.text.count("5 shots, 3 steps, 15 queries per class") == 2
    assert page.text.count("of unseen classes") == 2
    assert "Different checkpoints." not in page.text


def test_classes_stand_beside_every_figure(tmp_path):
    run = finished_run(tmp_path)
    before = read(run).text
    assert "60 episodes, number of classes not recorded, 0 failed" in before
    assert "new classes;" not in before
    write_results(run, 1, classes=drawn_classes(60, 20))
    write_results(run, 15, classes=drawn_classes(60, 20))
    write_results(run, 1, name="val-1q", classes=drawn_classes(60, 5))
    page = read(run).text
    assert re.search(
        r"± \d\.\d % accuracy on 60 test episodes of unseen classes \(20 classes; ± \d+\.\d % for "
        r"new classes\), 1 query per class",
        page,
    )
    for words in (
        "60 test episodes of 20 classes, 1 query per class",
        "60 validation episodes of 5 classes, 1 query per class (val-1q)",
        "60 episodes of 20 classes, 0 failed",
        "20 test classes are fewer than 5 x 5 ways: the interval over episodes says little",
        "5 validation classes are fewer than 5 x 5 ways",
        "95 % CI, new classes",
    ):
        assert words in page, words
    assert page.count("20 test classes are fewer") == 1  # one line, however many protocols
    table = page[page.index("60 validation episodes of 5") :]
    assert re.search(r"trained|1 \d\d\.\d ± \d\.\d % none ", table)
    # Means are as before; a record that is damaged is told of, and nothing else is lost.
    assert (
        re.findall(r"\d\d\.\d ± \d\.\d %", before)[:2]
        == (re.findall(r"\d\d\.\d ± \d\.\d %", page)[:2])
    )
    (run.evaluation / "test-15q.parquet").unlink()
    assert "of unseen classes (20 classes), 15 queries per class" in read(run).text
    flip(run.evaluation / "test-1q.classes.parquet", 60)
    damaged = read(run).text
    assert "evaluation/test-1q.classes.parquet cannot be read" in damaged
    assert "60 test episodes, 1 query per class" in damaged


def test_classes_that_are_enough_are_no_warning(tmp_path):
    run = finished_run(tmp_path)
    turned = replace(drawn_classes(60, 423), turned=1692)
    write_results(run, 1, classes=turned)
    page = read(run).text
    assert "test episodes of 423 classes, 1,692 with turns, 1 query" in page
    assert "Few classes." not in page


def test_figures_of_another_checkpoint_are_told_of(tmp_path):
    run = finished_run(tmp_path)
    write_results(run, 5, name="test-5q", checkpoint=100)
    page = read(run)
    assert "The figures are of step 250, but not all: 5 queries per class: step 100." in page.text
    assert "4" * 64 in page.text  # both digests are among the facts
    assert "a" * 64 in page.text


@pytest.mark.parametrize("regression", [False, True])
def test_divergence_is_told_for_every_step(tmp_path, regression):
    recipe = function_recipe() if regression else image_recipe()
    run = make_run(tmp_path, recipe, status="finished")
    write_results(run, recipe.eval.queries, regression=regression, failed=7)
    path = run.evaluation / f"test-{recipe.eval.queries}q.json"
    raw = json.loads(path.read_text())
    raw["failed_by_step"] = [0, 7, 60, 60]
    raw["by_step"][2]["mean"] = 3.4e26 if regression else 0.5
    raw["by_step"][3] |= {"mean": None, "ci95": None, "median": None}
    path.write_text(json.dumps(raw))
    page = read(run)
    told = "step 1: 7 of 60 episodes diverged, steps 2 to 3: 60 of 60 episodes diverged."
    assert told in page.text
    assert page.text.count("7 of 60 episodes diverged") == 2  # below the curve and in the table
    assert ("median" in page.text) == regression
    if regression:
        assert "3.40e+26" in page.text
        assert "The curve is the mean over the rest." in page.text
    else:
        assert "Their accuracy is 0." in page.text


def test_an_evaluation_without_any_finite_episode(tmp_path):
    run = make_run(tmp_path, function_recipe(), status="finished")
    write_results(run, 10, regression=True, failed=60)
    page = read(run)
    assert "none finite" in page.text
    assert "60 of 60" in page.text


def test_an_evaluation_of_before_can_be_read(tmp_path):
    run = make_run(tmp_path, function_recipe(), status="finished")
    write_results(run, 10, regression=True)
    path = run.evaluation / "test-10q.json"
    raw = json.loads(path.read_text())
    del raw["figure_step"], raw["shots"]
    for row in raw["by_step"]:
        del row["median"]
    path.write_text(json.dumps(raw))
    page = read(run)
    assert "cannot be read" not in page.text
    assert "after 1 adaptation step" in page.text
    assert "median" not in page.text


# --- damaged and altered files --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["test-1q.json", "test-1q.parquet", "examples.safetensors"],
)
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_named(tmp_path, name, damage):
    run = finished_run(tmp_path)
    path = run.evaluation / name
    data = path.read_bytes()
    flipped = b"\xff" * 16 + data[16:]
    path.write_bytes({"cut": data[: len(data) // 2], "flipped": flipped, "empty": b""}[damage])
    page = read(run)
    assert f"evaluation/{name} cannot be read" in page.text


def test_a_file_of_other_content_is_named(tmp_path):
    run = finished_run(tmp_path)
    (run.evaluation / "test-1q.json").write_text(json.dumps({"part": "test", "by_step": []}))
    save_file({"ids": np.arange(3)}, run.evaluation / "examples.safetensors")
    (run.path / "recipe.toml").write_text("not = [toml")
    page = read(run)
    assert "evaluation/test-1q.json cannot be read" in page.text
    assert "no tensor support_x" in page.text
    assert "The recipe cannot be read" in page.text
    assert "15 queries per class" in page.text


def test_examples_of_mixed_shapes_do_not_stop_the_report(tmp_path):
    run = finished_run(tmp_path)
    path = run.evaluation / "examples.safetensors"
    from safetensors.numpy import load_file

    tensors = load_file(path)
    save_file({**tensors, "query_y": tensors["query_y"][:, :3]}, path)
    assert "cannot be drawn" in read(run).text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trained_steps", -100),
        ("trained_steps", 10**400),
        ("trained_steps", "1"),
        ("trained_steps", math.inf),
        ("figure_step", 4),
        ("figure_step", -1),
        ("episodes", 0),
        ("episodes", -1),
        ("episodes", 2.5),
        ("episodes", True),
        ("queries", 0),
        ("queries", -(10**30)),
        ("failed", 61),
        ("failed_by_step", [0, 0, 0, 61]),
        ("failed_by_step", [0, 0]),
        ("failed_by_step", 3),
        ("by_step", {}),
        ("by_step", [{"step": 5}] * 4),
        ("by_step", [{"step": 0, "mean": 10**400, "ci95": 0, "worst_decile": 0, "loss": 0}]),
        ("by_step", [{"step": 0, "mean": "high", "ci95": 0, "worst_decile": 0, "loss": 0}]),
        ("score", "top5"),
        ("kind", ["classification"]),
        ("part", "train"),
        ("checkpoint", {"step": -1, "params_sha256": "c"}),
        ("checkpoint", []),
        ("norm", None),
    ],
)
def test_an_altered_evaluation_is_named(tmp_path, name, value):
    run = make_run(tmp_path, image_recipe(), status="finished")
    write_results(run, 1)
    path = run.evaluation / "test-1q.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    text = read(run).text
    assert "evaluation/test-1q.json cannot be read" in text
    assert "No evaluation on test episodes yet" in text


def test_more_episodes_than_rows_is_named(tmp_path):
    run = finished_run(tmp_path)
    path = run.evaluation / "test-1q.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"episodes": 600}))
    text = read(run).text
    assert "evaluation/test-1q.parquet cannot be read: 600 episodes x 4 steps expected" in text


def test_a_table_that_would_take_much_memory_is_named(tmp_path):
    run = finished_run(tmp_path)
    path = run.evaluation / "test-1q.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("step")
    texts = pa.array(["x" * 1_000_000] * len(table))
    pq.write_table(table.set_column(place, "step", texts), path, compression="zstd")
    assert "evaluation/test-1q.parquet cannot be read" in read(run).text
    assert f"unpacks to {len(table)}" in read(run).text
    pq.write_table(pa.concat_tables([table] * 100), path)
    text = read(run).text
    assert f"{100 * len(table)} rows, at most {len(table)} accepted" in text
