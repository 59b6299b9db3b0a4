"""Where MLflow's pages of our runs are, and what they begin with."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys

import pytest
from mlflow_server import free_port
from tracked import begin

from metadist import track
from metadist.errors import TrackingError
from metadist.track import client as client_module
from metadist.track import ui as ui_module
from metadist.track import uris

RUNS = "#/experiments/7/runs?viewStateShareKey=metadist&workflowType=machine_learning"


@pytest.mark.parametrize(
    ("server", "page"),
    [
        ("http://127.0.0.1:5000", f"http://127.0.0.1:5000/{RUNS}"),
        ("http://127.0.0.1:5000/", f"http://127.0.0.1:5000/{RUNS}"),
        ("https://me:secret@host.example/mlflow/?token=x", f"https://host.example/mlflow/{RUNS}"),
        ("http://[::1]:5000", f"http://[::1]:5000/{RUNS}"),
    ],
)
def test_the_address_of_the_runs(server, page):
    assert ui_module.runs_page(server, "7") == page


def test_every_experiment_with_runs_of_ours_is_named_the_newest_first(run, uri):
    mlflow = client_module.connect(uri)
    mlflow.create_run("0")  # of somebody else
    server = "http://there"
    assert ui_module.pages(uri, server) == [
        ("no run of metadist yet", f"{server}/#/experiments?workflowType=machine_learning")
    ]
    older = mlflow.create_experiment("older")  # by hand, so without our view
    first = track.start_run(uri, "older", "a", {}, {}, key="a", start_time=1000)
    begin(run, uri)
    names = [name for name, _ in ui_module.pages(uri, server)]
    assert names == ["metadist", "older"]
    for name, address in ui_module.pages(uri, server):
        found = mlflow.get_experiment_by_name(name)
        assert found is not None
        assert address == ui_module.runs_page(server, found.experiment_id)
        columns = json.loads(found.tags["mlflow.sharedViewState.metadist"])["selectedColumns"]
        figures = ("accuracy", "accuracy_ci95", "classes", "accuracy_ci95_classes")
        assert {f"metrics.`test/{figure}`" for figure in figures} < set(columns)
    assert mlflow.get_run(first).info.experiment_id == older


def test_where_to_look(run, uri, tmp_path, monkeypatch):
    run_id = begin(run, uri)
    assert track.where_to_look(uri, run_id) == f"metadist ui --tracking-uri {uri}"
    monkeypatch.chdir(tmp_path)
    assert track.where_to_look(uri, run_id) == "metadist ui"
    assert track.where_to_look("http://me:pw@127.0.0.1:9", run_id) == (
        "http://127.0.0.1:9/#/experiments?workflowType=machine_learning"
    )


def test_a_browser_is_opened_when_the_server_answers(uri, monkeypatch):
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    monkeypatch.setattr(ui_module, "ui_command", lambda *_, **__: command)
    monkeypatch.setattr(ui_module, "_LOOK_SECONDS", 0.05)
    calls: list[bool] = []

    def ready() -> None:
        calls.append(ui_module._answers(port))
        os.kill(os.getpid(), signal.SIGTERM)

    assert track.run_ui(uri, port=port, ready=ready) == 0
    assert calls == [True]


def test_a_store_of_another_mlflow_is_not_served(uri):
    path = uris.sqlite_path(uri)
    assert path is not None
    with sqlite3.connect(path) as database:
        database.execute("update alembic_version set version_num = 'unknown'")
    database.close()
    with pytest.raises(TrackingError, match="a newer MLflow has made it"):
        track.ui_command(uri)
