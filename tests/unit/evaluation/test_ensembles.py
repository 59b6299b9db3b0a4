"""Ensembles: the same episodes for every member, and the average of what they predict."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from ended_runs import FUNCTIONS, IMAGES, ended_run, image_data
from numpy.typing import NDArray

import metadist
from data_pipeline.errors import DataError
from metadist.discovery import Options as OptionsBase
from metadist.episode_data import EpisodeData
from metadist.errors import RunError
from metadist.evaluation.ensembles import Ensemble, Member, evaluate_ensemble
from metadist.evaluation.evaluator import predictions
from metadist.evaluation.protocols import EvalProtocol, EvalRequest
from metadist.evaluation.trained_run import TrainedRun
from metadist.objectives import regression
from metadist.objectives.classification import Classification
from metadist.recipe.sections import ObjectiveSection
from metadist.runs.listing import list_runs
from metadist.runs.run_dir import RunDir
from metadist.tasks import Prediction

pytestmark = pytest.mark.slow

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Independently trained runs on functions, ``f0`` to ``f2``, and on images, ``i0`` to ``i2``.

    ``wild`` diverges after a few steps; ``odd`` is first-order, of other shots and queries;
    ``pixels`` has neither parameters nor steps, ``blank`` no parameters; ``many`` and
    ``seeded`` do not go with the rest.
    """
    root = tmp_path_factory.mktemp("place")
    image_data(root)
    for seed in range(3):
        ended_run(root, f"f{seed}", FUNCTIONS, f"run.seed={seed}")
        ended_run(root, f"i{seed}", IMAGES, f"run.seed={seed}")
    wild = ("inner.lr=100.0", "eval.steps=8", "engine.on_nonfinite=skip")
    ended_run(root, "wild", FUNCTIONS, *wild)
    odd = ("algorithm.name=fomaml", "data.shots=2", "eval.queries=3", "model.norm=support")
    ended_run(root, "odd", IMAGES, *odd)
    ended_run(root, "pixels", IMAGES, "algorithm.name=nearest_pixels")
    ended_run(root, "blank", IMAGES, "algorithm.name=scratch")
    ended_run(root, "many", IMAGES, "data.ways=2")
    ended_run(root, "seeded", IMAGES, "eval.seed=1", "data.rotations=per_episode")
    return root


def evaluate(place: Path, run: str | list[str], **asked: Any) -> Mapping[str, Any]:
    return metadist.evaluate(run, runs_dir=place / "runs", data_dir=place / "data", **asked)


def table(directory: Path | str, name: str) -> dict[str, Any]:
    read = pq.read_table(Path(directory) / f"{name}.parquet")
    return {column: read[column].to_numpy() for column in read.column_names}


def member(place: Path, name: str) -> Member:
    run = RunDir(place / "runs" / name)
    return TrainedRun.load(run, place / "data", torch.device("cpu")).member()


# --- the average ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("run", "name"), [("f0", "test-10q"), ("i0", "test-2q")])
def test_an_ensemble_of_one_is_the_run_to_the_bit(place, run, name):
    alone = evaluate(place, run)
    together = evaluate(place, [run])
    score = "mse" if run == "f0" else "accuracy"
    classes = ("classes", "ways", "ci95_classes") if run == "i0" else ()
    for key in (score, "ci95", "failed", "episodes", *classes):
        assert together[key] == alone[key]
        assert key == "episodes" or together["members"][0][key] == alone[key]
    own = table(place / "runs" / run / "evaluation", name)
    ensemble = table(Path(together["directory"]) / "evaluation", name)
    record, where = f"evaluation/{name}.classes.parquet", Path(together["directory"])
    assert (where / record).is_file() == (run == "i0")
    if run == "i0":
        assert (where / record).read_bytes() == (place / "runs" / run / record).read_bytes()
    for column in (score, "loss", "failed"):
        assert ensemble[column].tobytes() == own[column].tobytes()
        assert ensemble[f"{column}_1"].tobytes() == own[column].tobytes()
    (summary,) = together["protocols"].values()
    assert summary["by_step"] == alone["protocols"][name]["by_step"]
    assert summary["episode_digest"] == alone["protocols"][name]["episode_digest"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "average"), [("f0", None), ("i0", "probabilities"), ("i0", "logits")]
)
def test_an_ensemble_of_three_times_the_same_is_the_run(place, run, average, caplog):
    alone = evaluate(place, [run])
    together = evaluate(place, [run] * 3, average=average)
    assert "more than once" in caplog.text
    (one,), (three,) = alone["protocols"].values(), together["protocols"].values()
    for a, b in zip(one["by_step"], three["by_step"], strict=True):
        assert b["mean"] == pytest.approx(a["mean"], rel=1e-12)
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-12)


