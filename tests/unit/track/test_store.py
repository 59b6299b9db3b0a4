"""MLflow: where the store is, how it describes a run, and what is said if it cannot be used."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tracked import add_steps, begin, history

from metadist import track
from metadist.errors import TrackingError
from metadist.runs.listing import create_run
from metadist.runs.log import LogWriter
from metadist.track import client as client_module
from metadist.track import uris


def test_mlflow_is_not_imported_before_it_is_used():
    code = (
        "import sys, metadist.track, metadist.report, metadist.driver.progress;"
        "metadist.track.default_tracking_uri(__import__('pathlib').Path('.'));"
        "sys.exit('mlflow' in sys.modules or 'ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_where_the_store_is(tmp_path, monkeypatch):
    assert track.default_tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there")
    assert track.default_tracking_uri(tmp_path) == "http://there"
    assert uris.sqlite_path("sqlite:////a/b.db?timeout=5") == Path("/a/b.db")
    assert uris.sqlite_path("http://a") is None
    location = uris.artifact_location(f"sqlite:///{tmp_path}/mlflow.db", "../my exp")
    assert location == (tmp_path / "mlruns" / "_my_exp").as_uri()
    assert uris.artifact_location("http://a", "e") is None


def test_passwords_are_not_told():
    for uri, shown in {
        "postgresql://me:pw@host/db": "postgresql://***@host/db",
        "postgresql://me:p@ss@host/db": "postgresql://***@host/db",
        "https://token@host/x": "https://***@host/x",
        "https://host/x?token=SECRET&b=c": "https://host/x?token=***&b=***",
        "http://host:5000": "http://host:5000",
        "sqlite:////a/b@c.db": "sqlite:////a/b@c.db",
    }.items():
        assert track.public_uri(uri) == shown
    assert track.public_uri("http://host:5000/a@b") == "http://host:5000/a@b"
    with (
        pytest.raises(TrackingError, match="host failed") as error,
        client_module.explained("http://me:pw@host"),
    ):
        raise ValueError("http://me:pw@host failed")
    assert "pw" not in str(error.value)


def test_the_server_imports_nothing_from_where_it_is_started(tmp_path):
    (tmp_path / "shadow.py").write_text("raise SystemExit(7)\n")
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "shadow:app"],
        cwd=tmp_path,
        env=track.ui_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 'Could not import module "shadow"' in done.stderr


def test_the_command_for_the_pages(uri, tmp_path):
    command = track.ui_command(uri, port=5555)
    assert command[0] == sys.executable
    text = " ".join(command)
    for part in (
        f"--backend-store-uri {uri}",
        f"--artifacts-destination {(tmp_path / 'mlruns').as_uri()}",
        "--host 127.0.0.1",
        "--port 5555",
        "--workers 1",
    ):
        assert part in text
    assert track.ui_environment()["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    with pytest.raises(TrackingError, match="open it in a browser"):
        track.ui_command("http://host")
    with pytest.raises(TrackingError, match="train a run first"):
        track.ui_command(f"sqlite:///{tmp_path}/none.db")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TrackingError, match="--port"):
            track.run_ui(uri, port=port)


# --- a run in the store ---------------------------------------------------------------------------


def test_a_run_is_described(run, uri, recipe):
    run_id = begin(run, uri, world_size=2, bits="unverified", numerics={"torch": "2.13.0"})
    data = client_module.connect(uri).get_run(run_id)
    assert data.info.run_name == "demo"
    assert data.info.status == "RUNNING"
    assert data.info.artifact_uri.startswith(Path(run.path.parent.parent, "mlruns").as_uri())
    assert data.data.params["inner.lr"] == "0.4"
    assert data.data.params["data.dataset"] == "strokes"
    assert set(data.data.params) == set(track.run_params(recipe))
    tags = data.data.tags
    assert tags["recipe_hash"] == recipe.hash
    assert tags["dataset_digest"] == "d" * 64
    assert tags["version.metadist"] == "0.1.0"
    assert tags["norm"] == "transductive"
    assert tags["derivative_order"] == "2"
    assert tags["world_size"] == "2"
    assert tags["bits"] == "unverified"
    assert tags["numerics.torch"] == "2.13.0"


def test_a_driver_that_died_before_it_noted_the_id_finds_its_run(run, uri):
    first = begin(run, uri)
    assert begin(run, uri) == first
    other = create_run(run.path.parent, "other", run.recipe(), {})
    assert begin(other, uri) != first


def test_long_and_odd_names_and_values(run, uri):
    params = track.run_params(run.recipe()) | {"x": "y" * 9}
    tags = track.run_tags({"versions": {"a@b#c": "v" * 900}, "dataset": None}, {})
    assert tags == {"version.a_b_c": "v" * 499 + "…"}
    run_id = track.start_run(uri, "metadist", "n", params, tags)
    writer = LogWriter(run.claim({}))
    writer.add(1, {"train/acc@5%": 0.5})
    writer.flush()
    assert track.Synchroniser(run, uri, run_id, interval=0.01).start().finish("finished", 20)
    assert list(history(uri, run_id)) == [("train/acc_5_", 1)]


def test_more_steps_are_noted_beside_the_param(run, uri, recipe):
    run_id = begin(run, uri)
    params = track.run_params(recipe) | {"outer.steps": "9999"}
    track.reopen_run(uri, run_id, params, {})
    data = client_module.connect(uri).get_run(run_id).data
    assert data.params["outer.steps"] == str(recipe.outer.steps)
    assert data.tags["now.outer.steps"] == "9999"


# --- what cannot be used --------------------------------------------------------------------------


def test_a_deleted_run_is_named(run, uri, caplog):
    run_id = begin(run, uri)
    run.update(status="finished", mlflow={"tracking_uri": uri, "run_id": run_id})
    add_steps(LogWriter(run.claim({})), 1, 5)
    mlflow = client_module.connect(uri)
    mlflow.delete_run(run_id)
    with pytest.raises(TrackingError, match=rf"{run_id}.* is deleted .*runs restore"):
        track.reopen_run(uri, run_id, {}, {})
    with pytest.raises(TrackingError, match="is deleted"):
        track.sync_run(run)
    with pytest.raises(TrackingError, match="is missing"):
        track.reopen_run(uri, "0" * 32, {}, {})
    with caplog.at_level(logging.ERROR):
        began = time.monotonic()
        assert not track.Synchroniser(run, uri, run_id).start().finish("finished", 60)
        assert time.monotonic() - began < 20
    assert "is deleted" in caplog.text


def test_a_deleted_experiment_is_named(uri):
    identity = track.ensure_experiment(uri, "gone")
    client_module.connect(uri).delete_experiment(identity)
    with pytest.raises(TrackingError, match=r"'gone' was deleted; .*--experiment"):
        track.ensure_experiment(uri, "gone")


def test_no_server_is_said_at_once(run, tmp_path):
    began = time.monotonic()
    with pytest.raises(TrackingError, match=r"cannot be used: .*refused.*--offline"):
        track.ensure_experiment("http://127.0.0.1:9", "metadist")
    with pytest.raises(TrackingError, match="--offline"):
        begin(run, "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match="--offline"):
        track.ensure_experiment("nonsense://x", "metadist")
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"no database" * 100)
    with pytest.raises(TrackingError, match="not a database"):
        track.ensure_experiment(f"sqlite:///{damaged}", "metadist")
    assert time.monotonic() - began < 20


def test_a_server_that_does_not_answer_is_said_within_seconds(monkeypatch):
    monkeypatch.setattr(client_module, "FIRST_ANSWER_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(TrackingError, match="--offline"):
            track.ensure_experiment(f"http://127.0.0.1:{silent.getsockname()[1]}", "metadist")
        assert time.monotonic() - began < 8
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


def test_a_user_decides_how_long_to_wait(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    with client_module.impatient():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
