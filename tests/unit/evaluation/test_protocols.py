"""Evaluation under other protocols than a recipe's own: names, episodes, figures, divergence."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from ended_runs import FUNCTIONS, IMAGES, ended_run, image_data
from evaluations import evaluation_of

import metadist
from data_pipeline.episodes.functions import FunctionEpisodes
from data_pipeline.episodes.types import EpisodeSpec
from data_pipeline.errors import DataError
from metadist.compute.learners import build, context
from metadist.episode_data import open_data
from metadist.errors import RunError
from metadist.evaluation.evaluation import Evaluation
from metadist.evaluation.protocols import EvalProtocol, EvalRequest, own_protocols, protocol
from metadist.recipe.schema import load_recipe, parse_recipe
from metadist.runs import checkpoints
from metadist.runs.classes import classes_file, read_classes
from metadist.runs.log import series
from metadist.runs.readers.evaluations import own_names
from metadist.runs.run_dir import RunDir
from metadist.tasks import to_tasks

#: Large steps that the network survives once, and not ten times.
WILD = ("inner.lr=100.0", "eval.steps=10", "engine.on_nonfinite=skip")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on functions: ``tame``, and ``wild``, which diverges. Images: ``pictures``, ``pixels``.

    Tests write only what no other test reads.
    """
    root = tmp_path_factory.mktemp("place")
    image_data(root)
    ended_run(root, "tame", FUNCTIONS)
    ended_run(root, "wild", FUNCTIONS, *WILD)
    ended_run(root, "pictures", IMAGES)
    ended_run(root, "pixels", IMAGES, "algorithm.name=nearest_pixels", "eval.steps=0")
    return root


def evaluate(place: Path, run: str, **asked: Any) -> Mapping[str, Any]:
    return metadist.evaluate(run, runs_dir=place / "runs", data_dir=place / "data", **asked)


def files(run: RunDir) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in run.evaluation.iterdir()}


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "name", "steps", "figure_step"),
    [
        (EvalRequest(), "test-10q", 10, 1),
        (EvalRequest(queries=100), "test-100q", 10, 1),
        (EvalRequest(queries=7), "test-7q", 10, 1),
        (EvalRequest(shots=10), "test-10q", 10, 1),
        (EvalRequest(shots=5), "test-5shot-10q", 10, 1),
        (EvalRequest(episodes=600), "test-10q", 10, 1),
        (EvalRequest(episodes=1000), "test-1000episodes-10q", 10, 1),
        # The curve ends there anyway, but the figure is another than that of test-10q.
        (EvalRequest(steps=10), "test-10step-10q", 10, 10),
        (EvalRequest(steps=0), "test-0step-10q", 0, 0),
        (EvalRequest(shots=5, steps=10), "test-5shot-10step-10q", 10, 10),
        (EvalRequest("val"), "val-10q", 10, 1),
        (EvalRequest("val", episodes=600), "val-600episodes-10q", 10, 1),
        (EvalRequest("test", 20, 30, 3, 40), "test-20shot-3step-40episodes-30q", 3, 3),
    ],
)
def test_a_name_says_what_differs(asked, name, steps, figure_step):
    recipe = load_recipe("sinusoid-10shot-maml")
    found = protocol([("a", recipe)], asked)
    assert (found.name, found.steps, found.figure_step) == (name, steps, figure_step)


def test_names_of_a_recipes_own_protocols_stay():
    recipe = load_recipe("strokes-5w1s-maml")
    assert [p.name for p in own_protocols(recipe)] == own_names(recipe) == ["test-1q", "test-15q"]
    # As many steps as in training and at test: nothing differs.
    recipe = load_recipe("strokes-5w1s-maml", ("inner.steps=3", "eval.steps=0"))
    assert protocol([("a", recipe)], EvalRequest(steps=3)).name == "test-1q"


