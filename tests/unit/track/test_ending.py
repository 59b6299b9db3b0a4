"""MLflow: a run is closed with its files and its result, at its end or later by hand."""

from __future__ import annotations

import logging
import time

import pytest
from tracked import add_steps, begin, failing, history, written

from metadist import track
from metadist.errors import TrackingError
from metadist.runs.log import LogWriter, write_parquet
from metadist.track import client as client_module
from metadist.track import synchroniser as sync_module


def test_finish_sends_files_result_and_end(run, uri):
    run_id = begin(run, uri)
    add_steps(LogWriter(run.claim({"world_size": 4, "bits": "verified"})), 1, 10)
    write_parquet(run)
    run.evaluation.mkdir()
    for name in ("test-1q.json", "test-1q.parquet", ".partial-x"):
        (run.evaluation / name).write_text("{}")
    run.report.write_text("<p>")
    checkpoint = run.path / "checkpoints" / "step-00000010"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.safetensors").write_bytes(b"state")
    run.update(status="finished", result={"accuracy": 0.875, "steps": 10})
    synchroniser = track.Synchroniser(run, uri, run_id).start()
    assert synchroniser.finish("finished", 20, checkpoints=[checkpoint])
    mlflow = client_module.connect(uri)
    data = mlflow.get_run(run_id)
    assert data.info.status == "FINISHED"
    assert data.data.tags["result.accuracy"] == "0.875"
    assert data.data.tags["world_size"] == "4"

    def files(folder: str | None = None) -> set[str]:
        found: set[str] = set()
        for f in mlflow.list_artifacts(run_id, folder):
            found |= files(f.path) if f.is_dir else {f.path}
        return found

    assert files() == {
        "recipe.toml",
        "run.json",
        "report.html",
        "log/metrics.parquet",
        "evaluation/test-1q.json",
        "evaluation/test-1q.parquet",
        "checkpoints/step-00000010/state.safetensors",
    }
    track.reopen_run(uri, run_id, {}, {})
    assert mlflow.get_run(run_id).info.status == "RUNNING"


@pytest.mark.slow
def test_files_that_cannot_be_stored_do_not_keep_a_run_open(run, uri, monkeypatch, caplog):
    run_id = begin(run, uri)
    add_steps(LogWriter(run.claim({})), 1, 10)
    monkeypatch.setattr(sync_module, "BACKOFF", (0.01, 0.05))
    (run.path.parent.parent / "mlruns").write_text("a file where artifacts should go")
    with caplog.at_level(logging.ERROR):
        assert not track.Synchroniser(run, uri, run_id).start().finish("finished", 20)
    assert "files cannot be stored" in caplog.text
    assert client_module.connect(uri).get_run(run_id).info.status == "FINISHED"
    assert history(uri, run_id) == written(run)


def test_a_store_that_stays_away_ends_the_wait(run, uri, monkeypatch, caplog):
    run_id = begin(run, uri)
    add_steps(LogWriter(run.claim({})), 1, 50)
    with failing(monkeypatch) as broken, caplog.at_level(logging.ERROR):
        broken.set()
        synchroniser = track.Synchroniser(run, uri, run_id, interval=0.01).start()
        began = time.monotonic()
        assert not synchroniser.finish("finished", 0.3)
        assert time.monotonic() - began < 5
    assert f"metadist sync {run.path}" in caplog.text
    # Later, by hand.
    run.update(status="finished", mlflow={"tracking_uri": uri, "run_id": run_id})
    assert track.sync_run(run) == run_id
    assert history(uri, run_id) == written(run)
    assert client_module.connect(uri).get_run(run_id).info.status == "FINISHED"


@pytest.mark.slow
def test_a_run_sent_later_twice_is_the_same(run, uri):
    add_steps(LogWriter(run.claim({})), 1, 700)
    run.update(status="finished")
    run_id = track.sync_run(run, uri=uri)
    assert run.info()["mlflow"] == {
        "tracking_uri": uri,
        "experiment": "metadist",
        "run_id": run_id,
    }
    mlflow = client_module.connect(uri)
    before = mlflow.get_run(run_id).info
    assert before.status == "FINISHED"
    assert before.start_time <= before.end_time
    assert track.sync_run(run) == run_id
    assert mlflow.get_run(run_id).info.end_time == before.end_time
    assert history(uri, run_id) == written(run)


def test_a_run_in_progress_is_not_closed_by_a_sync(run, uri):
    add_steps(LogWriter(run.claim({})), 1, 5)
    run.update(status="running")
    run_id = track.sync_run(run, uri=uri)
    assert client_module.connect(uri).get_run(run_id).info.status == "RUNNING"


def test_sync_needs_a_store(run):
    with pytest.raises(TrackingError, match="--tracking-uri"):
        track.sync_run(run)
    run.update(mlflow={"tracking_uri": "http://***@host", "run_id": "x"})
    with pytest.raises(TrackingError, match="password is not kept"):
        track.sync_run(run)


def test_status_is_one_of_four(run, uri):
    with pytest.raises(ValueError, match="finished, stopped, failed, killed"):
        track.Synchroniser(run, uri, "x").finish("done")