def test_members_without_parameters_are_not_the_same(place, caplog):
    together = evaluate(place, ["pixels", "blank"])
    assert "more than once" not in caplog.text
    assert [own["best_step"] for own in together["members"]] == [0, 0]


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


@pytest.mark.slow
@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_classifiers_are_averaged_as_it_says(place, average):
    """Against NumPy on what each member says alone."""
    names = ["i0", "i1", "i2"]
    result = evaluate(place, names, average=average)
    name = "test-2q" if average == "probabilities" else "test-2q-logits"
    found = table(Path(result["directory"]) / "evaluation", name)
    members = [member(place, n) for n in names]
    source = members[0].data.live("test", 2, 0)
    streams = [predictions(m.trained, source, range(9), 3) for m in members]
    for episode, tasks in enumerate(zip(*streams, strict=True)):
        labels = tasks[0][0].query.y.numpy()
        for step in range(4):
            logits = np.stack([outputs[step].mean.double().numpy() for _, outputs in tasks])
            if average == "probabilities":
                probabilities = softmax(logits).mean(0)
            else:
                probabilities = softmax(logits.mean(0))
            row = 4 * episode + step
            right = probabilities.argmax(-1) == labels
            likelihood = probabilities[np.arange(len(labels)), labels]
            assert found["accuracy"][row] == pytest.approx(right.mean(), rel=1e-12)
            assert found["loss"][row] == pytest.approx(-np.log(likelihood).mean(), rel=1e-12)
            for number, own in enumerate(logits, 1):
                alone = (own.argmax(-1) == labels).mean()
                assert found[f"accuracy_{number}"][row] == pytest.approx(alone, rel=1e-12)
    assert result["average"] == average
    assert [m["run"] for m in result["members"]] == names


@pytest.mark.slow
def test_the_two_averages_differ(place):
    names = ["i0", "i1", "i2"]
    losses = [
        next(iter(evaluate(place, names, average=how)["protocols"].values()))["by_step"][1]["loss"]
        for how in ("probabilities", "logits")
    ]
    assert abs(losses[0] - losses[1]) > 1e-6


def test_values_are_averaged(place):
    names = ["f0", "f1", "f2"]
    result = evaluate(place, names)
    found = table(Path(result["directory"]) / "evaluation", "test-10q")
    members = [member(place, n) for n in names]
    source = members[0].data.live("test", 10, 0)
    streams = [predictions(m.trained, source, range(8), 2) for m in members]
    for episode, tasks in enumerate(zip(*streams, strict=True)):
        truth = tasks[0][0].query.y.double().numpy()
        for step in range(3):
            values = np.stack([outputs[step].mean.double().numpy() for _, outputs in tasks])
            error = ((values.mean(0) - truth) ** 2).mean()
            assert found["mse"][3 * episode + step] == pytest.approx(error, rel=1e-12)
            # Never worse than the mean of the members (Jensen's inequality).
            each = [found[f"mse_{n}"][3 * episode + step] for n in (1, 2, 3)]
            assert error <= np.mean(each) * (1 + 1e-12)
    with pytest.raises(RunError, match="in regression values are averaged, 'logits'"):
        evaluate(place, names, average="logits")