@pytest.mark.parametrize("seed", range(3))
def test_equal_names_are_equal_protocols(seed):
    recipe = parse_recipe(FUNCTIONS)
    rng = np.random.default_rng(seed)
    found: dict[str, EvalProtocol] = {}
    for _ in range(400):
        numbers = [int(n) if n else None for n in rng.choice([0, 1, 2, 8, 10, 20], 4)]
        one = protocol([("a", recipe)], EvalRequest(str(rng.choice(["val", "test"])), *numbers))  # type: ignore[arg-type]
        assert found.setdefault(one.name, one) == one
    assert len(found) > 100


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"shots": 0}, "shots: at least 1 is needed, got 0"),
        ({"queries": -1}, "queries: at least 1 is needed, got -1"),
        ({"steps": -1}, "steps: at least 0 is needed, got -1"),
        ({"episodes": 0}, "episodes: at least 1 is needed, got 0"),
        ({"part": "train"}, "part: 'test' or 'val' is needed, got 'train'"),
        ({"out": "elsewhere"}, "average and out are about ensembles"),
        ({"average": "logits"}, "average and out are about ensembles"),
    ],
)
def test_what_is_no_protocol_is_refused(place, asked, words):
    with pytest.raises(RunError, match=words):
        evaluate(place, "tame", **asked)


def test_episodes_that_cannot_be_drawn_are_refused(place):
    with pytest.raises(DataError, match="7 shots \\+ 2 queries need 9 images per class"):
        evaluate(place, "pictures", shots=7)


# --- figures --------------------------------------------------------------------------------------


def test_without_more_arguments_the_recipes_own_are_repeated(place):
    run = RunDir(place / "runs" / "tame")
    before = files(run)
    result = evaluate(place, "tame")
    assert {name: files(run)[name] for name in before} == before
    assert list(result["protocols"]) == ["test-10q", "test-20q"]
    recorded = run.info()["result"]
    assert {k: v for k, v in recorded.items() if k in result} == {
        k: v for k, v in result.items() if k != "protocols"
    }


def test_another_protocol_is_computed_as_it_says(place):
    """Against a loop over episodes written here, which knows no engine."""
    run = RunDir(place / "runs" / "tame")
    before = files(run)
    result = evaluate(place, "tame", shots=5, steps=4, queries=7, episodes=11)
    after = files(run)
    name = "test-5shot-4step-11episodes-7q"
    assert set(after) - set(before) == {f"{name}.json", f"{name}.parquet"}
    assert {n: after[n] for n in before} == before

    recipe = run.recipe()
    learner = build(recipe, open_data(recipe, place / "data").shape)
    found = checkpoints.newest(run, recipe.lineage)
    assert found is not None
    best = found[0].best
    assert best is not None
    episodes = FunctionEpisodes("sinusoid", "test", EpisodeSpec(0, 5, 7), recipe.eval.seed)
    tasks = to_tasks(episodes.episodes(range(11)), torch.float32, torch.device("cpu"))
    ctx = replace(context(recipe, "test", recipe.outer.steps), inner_steps=4)
    losses = []
    for row in range(11):
        task = tasks.task(row)
        fitted = learner.adapt(best.params, task.view(frozenset()), ctx)
        outputs = [learner.predict(f, task.query, ctx).mean.detach().double() for f in fitted]
        losses.append([float((o - task.query.y.double()).square().mean()) for o in outputs])
    table = pq.read_table(run.evaluation / f"{name}.parquet")
    assert np.allclose(table["mse"].to_numpy().reshape(11, 5), losses, rtol=1e-6, atol=0)
    assert result["mse"] == pytest.approx(float(np.mean([row[4] for row in losses])), rel=1e-6)
    assert result["protocols"][name]["episode_digest"] == episodes.identity.digest
    # The same bytes when it is repeated.
    evaluate(place, "tame", shots=5, steps=4, queries=7, episodes=11)
    assert files(run) == after


def test_what_the_recipe_says_anyway_are_its_own_files(place):
    run = RunDir(place / "runs" / "pictures")
    before = files(run)
    result = evaluate(place, "pictures", shots=1, queries=4, episodes=9)
    assert list(result["protocols"]) == ["test-4q"]
    assert files(run) == before


