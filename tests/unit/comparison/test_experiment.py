"""Runs that MLflow finds: their directories, and those that are left out."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from compared_runs import compared_run

import metadist
from metadist import track
from metadist.errors import RunError, TrackingError
from metadist.runs.run_dir import RunDir
from metadist.track.client import connect
from metadist.track.upload import latest_tags

pytestmark = pytest.mark.slow


def send(run: RunDir, uri: str, status: str = "FINISHED", **tags: str) -> str:
    """Make the MLflow run of a run directory."""
    params, key = track.run_params(run.recipe()), track.run_key(run.info())
    known = {**latest_tags(run), **tags}
    run_id = track.start_run(uri, "metadist", run.name, params, known, key=key)
    if status != "RUNNING":
        connect(uri).set_terminated(run_id, status)
    return run_id


@pytest.fixture
def place(root: Path, template: Path) -> tuple[Path, str]:
    """Where the runs are, and the store that knows them."""
    shutil.copy(template, root / "mlflow.db")
    uri = f"sqlite:///{root}/mlflow.db"
    for name in ("base", "good", "same"):
        send(RunDir(root / name), uri)
    return root, uri


def compare(place: tuple[Path, str], **options: Any) -> Mapping[str, Any]:
    return metadist.compare(runs_dir=place[0], tracking_uri=place[1], **options)


def names(result: Mapping[str, Any]) -> list[str]:
    return [run["run"] for run in result["runs"]]


@pytest.mark.slow
def test_all_finished_runs_of_an_experiment(place):
    result = compare(place, experiment="metadist")
    assert names(result) == ["base", "good", "same"]
    assert (result["baseline"], result["left_out"]) == ("base", [])


def test_a_filter_finds_by_params_tags_and_metrics(place):
    assert names(compare(place, filter="params.`inner.lr` = '0.4'")) == ["base", "same"]
    found = compare(place, filter="params.`inner.lr` = '0.4'", baseline="good")
    assert names(found) == ["good", "base", "same"]
    assert found["baseline"] == "good"


@pytest.mark.slow
def test_what_cannot_be_compared_is_left_out_and_told(place):
    root, uri = place
    send(compared_run(root, "open", status="running"), uri, "RUNNING")
    send(compared_run(root, "stale", status="running"), uri)
    gone = compared_run(root, "gone")
    send(gone, uri)
    shutil.rmtree(gone.path)
    damaged = compared_run(root, "damaged")
    send(damaged, uri)
    (damaged.evaluation / "test-1q.parquet").write_bytes(b"no table")
    client = connect(uri)
    experiment = client.get_experiment_by_name("metadist")
    assert experiment is not None
    client.set_terminated(client.create_run(experiment.experiment_id, run_name="mine").info.run_id)
    track.record_summary(
        uri, "metadist", "table", key="table", tags={}, metrics={"a": 1.0}, files=[]
    )
    result = compare(place, experiment="metadist")
    assert names(result) == ["base", "good", "same"]
    why = {out["run"]: out["why"] for out in result["left_out"]}
    assert set(why) == {"open", "stale", "gone", "damaged", "mine", "table"}
    assert why["open"] == "not finished"
    assert "status is 'running'" in why["stale"]
    assert str(gone.path) in why["gone"]
    assert "cannot be read" in why["damaged"]
    assert why["mine"] == why["table"] == "not a training of metadist"
    # The baseline is asked for by name: it must be there.
    with pytest.raises(RunError, match="cannot be read"):
        compare(place, experiment="metadist", baseline="damaged")


def test_a_directory_that_was_moved_is_found_by_its_key(place, tmp_path):
    root, uri = place
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("base", "good"):
        shutil.move(root / name, moved / name)
    # Another run of that name has taken a place: it is not the one.
    shutil.rmtree(root / "same")
    compared_run(root, "same")
    result = metadist.compare(runs_dir=moved, tracking_uri=uri, experiment="metadist")
    assert names(result) == ["base", "good"]
    assert [out["run"] for out in result["left_out"]] == ["same"]


def test_too_few_runs_say_why(place):
    with pytest.raises(RunError, match=r"two finished runs of the experiment .* there is good"):
        compare(place, filter="params.`inner.lr` = '0.1'")
    with pytest.raises(RunError, match="there is none"):
        compare(place, filter="params.`inner.lr` = '7'")


def test_an_unknown_experiment_and_a_filter_that_is_none(place):
    with pytest.raises(TrackingError, match=r"no experiment 'mine'; there are: .*metadist"):
        compare(place, experiment="mine")
    with pytest.raises(TrackingError, match=r"--filter 'inner.lr = 0.4': MLflow does not"):
        compare(place, filter="inner.lr = 0.4")


def test_no_store_is_made_where_there_is_none(root):
    with pytest.raises(TrackingError, match="there is no tracking store"):
        metadist.compare(runs_dir=root / "runs", experiment="metadist")
    assert not (root / "mlflow.db").exists()


def test_more_runs_than_a_request_brings(place, monkeypatch):
    from metadist.track import experiments

    monkeypatch.setattr(experiments, "_PER_REQUEST", 2)
    assert names(compare(place, experiment="metadist")) == ["base", "good", "same"]


def test_what_mlflow_is_told_of_a_run(place):
    root, uri = place
    client = connect(uri)
    experiment = client.get_experiment_by_name("metadist")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "attributes.run_name = 'good'")[0]
    assert found.data.tags["run_dir"] == str(root / "good")
    assert found.data.params["inner.lr"] == "0.1"
    assert found.inputs is not None
    (dataset,) = [given.dataset for given in found.inputs.dataset_inputs]
    assert (dataset.name, dataset.digest) == ("strokes", "d" * 12)