def test_sure_and_wrong_members_have_a_finite_likelihood():
    sure, wrong = torch.tensor([[4000.0, 0.0]]), torch.tensor([[0.0, 4000.0]])

    def averaged(*logits: torch.Tensor) -> torch.Tensor:
        return Classification().average([Prediction(one) for one in logits], "probabilities").mean

    mean = averaged(sure, wrong)
    assert mean.dtype == torch.float64
    assert torch.allclose(mean, torch.full((1, 2), -math.log(2.0), dtype=torch.float64))
    nobody = averaged(wrong, wrong)
    assert float(nobody[0, 0]) == -4000.0


# --- who goes together ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ["i0", "many"],
            r"do not agree on the number of ways \(i0: 3, many: 2\); say which with --w",
        ),
        (["i0", "i1", "seeded"], r"eval\.seed \(i0: 0, seeded: 1\), data\.rotations \(i0: none"),
        (["i0", "f0"], r"differ in kind \(i0: classification, f0: regression\), data\.dataset \(i"),
        ([], "at least one run"),
    ],
)
def test_runs_that_do_not_go_together_are_told_why(place, names, words):
    with pytest.raises(RunError, match=words):
        evaluate(place, names)


@pytest.mark.slow
def test_other_data_does_not_go_together(place, tmp_path):
    """The same recipe on images of which one was changed."""
    image_data(tmp_path)
    image = tmp_path / "images" / "class-00" / "0.png"
    shutil.copy(tmp_path / "images" / "class-01" / "0.png", image)
    shutil.rmtree(tmp_path / "data")
    options = {"size": 16, "channels": 1}
    metadist.prepare(
        "image_folder", source=image.parents[1], data_dir=tmp_path / "data", options=options
    )
    ended_run(tmp_path, "changed", IMAGES)
    mine, other = member(place, "i0"), member(tmp_path, "changed")
    with pytest.raises(RunError, match=f"dataset digest \\(i0: {mine.data.digest}, changed: "):
        Ensemble((mine, other))


def test_members_agree_on_the_options_of_their_objective(place, monkeypatch):
    class Options(OptionsBase):
        weight: float = 1.0

    monkeypatch.setattr(regression, "Options", Options)
    mine, other = member(place, "f0"), member(place, "f1")
    recipe = other.trained.recipe
    changed = ObjectiveSection.model_validate({"name": "regression", "weight": 2.0})
    stated = recipe.model_copy(update={"objective": changed})
    other = replace(other, trained=replace(other.trained, recipe=stated))
    with pytest.raises(RunError, match=r"differ in objective\.weight \(f0: 1\.0, f1: 2\.0\)"):
        Ensemble((mine, other))


def test_members_whose_sources_draw_otherwise_do_not_go_together(place, monkeypatch):
    """Only a source from outside can: by its payload."""
    mine, other = member(place, "f0"), member(place, "f1")
    real = EvalProtocol.source

    def source(self: EvalProtocol, data: EpisodeData) -> Any:
        found = real(self, data)
        if data is other.data:
            found.identity = replace(found.identity, payload={"level": 3})  # type: ignore[misc]
        return found

    monkeypatch.setattr(EvalProtocol, "source", source)
    with pytest.raises(DataError, match=r"those of f1 are other episodes.*payload.*'level': 3"):
        evaluate_ensemble(Ensemble((mine, other)), EvalRequest())


@pytest.mark.slow
def test_members_may_be_of_different_kinds_and_trained_differently(place):
    names = ["i0", "odd", "pixels"]
    with pytest.raises(RunError, match=r"number of shots \(i0: 1, odd: 2, pixels: 1\).*--shots"):
        evaluate(place, names)
    with pytest.raises(RunError, match=r"number of queries \(i0: 2, odd: 3, pixels: 2\)"):
        evaluate(place, names, shots=2)
    result = evaluate(place, names, shots=2, queries=3)
    assert list(result["protocols"]) == ["test-2shot-3q"]
    assert [m["algorithm"] for m in result["members"]] == ["maml", "fomaml", "nearest_pixels"]
    # Each member's figures are those it has alone under this protocol.
    for own in result["members"]:
        alone = evaluate(place, own["run"], shots=2, queries=3)
        assert (own["accuracy"], own["ci95"]) == (alone["accuracy"], alone["ci95"])


