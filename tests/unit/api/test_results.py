"""Results: typed, printable, and the mapping that ``--json`` prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from compared_runs import compared_run, scores
from ended_runs import FUNCTIONS, IMAGES, ended_run, image_data

import metadist
from metadist.api import (
    AdaptResult,
    CompareResult,
    EvaluationResult,
    Score,
    TrainResult,
    TuneResult,
)
from metadist.api.text import what_next
from metadist.objectives import ACCURACY, MSE, NLL, Metric

SPREAD = Metric("spread", "spread of errors", higher_is_better=False)
RECORD: dict[str, Any] = {
    "run": "first", "steps": 4, "params_sha256": "ab", "accuracy": 0.637, "ci95": 0.0287,
    "accuracy_15q": 0.64, "episodes": 600, "failed": 0, "ways": 5, "classes": 423,
    "ci95_classes": 0.04, "best_step": 2, "tasks_per_second": 10.0, "data_wait": 0.0, "restarts": 0,
}  # fmt: skip


def trained(record: Mapping[str, Any] = RECORD, metric: Metric = ACCURACY) -> TrainResult:
    return TrainResult.of(
        record,
        directory=Path.cwd() / "runs" / "first",
        score=Score.read(metric, record),
        further=(),
        trained_ways=5 if metric is ACCURACY else 0,
        plugins=(),
    )


def test_a_result_has_attributes_items_and_a_text():
    result = trained()
    assert (result.run, result.steps, result.classes, result.restarts) == ("first", 4, 423, 0)
    assert result.score == Score("accuracy", 0.637, 0.0287, ACCURACY)
    assert result.score.metric.better(0.7, result.score.value or 0.0)
    assert result["accuracy"] == 0.637
    assert dict(result) == RECORD == result
    assert {**result}["classes"] == 423
    assert "mse" not in result
    assert str(result).splitlines() == [
        "first: accuracy 63.70 % ± 2.87 % on 600 test episodes of 423 classes (95 % confidence; "
        "checkpoint of step 2 of 4)",
        "for new classes: 63.70 % ± 4.00 % (95 % over classes and episodes)",
        "with 15 queries per class: 64.00 %",
        f"Files: {Path.cwd() / 'runs' / 'first'}",
        "Next: metadist report first, metadist compare first OTHER, metadist adapt first "
        "--support DIR --query DIR",
    ]


def test_a_dictionary_is_the_callers_own_and_json():
    result = trained()
    given = result.to_dict()
    assert json.dumps(given) == json.dumps(RECORD)
    given["accuracy"] = 1.0
    assert result["accuracy"] == 0.637


def test_it_is_joined_as_a_dictionary_is():
    result = trained()
    assert result | {"accuracy": 1.0, "mine": 2} == {**RECORD, "accuracy": 1.0, "mine": 2}
    assert {"accuracy": 1.0, "mine": 2} | result == {**RECORD, "mine": 2}
    assert json.dumps(result | {})


def test_nothing_can_be_set():
    result = trained()
    with pytest.raises(FrozenInstanceError):
        result.steps = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        result["steps"] = 5  # type: ignore[index]


def test_a_notebook_shows_what_is_printed():
    class Printer:
        told = ""

        def text(self, text: str) -> None:
            self.told = text

    printer, result = Printer(), trained()
    result._repr_pretty_(printer, cycle=False)
    assert printer.told == str(result)
    assert repr(result).startswith("TrainResult(run='first', ")


@pytest.mark.parametrize("metric", [MSE, NLL, SPREAD])
def test_a_score_of_any_objective(metric):
    record = {k: v for k, v in RECORD.items() if "accuracy" not in k and "classes" not in k}
    record = {**record, metric.name: 0.5341, "ci95": None, f"{metric.name}_20q": 0.25}
    result = trained(record, metric)
    assert result.score.value == 0.5341
    lines = str(result).splitlines()
    assert lines[0].startswith(f"first: {metric.title} 0.5341 on 600 test episodes (95 % ")
    assert lines[1] == "with 20 query points: 0.2500"
    none = trained({**record, metric.name: None}, metric)
    assert none.score.value is None
    assert str(none.score) == "no episode had a finite result"


@pytest.mark.parametrize("address", ["", "s3://bucket/prefix"])
def test_commands_for_a_run_elsewhere_work_as_they_are(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    result = TrainResult.of(
        RECORD,
        directory=tmp_path / "my runs" / "first",
        score=Score.read(ACCURACY, RECORD),
        further=(Score("ece", 0.03, None, Metric("ece", "calibration error", False)),),
        trained_ways=5,
        plugins=("my_package.toy", "/some where/net.py:make"),
    )
    lines = str(result).splitlines()
    assert lines[-3] == "calibration error 0.0300"
    at = "--runs-dir 'my runs'"
    code = "--plugin my_package.toy --plugin '/some where/net.py:make'"
    told = lines[-1]
    if address:
        at = f"--runs-dir {address}"
        told = what_next(f"{address}/first", True, result.plugins)
    assert told == (
        f"Next: metadist report first {at}, metadist compare first OTHER {at}, "
        f"metadist adapt first --support DIR --query DIR {at} {code}"
    )


def test_the_number_of_ways_is_said_where_it_is_not_that_of_training():
    same, other = trained(), trained({**RECORD, "ways": 3})
    assert "on 600 test episodes of" in str(same)
    assert "on 600 3-way test episodes of" in str(other)


def test_an_interval_that_leaves_room_for_any_share_is_none():
    result = trained({**RECORD, "ci95_classes": 1.4519})
    assert "for new classes: no interval, for there are too few classes" in str(result)
    assert "145" not in str(result)


def test_a_comparison(tmp_path):
    compared_run(tmp_path, "a", score=scores(0.6))
    compared_run(tmp_path, "b", score=scores(0.9, seed=1))
    result = metadist.compare(["a", "b"], runs_dir=tmp_path)
    assert isinstance(result, CompareResult)
    assert (result.protocol, result.baseline, result.metric) == ("test-1q", "a", ACCURACY)
    base, other = result.runs
    assert (base.verdict, base.difference) == ("baseline", None)
    assert other.verdict == "better"
    assert other.difference is not None
    assert other.difference.value == result["runs"][1]["difference"]["mean"]
    assert result.scores["b"].value == result["runs"][1]["accuracy"]
    assert result.score == base.score
    assert other.directory == tmp_path / "b"
    assert str(result).startswith("2 runs: accuracy on 40 test episodes")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("place")
    image_data(root)
    for seed, name in enumerate(("one", "two")):
        ended_run(root, name, IMAGES, f"run.seed={seed}")
    ended_run(root, "tame", FUNCTIONS)
    return root


def places(place: Path) -> dict[str, Any]:
    return {"runs_dir": place / "runs", "data_dir": place / "data"}


@pytest.mark.slow
def test_an_evaluation(place, monkeypatch):
    monkeypatch.chdir(place)
    result = metadist.evaluate("one", episodes=4, **places(place))
    assert isinstance(result, EvaluationResult)
    assert (result.name, result.episodes, result.labels, result.ways) == ("one", 4, True, 3)
    assert result.directory == place / "runs" / "one"
    assert result.score == Score.read(ACCURACY, result)
    assert list(result.protocols) == ["test-4episodes-2q"]
    assert result.members == ()
    assert [line for line in result.lines(curves=True) if line not in result.lines()]
    assert result.lines()[-1].startswith("Next: metadist report one, ")


@pytest.mark.slow
def test_an_ensemble(place, tmp_path):
    result = metadist.evaluate(["one", "two"], episodes=4, out=tmp_path / "pair", **places(place))
    assert [member["run"] for member in result.members] == ["one", "two"]
    assert result.name == result["ensemble"]
    assert result.directory == tmp_path / "pair"
    assert str(result).splitlines()[-1] == f"Files: {tmp_path / 'pair'}"


def test_functions_have_no_classes(place):
    result = metadist.evaluate("tame", episodes=4, **places(place))
    assert result.score.metric == MSE
    assert (result.labels, result.ways, result.classes, result.ci95_classes) == (False, *[None] * 3)
    assert "adapt" not in str(result)


def test_an_adaptation():
    record = {
        "run": "one", "algorithm": "toy", "steps": 3, "labels": {"cat": 1, "dog": 2}, "queries": 4,
        "notes": ["few"], "directory": "/there", "right": 3, "accuracy": 0.75,
    }  # fmt: skip
    known = {"directory": Path("/there"), "notes": ("few",)}
    result = AdaptResult.of(record, score=Score.read(ACCURACY, record), **known)
    assert (result.right, result.queries, result.labels["dog"]) == (3, 4, 2)
    assert str(result.score) == "accuracy 75.00 %"
    assert str(result).splitlines() == [
        "one: 4 images labelled by toy, adaptation steps: 3",
        "Labels (and their support images): cat (1), dog (2)",
        "3 of 4 are right: 75.00 %",
        "Note: few",
        "Files: /there",
    ]


@pytest.mark.parametrize("anew", [True, False])
def test_a_search(tmp_path, monkeypatch, anew):
    """Its score is that of the setting on test episodes; without runs anew, on fresh ones."""
    from search_dirs import a_result, points_of, rates_plan

    from metadist.search import run_search
    from metadist.search.search_dir import TrialRecord

    trial = TrialRecord(1, points_of(rates_plan())[0], "trial-0001", "finished", 0.7)
    record = {
        "search": "s", "directory": str(tmp_path / "s"), "trials": {"finished": 1}, "tasks": 9,
        "best_recipe": str(tmp_path / "s" / "best.toml"), **a_result(trial, [trial]),
        "metric": "val/spread", "measured": SPREAD.as_dict(),
    }  # fmt: skip
    if not anew:
        record |= {"best": [], "default": []}
    monkeypatch.setattr(run_search, "run_search", lambda request, announce: record)
    result = metadist.tune("sinusoid-lr", runs_dir=tmp_path, data_dir=tmp_path)
    assert isinstance(result, TuneResult)
    figure = record["best_test"] if anew else record["top"][0]
    assert result.score == Score("spread", figure["mean"], figure["ci95"], SPREAD)
    assert result.best_recipe == Path(result["best_recipe"])
    assert (result.trial, result.point, result.within_noise) == (1, trial.point, False)
    assert result.to_dict() == record
    lines = str(result).splitlines()
    assert lines[1].endswith(", by spread of errors")
    assert lines[-1] == f"Files: {tmp_path / 's'}"