def test_fewer_shots_are_some_of_the_same_episodes(place):
    """The same classes or functions, so that figures under several shots are comparable."""
    data = open_data(parse_recipe(IMAGES), place / "data")
    small, large = (data.live("test", 2, 0, shots).episodes(range(4)) for shots in (1, 3))
    assert np.array_equal(small.columns["class_ids"], large.columns["class_ids"])
    for row in range(4):
        contained = {image.tobytes() for image in large.support_x[row]}
        assert {image.tobytes() for image in small.support_x[row]} < contained
    few, many = (
        FunctionEpisodes("sinusoid", "test", EpisodeSpec(0, shots, 3), 0).episodes(range(4))
        for shots in (5, 10)
    )
    assert np.array_equal(few.support_x, many.support_x[:, :5])
    assert np.array_equal(few.support_y, many.support_y[:, :5])


def test_the_figure_is_the_one_after_the_steps_that_were_asked_for(place):
    own = evaluate(place, "pictures")["protocols"]["test-2q"]
    for steps in (0, 1, 2):
        result = evaluate(place, "pictures", steps=steps)
        (summary,) = result["protocols"].values()
        # The steps on the way are those of the recipe's own curve.
        assert summary["by_step"] == own["by_step"][: steps + 1]
        assert result["accuracy"] == own["by_step"][steps]["mean"]
        assert summary["figure_step"] == steps
        assert summary["trained_steps"] == 1


def test_validation_repeats_what_chose_the_checkpoint(place):
    for name, score in (("tame", "mse"), ("pictures", "accuracy")):
        result = evaluate(place, name, part="val")
        points = {p.step: p.value for p in series(RunDir(place / "runs" / name))[f"val/{score}"]}
        assert result[score] == points[result["best_step"]]
        assert result["episodes"] == 4


def test_steps_are_refused_where_there_are_none(place):
    with pytest.raises(RunError, match="nearest_pixels does not adapt by steps, 3 were asked for"):
        evaluate(place, "pixels", steps=3)
    result = evaluate(place, "pixels", shots=3)
    assert result["protocols"]["test-3shot-2q"]["by_step"][0]["mean"] == result["accuracy"]


# --- classes --------------------------------------------------------------------------------------


def test_the_classes_of_the_episodes_stand_beside_the_figure(place):
    run = RunDir(place / "runs" / "pictures")
    result = evaluate(place, "pictures")
    data = open_data(run.recipe(), place / "data")
    assert data.store is not None
    count = len(data.store.parts["test"].class_names)
    assert (result["classes"], result["ways"]) == (count, 3)
    for queries in (4, 2):
        found = read_classes(classes_file(run.evaluation, f"test-{queries}q"), 9)
        assert found is not None
        drawn = data.live("test", queries, 0).episodes(range(9)).columns["class_ids"]
        assert np.array_equal(found.ids, drawn)
    table = pq.read_table(run.evaluation / "test-2q.parquet")
    score = table["accuracy"].to_numpy().reshape(9, 4)
    assert found is not None
    assert result["ci95_classes"] == pytest.approx(float(found.ci95(score)[1]))
    assert result["ci95_classes"] > result["ci95"]
    points = {name: p[-1].value for name, p in series(run).items()}
    assert points["test/classes"] == count
    assert points["test/accuracy_ci95_classes"] == result["ci95_classes"]
    assert run.info()["result"]["classes"] == count
    # Validation episodes are of the validation classes.
    other = evaluate(place, "pictures", part="val", episodes=5)
    assert other["classes"] == len(data.store.parts["val"].class_names) != count
    # What was there before says nothing else than it did.
    summary = json.loads((run.evaluation / "test-2q.json").read_text())
    assert not [name for name in summary if "class" in name]


