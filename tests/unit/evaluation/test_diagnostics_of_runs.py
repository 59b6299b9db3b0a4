"""Diagnostics of learners and runs: what adaptation changes, the same whenever computed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from ended_runs import FUNCTIONS, IMAGES, ended_run, image_data
from fresh_learners import CPU, learner, sources

import metadist
from metadist.compute.collectives import Solo
from metadist.compute.setup import Setup
from metadist.evaluation.diagnostics import (
    diagnose,
    diagnostic_points,
    feature_similarity,
    write_diagnostics,
)
from metadist.evaluation.trained_run import TrainedRun
from metadist.inner.inner_loop import InnerLoop
from metadist.learner import LearnedQuantities
from metadist.runs.log import LogReader
from metadist.runs.readers.diagnostics import FILE, MOST_NUMBERS, read_diagnostics
from metadist.runs.run_dir import RunDir
from metadist.tasks import Params
from metadist.training.loop import TrainingLoop

# --- what adaptation changes ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    image_data(root)
    return root / "data"


@pytest.mark.parametrize("algorithm", ["anil", "nil"])
@pytest.mark.parametrize("norm", ["transductive", "support", "none"])
def test_a_body_that_is_not_adapted_stays_exactly(images, algorithm, norm):
    trained, data = learner(
        IMAGES, f"algorithm.name={algorithm}", f"model.norm={norm}", "inner.steps=2", root=images
    )
    found, failed = feature_similarity(trained, sources(trained, data)[1], 2)
    assert failed == 0
    assert list(found) == ["conv1", "conv2", "conv3", "conv4", "head"]
    head = found.pop("head")
    assert set(found.values()) == {1.0}
    assert (head == 1.0) == (algorithm == "nil")  # it takes no step at all


def test_an_adapted_body_changes(images):
    trained, data = learner(IMAGES, "inner.steps=3", root=images)
    found, _ = feature_similarity(trained, sources(trained, data)[1], 3)
    assert all(v < 1.0 for v in found.values())
    assert found["conv1"] > found["head"]


def test_more_steps_change_more():
    trained, data = learner(FUNCTIONS, "inner.lr=0.05")
    test = sources(trained, data)[1]
    few, many = (feature_similarity(trained, test, steps)[0]["linear2"] for steps in (1, 6))
    assert many < few < 1.0


def test_without_steps_nothing_changes():
    trained, data = learner(FUNCTIONS, "inner.steps=0", "eval.steps=0")
    found = diagnose(trained, *sources(trained, data), {})
    assert found["adaptation_steps"] == 0
    assert found["feature_similarity"] == {"linear1": 1.0, "linear2": 1.0, "linear3": 1.0}


# --- as a whole -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scratch", "nearest_pixels"])
def test_a_learner_that_does_not_meta_learn_has_no_gradients(images, name):
    trained, data = learner(IMAGES, f"algorithm.name={name}", root=images)
    found = diagnose(trained, *sources(trained, data), {})
    assert found["findings"] == {}
    assert found["gradient_alignment"] == {}
    assert bool(found["feature_similarity"]) == (name == "scratch")


def test_a_head_of_zeros_has_no_similarity(images):
    trained, data = learner(IMAGES, "algorithm.name=finetune", root=images)
    found = diagnose(trained, *sources(trained, data), {})
    assert found["feature_similarity"]["head"] is None
    assert found["feature_similarity"]["conv1"] > 0.5


@dataclass(frozen=True)
class Odd(InnerLoop):
    """Numbers that are not finite."""

    def learned_quantities(self, params: Params) -> LearnedQuantities:
        return {"odd": {"a": [1.0, math.nan, math.inf]}}


def test_what_is_not_finite_is_told(tmp_path):
    trained, data = learner()
    assert isinstance(trained.learner, InnerLoop)
    training, test = sources(trained, data)
    broken = {n: torch.full_like(p, math.nan) for n, p in trained.params.items()}
    trained = replace(trained, learner=Odd(**vars(trained.learner)), params=broken)
    found = diagnose(trained, training, test, {"checkpoint": {"step": 3}})
    assert found["findings"] == {"odd": {"a": [1.0, None, None]}}
    assert set(found["feature_similarity"].values()) == {None}
    assert set(found["gradient_alignment"].values()) == {None}
    assert found["failed_episodes"] == found["episodes"]
    assert found["failed_tasks"] == found["tasks"]
    write_diagnostics(tmp_path, found)
    assert json.loads((tmp_path / "diagnostics.json").read_text()) == found
    assert diagnostic_points(found) == {}


@dataclass(frozen=True)
class Talkative(InnerLoop):
    """Learned quantities of too many numbers, or of none."""

    def learned_quantities(self, params: Params) -> LearnedQuantities:
        return {
            "few": {"a": [0.5] * MOST_NUMBERS},
            "many": {"a": [1.0], "b": [0.5] * (MOST_NUMBERS + 1)},
            "none": {"a": []},
        }


def test_only_the_quantities_that_nobody_could_read_are_left_out(tmp_path, caplog):
    trained, data = learner()
    assert isinstance(trained.learner, InnerLoop)
    trained = replace(trained, learner=Talkative(**vars(trained.learner)))
    (tmp_path / "evaluation").mkdir()
    write_diagnostics(tmp_path, diagnose(trained, *sources(trained, data), {}))
    found = read_diagnostics(tmp_path / FILE)
    assert found.learned_quantities == {"few": {"a": (0.5,) * MOST_NUMBERS}}
    assert found.similarity
    many, none = [record.getMessage() for record in caplog.records]
    assert "quantity many is left out of diagnostics.json: 1001 numbers of b, 1 to 1000" in many
    assert "quantity none is left out of diagnostics.json: 0 numbers of a" in none


def test_transforms_that_are_not_finite_have_no_spectrum():
    trained, data = learner(FUNCTIONS, "algorithm.name=tnet")
    training, test = sources(trained, data)
    broken = trained.params | {"linear1.transform": torch.full((8, 8), math.nan)}
    found = diagnose(replace(trained, params=broken), training, test, {})["findings"]
    assert found["transform_largest"]["linear1"] == [None]
    assert found["transform_largest"]["linear2"] == [1.0]


def test_points_are_few_and_finite():
    found = {
        "findings": {
            "p_update": {"linear1": [0.25], "linear2": [None]},
            "step_size": {"linear1.weight": [0.1, 0.2]},
            "many": {f"layer{i}": [1.0] for i in range(21)},
        },
        "feature_similarity": {"linear1": 0.5, "head": None},
        "gradient_alignment": {"linear1.weight": 0.3, "all": 0.2},
    }
    assert diagnostic_points(found) == {
        "what_was_learned/p_update/linear1": 0.25,
        "what_was_learned/cka/linear1": 0.5,
        "what_was_learned/gradient_cosine/all": 0.2,
    }


# --- of a run -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("place")
    ended_run(root, "masked", FUNCTIONS, "algorithm.name=mtnet")
    return root


def test_repeated_evaluation_writes_the_same_bytes(place):
    run = RunDir(place / "runs" / "masked")
    path = run.evaluation / "diagnostics.json"
    first = path.read_bytes()
    path.unlink()
    metadist.evaluate("masked", runs_dir=place / "runs", data_dir=place / "data")
    assert path.read_bytes() == first
    found = json.loads(first)
    layers = ["linear1", "linear2", "linear3"]
    assert list(found["findings"]["p_update"]) == layers
    assert list(found["feature_similarity"]) == layers
    # As the network has them, not as the alphabet; a checkpoint keeps no order.
    names = list(found["gradient_alignment"])
    assert names.index("linear1.weight") < names.index("linear1.bias") < names.index("all")
    assert found["queries"] == 20
    assert found["checkpoint"]["params_sha256"]


class Second(Solo):
    """Any worker but the first."""

    rank, size = 1, 2


def test_other_workers_write_nothing(place, tmp_path):
    run = RunDir(place / "runs" / "masked")
    path = run.evaluation / "diagnostics.json"
    before = path.stat().st_mtime_ns
    ended = TrainedRun.load(run, place / "data", CPU)
    results = replace(ended.evaluator, group=Second()).explained_results(ended.best)
    assert (results.examples, results.diagnostics) == ({}, {})
    assert path.stat().st_mtime_ns == before


def test_findings_are_points_of_the_log_once(place):
    run = RunDir(place / "runs" / "masked")
    points = [p for p in LogReader(run).poll() if p.metric.startswith("what_was_learned/")]
    found = json.loads((run.evaluation / "diagnostics.json").read_text())
    assert {p.metric: p.value for p in points} == diagnostic_points(found)
    assert len(points) == 3 + 3 + 3 + 3 + 1  # p_update, singular values, CKA, cosine
    assert {p.step for p in points} == {4}
    setup = Setup.open(run.recipe(), place / "data")
    TrainingLoop(run, setup, Solo(), CPU).train()  # a resumed run ends once more
    assert [p for p in LogReader(run).poll() if p.metric.startswith("what_was_learned/")] == points
