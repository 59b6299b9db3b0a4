"""Learners that do not meta-learn go the way of all others: from the recipe to the report.

They have no parameters and take no outer steps; what is written must say so, and nothing may ask
for what is not there.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from ended_runs import image_data

import metadist
from metadist import track
from metadist.errors import MetadistError
from metadist.runs import checkpoints
from metadist.runs.log import series
from metadist.runs.run_dir import RunDir
from metadist.track import client
from metadist.training.trainer import Trainer

SMALL = (
    "outer.steps=10",
    "outer.batch=2",
    "engine.mode=loop",
    "engine.chunk=1",
    "eval.every=4",
    "eval.episodes=5",
    "eval.val_episodes=3",
    "eval.steps=2",
)
CURVES = (
    "sinusoid-10shot-maml",
    "algorithm.name=scratch",
    "model.hidden=4",
    "eval.extra_queries=0",
)
PIXELS = (
    "strokes-5w1s-maml",
    "algorithm.name=nearest_pixels",
    "data.dataset=image_folder",
    "data.ways=3",
    "eval.extra_queries=3",
)
BOTH = pytest.mark.parametrize("recipe", [CURVES, PIXELS], ids=["scratch", "nearest_pixels"])


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with 24 classes of noisy blobs."""
    return image_data(tmp_path_factory.mktemp("images"))


class Place:
    """A directory of runs."""

    def __init__(self, directory: Path, data: Path) -> None:
        self.runs, self.data, self.said = directory / "runs", data, list[str]()

    def train(self, recipe: tuple[str, ...], *more: str, **options: Any) -> Any:
        arguments: dict[str, Any] = {"offline": True, "name": "a"} | options
        return metadist.train(
            recipe[0],
            overrides=[*SMALL, *recipe[1:], *more],
            runs_dir=self.runs,
            data_dir=self.data,
            announce=self.said.append,
            **arguments,
        )

    @property
    def run(self) -> RunDir:
        return RunDir(self.runs / "a")

    def evaluation(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in sorted(self.run.evaluation.iterdir())}


@pytest.fixture
def place(tmp_path: Path, images: Path) -> Place:
    return Place(tmp_path, images)


@pytest.mark.slow
@pytest.mark.drawn
@BOTH
def test_from_the_recipe_to_the_report(
    place: Place, recipe: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    result = place.train(recipe)
    assert (result["steps"], result["best_step"], result["failed"]) == (0, 0, 0)
    assert "(95 % confidence; no meta-learning)" in result.lines()[0]
    assert "no meta-learning" in place.said[0]
    assert "no outer steps" in place.said[0]
    assert "does not meta-learn" in caplog.text
    learner = place.run.info()["learner"]
    assert (learner["estimator"], learner["parameters"]) == ("none", 0)
    # Nothing was trained, but it was validated.
    points = series(place.run)
    assert not [name for name in points if name.startswith("train/")]
    assert [p.step for p in points["val/mse" if recipe is CURVES else "val/accuracy"]] == [10]
    # An empty checkpoint is as good as any.
    assert checkpoints.steps(place.run) == [10]
    state, _ = checkpoints.load(checkpoints.directory(place.run, 10))
    assert (state.params, state.optimizer, state.learner_state) == ({}, {}, {})
    report = re.sub("<[^>]+>", " ", place.run.report.read_text())
    assert "no outer steps" in report
    assert "10 outer steps" not in report
    assert "chosen on validation" not in report
    # What does not adapt by steps, and has no network, is not told as if it did and had.
    steps, pixels = "after 1 adaptation step", recipe is PIXELS
    assert (steps in report, "before adaptation" in report) == (not pixels, not pixels)
    assert ("without adaptation steps" in report) == pixels
    assert ("each adaptation step" in report) == (not pixels)
    assert "Transductive normalisation." not in report
    assert ("no network" if pixels else "no normalisation") in place.said[0]
    # And evaluated again it is the same.
    before = place.evaluation()
    again = metadist.evaluate("a", runs_dir=place.runs, data_dir=place.data)
    assert place.evaluation() == before
    assert {k: result[k] for k in again if k in result} == {
        k: v for k, v in again.items() if k in result
    }


def test_pixels_tell_blobs_apart(place: Place) -> None:
    result = place.train(PIXELS, "eval.episodes=50")
    assert result["accuracy_3q"] >= 0.9
    assert place.run.info()["learner"]["derivative_order"] == 0


def test_a_network_from_scratch_is_drawn_by_eval_seed_and_episode_alone(place: Place) -> None:
    place.train(CURVES)
    first = json.loads(place.evaluation()["test-10q.json"])
    place.train(CURVES, "run.seed=1", name="b")
    other = (place.runs / "b" / "evaluation" / "test-10q.json").read_text()
    assert json.loads(other)["by_step"] == first["by_step"]
    place.train(CURVES, "eval.seed=1", name="c")
    other = (place.runs / "c" / "evaluation" / "test-10q.json").read_text()
    assert json.loads(other)["by_step"] != first["by_step"]


@BOTH
def test_no_outer_step_is_taken(
    place: Place, recipe: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*arguments: Any) -> Any:
        raise AssertionError("a step was taken")

    monkeypatch.setattr(Trainer, "step", step)
    place.train(recipe)


@pytest.mark.slow
@pytest.mark.parametrize("saved", [False, True], ids=["before", "after"])
@BOTH
def test_it_is_resumed(
    place: Place, recipe: tuple[str, ...], saved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted before its only checkpoint, or between that and its evaluation."""
    expected = place.train(recipe, name="whole")
    whole = RunDir(place.runs / "whole")

    def die(*arguments: Any, **more: Any) -> Any:
        raise MetadistError("died")

    with monkeypatch.context() as patch:
        patch.setattr(
            f"metadist.{'evaluation.run_evaluator.evaluate' if saved else 'runs.checkpoints.save'}",
            die,
        )
        with pytest.raises(MetadistError, match="died"):
            place.train(recipe)
    assert checkpoints.steps(place.run) == ([10] if saved else [])
    result = place.train(recipe, resume="auto")
    assert {**result, "restarts": 0, "run": "whole"} == expected
    for path in whole.evaluation.iterdir():
        assert (place.run.evaluation / path.name).read_bytes() == path.read_bytes()


def test_more_outer_steps_add_nothing(place: Place) -> None:
    first = place.train(CURVES)
    more = place.train(CURVES, "outer.steps=20", resume="a")
    assert more["mse"] == first["mse"]
    assert checkpoints.steps(place.run) == [10, 20]


@pytest.mark.slow
def test_mlflow_gets_what_there_is(place: Place) -> None:
    uri = f"sqlite:///{place.runs.parent}/mlflow.db"
    result = place.train(CURVES, offline=False, tracking_uri=uri)
    info = place.run.info()
    run = client.connect(uri).get_run(info["mlflow"]["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.tags["learner.estimator"] == "none"
    assert run.data.tags["derivative_order"] == "1"
    assert run.data.params["algorithm.name"] == "scratch"
    assert run.data.metrics["test/mse"] == pytest.approx(result["mse"])
    assert info["closed"] is True
    assert track.run_key(info)


def test_its_state_survives_the_disk() -> None:
    state = checkpoints.TrainState(3, {}, {}, {}, checkpoints.Best(3, 0.5, {}, {}))
    again = checkpoints.TrainState.of(state.scalars(), {})
    assert again == state
    assert state.tensors() == {}