def test_functions_have_no_classes(place):
    result = evaluate(place, "tame")
    assert not [name for name in result if "class" in name or name == "ways"]
    assert not list((place / "runs/tame/evaluation").glob("*classes*"))
    assert "test/classes" not in series(RunDir(place / "runs" / "tame"))


@pytest.mark.parametrize("labels", ["permuted", "fixed"])
@pytest.mark.parametrize("rotations", ["none", "per_episode", "as_classes"])
def test_classes_are_those_that_are_drawn(place, rotations, labels):
    recipe = parse_recipe(IMAGES, "x", (f"data.rotations={rotations}", f"data.labels={labels}"))
    data = open_data(recipe, place / "data")
    found = data.classes("train", 50, 3)
    assert found is not None
    drawn = data.live("train", 2, 3, shots=4).episodes(range(50)).columns["class_ids"]
    assert np.array_equal(found.ids, drawn)
    assert found.turned == found.count * (4 if rotations == "as_classes" else 1)


# --- divergence -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_learner_that_diverges_says_so_at_every_step(place):
    result = evaluate(place, "wild", episodes=40)
    summary = result["protocols"]["test-40episodes-10q"]
    failed, rows = summary["failed_by_step"], summary["by_step"]
    assert failed[0] == failed[1] == 0
    assert failed == sorted(failed)
    assert 20 < failed[-1] < 40
    for row, count in zip(rows, failed, strict=True):
        # The mean is over what is finite; the median is over all, and tells.
        assert row["mean"] is not None
        assert (row["median"] is None) == (count >= 20)
    assert max(row["mean"] for row in rows) > 1e20
    # The figure is that of training, and nothing has failed there.
    assert result["failed"] == 0
    assert result["mse"] == rows[1]["mean"]
    later = evaluate(place, "wild", steps=10, episodes=40)
    assert later["failed"] == failed[-1]
    assert later["mse"] == rows[-1]["mean"]
    # No NaN in JSON, which has none.
    run = RunDir(place / "runs" / "wild")
    for path in run.evaluation.glob("*.json"):
        json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))


def evaluation(score: list[float], failed: list[bool], regression: bool = True) -> Evaluation:
    column = np.array(score, dtype=np.float64)[:, None]
    bad = np.array(failed)[:, None]
    how = EvalProtocol("test-1q", "test", 1, 1, len(score), 0, 0, 0)
    return evaluation_of(how, regression, column, np.where(bad, math.nan, column), bad)


@pytest.mark.parametrize(
    ("score", "failed", "median"),
    [
        ([3.0, 1.0, 2.0], [False] * 3, 2.0),
        ([4.0, 1.0, 2.0, 3.0], [False] * 4, 2.5),
        # One explosion moves the mean by 24 orders and the median not at all.
        ([1.0, 2.0, 1e26], [False] * 3, 2.0),
        # A failed episode is worse than any other.
        ([1.0, math.nan, 2.0], [False, True, False], 2.0),
        ([1.0, math.nan, math.nan], [False, True, True], math.inf),
        ([1.0, math.nan], [False, True], math.inf),
        ([math.nan], [True], math.inf),
    ],
)
def test_the_median_counts_failed_episodes(score, failed, median):
    assert evaluation(score, failed).at(0)["median"] == median


def test_in_classification_a_failed_episode_is_wrong():
    figures = evaluation([1.0, 0.0, 0.8, 0.6], [False, True, False, False], regression=False).at(0)
    assert figures["mean"] == pytest.approx(0.6)
    assert figures["median"] == pytest.approx(0.7)


def test_errors_at_the_end_of_the_numbers_are_averaged():
    figures = evaluation([1.7e308, 1.7e308, 1.5e308], [False] * 3).at(0)
    assert figures["mean"] == pytest.approx(1.6333e308, rel=1e-4)
    assert figures["median"] == 1.7e308
    # Their squares are beyond float64, and so is the interval.
    assert not math.isfinite(figures["ci95"])
    summary = evaluation([1.7e308, 1.5e308], [False] * 2).summary({})
    assert summary["by_step"][0]["ci95"] is None
