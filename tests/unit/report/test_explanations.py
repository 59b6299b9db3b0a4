"""Pictures of what predictions rest on: maps, attention, graphs."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from report_page import seen
from report_runs import finished_run, image_recipe
from safetensors.numpy import load_file, save_file

from metadist.report import write_report
from metadist.report.sections.explanations import explanation_cards
from metadist.report.svg import pictures
from metadist.runs.run_dir import RunDir

Arrays = dict[str, Any]
#: Examples that a run made up for tests keeps.
KEPT = 6


def shares(shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Rows that sum to 1."""
    powers = np.exp(rng.standard_normal(shape))
    return (powers / powers.sum(-1, keepdims=True)).astype(np.float32)


def told(arrays: Arrays, unlabeled: int = 0) -> Arrays:
    """What a learner could have told of these episodes."""
    rng = np.random.default_rng(0)
    support, query = arrays["support_y"].shape[1] + unlabeled, arrays["query_y"].shape[1]
    ways = arrays["outputs"].shape[-1]
    rows = np.stack([np.argsort(truth, kind="stable")[:ways] for truth in arrays["query_y"]])
    places = {"support": support, "query": query, "prototypes": ways}
    return {
        "rows": rows,
        "map.shares": np.tile(np.array([0.6, 0.3], np.float32), (KEPT, 1)),
        **{
            f"map.{name}": rng.standard_normal((KEPT, count, 2)).astype(np.float32)
            for name, count in places.items()
        },
        "attention.attention": shares((KEPT, ways, support), rng),
        "adjacency.convolution 1": shares((KEPT, support + 1, support + 1), rng),
    }


def explained(run: RunDir, **changed: Any) -> Arrays:
    """The examples of a run, with explanations."""
    path = run.evaluation / "examples.safetensors"
    arrays = load_file(path)
    arrays |= told(arrays) | changed
    save_file(arrays, path)
    return arrays


@pytest.fixture
def examples(tmp_path) -> Arrays:
    return explained(finished_run(tmp_path))


@pytest.mark.slow
def test_a_report_has_them(tmp_path):
    run = finished_run(tmp_path)
    assert "What predictions rest on" not in write_report(run).read_text()
    explained(run)
    page = write_report(run).read_text()
    text = seen(page)
    for said in (
        "What predictions rest on",
        "first principal axis (60 % of the variance)",
        "Test episode 0: what queries read of the support set",
        "Test episode 0: the learned graph of a query",
        "All rows sum to 1.",
        "90 % of the variance is shown.",
    ):
        assert said in text, said
    assert "lacking to 1" not in text
    assert {"map0", "map3", "attention0", "attention1", "adjacency0"} <= {*pictures(page)}
    assert {"map4", "attention2", "adjacency1"}.isdisjoint(pictures(page))


@pytest.mark.slow
def test_what_is_read_is_drawn_cell_by_cell(examples):
    few = {name: array[:1] for name, array in examples.items()}
    for name in [n for n in few if n.startswith(("map.prototypes", "adjacency"))]:
        del few[name]
    few["attention.attention"] = few["attention.attention"] / 2
    card, matrix = explanation_cards(few, 1)
    assert ">prototype<" not in card.svg
    assert matrix.svg.count("<path") >= 25
    assert "what is lacking to 1 is of the query itself" in matrix.caption


def test_features_that_are_not_finite_have_no_map(examples):
    kinds = ("attention", "adjacency")
    few = {n: array[:1] for n, array in examples.items() if not n.startswith(kinds)}
    few["map.shares"] = np.full((1, 2), np.nan)
    assert explanation_cards(few, 1) == []


def test_a_learner_that_tells_nothing_has_no_pictures(tmp_path):
    run = finished_run(tmp_path)
    assert explanation_cards(load_file(run.evaluation / "examples.safetensors"), 1) == []


@pytest.mark.slow
def test_many_classes_and_shots_are_told_by_letters_and_sums(tmp_path):
    run = finished_run(tmp_path, image_recipe(ways=12, shots=3))
    arrays = {n: a[:1] for n, a in explained(run).items()}
    card, matrix, graph = explanation_cards(arrays, 1)
    assert ">query told right<" not in card.svg
    assert len(re.findall(r">L<", card.svg)) >= 2
    assert "all of a class together" in matrix.caption
    assert "?: the query" in graph.caption


@pytest.mark.slow
def test_damaged_explanations_are_told(tmp_path):
    run = finished_run(tmp_path)
    explained(run, rows=np.full((KEPT, 5), 999))
    assert "What is kept of it cannot be drawn" in seen(write_report(run).read_text())