def test_different_numbers_of_steps_have_to_be_said(place):
    ended_run(place, "twice", FUNCTIONS, "inner.steps=2")
    with pytest.raises(RunError, match=r"number of steps \(f0: 1, twice: 2\).*--steps"):
        evaluate(place, ["f0", "twice"])
    result = evaluate(place, ["f0", "twice"], steps=2)
    (summary,) = result["protocols"].values()
    assert summary["trained_steps"] is None
    assert result["mse"] == summary["by_step"][2]["mean"]


def test_an_episode_on_which_one_member_fails_has_failed(place):
    result = evaluate(place, ["f0", "wild"], steps=8, episodes=20)
    name = "test-8step-20episodes-10q"
    found = table(Path(result["directory"]) / "evaluation", name)
    assert 0 < found["failed_2"].sum() < len(found["failed_2"])
    assert not found["failed_1"].any()
    assert (found["failed"] == found["failed_2"]).all()
    assert np.isnan(found["mse"][found["failed"]]).all()
    assert result["failed"] == result["members"][1]["failed"] > 0
    assert result["members"][0]["failed"] == 0


# --- files ----------------------------------------------------------------------------------------


def test_files_of_an_ensemble(place):
    names = ["i0", "i1"]
    result = evaluate(place, names, queries=1)
    directory = Path(result["directory"])
    assert directory == place / "runs" / "ensembles" / result["ensemble"]
    assert result["ensemble"].startswith("i0+i1-")
    record = json.loads((directory / "ensemble.json").read_text())
    assert [m["run"] for m in record["members"]] == names
    for made, name in zip(record["members"], names, strict=True):
        run = RunDir(place / "runs" / name)
        summary = json.loads((run.evaluation / "test-2q.json").read_text())
        assert made["checkpoint"] == summary["checkpoint"]
        assert made["recipe_hash"] == run.info()["recipe_hash"]
    summary = json.loads((directory / "evaluation" / "test-1q.json").read_text())
    assert summary["average"] == "probabilities"
    assert len(summary["members"]) == 2
    # Not a run, and a run's files are as they were.
    assert {run.name for run in list_runs(place / "runs")} >= {"i0", "i1"}
    assert not any("ensemble" in run.name for run in list_runs(place / "runs"))
    assert not (place / "runs" / "i0" / "evaluation" / "test-1q.json").exists()
    # The same bytes when it is repeated.
    before = {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    evaluate(place, names, queries=1)
    assert {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()} == before
    # Another order is another ensemble: sums of floats depend on it.
    assert evaluate(place, names[::-1], queries=1)["directory"] != str(directory)


def test_results_go_where_they_are_sent_but_over_nothing_else(place, tmp_path):
    out = tmp_path / "out"
    assert evaluate(place, ["i0", "i1"], out=out)["directory"] == str(out)
    evaluate(place, ["i0", "i1"], out=out, shots=2)
    there = sorted(p.name for p in (out / "evaluation").glob("*.json"))
    assert there == ["test-2q.json", "test-2shot-2q.json"]
    with pytest.raises(RunError, match="an ensemble of other members or checkpoints"):
        evaluate(place, ["i0", "i2"], out=out)
    (out / "ensemble.json").write_text("{}")
    with pytest.raises(RunError, match=r"ensemble\.json: damaged"):
        evaluate(place, ["i0", "i1"], out=out)
    for run in (place / "runs" / "i0", place / "runs" / "i0" / "inside"):
        with pytest.raises(RunError, match="is a run, an ensemble's results go elsewhere"):
            evaluate(place, ["i0", "i1"], out=run)
