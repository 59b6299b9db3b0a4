"""MLflow: every point of the log arrives once, with its own time, however often it is sent."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from metadist import track
from metadist.engine.rundir import RunDir, create_run
from metadist.engine.runlog import LogReader, LogWriter, write_parquet
from metadist.errors import TrackingError
from metadist.recipe import Recipe, load_recipe
from metadist.track import client as client_module
from metadist.track import send, sync


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database whose tables were made once."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    track.ensure_experiment(f"sqlite:///{path}", "other")
    return path


@pytest.fixture
def uri(template: Path, tmp_path: Path) -> str:
    shutil.copy(template, tmp_path / "mlflow.db")
    return track.default_tracking_uri(tmp_path)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return load_recipe("strokes-5w1s-maml")


@pytest.fixture
def run(tmp_path: Path, recipe: Recipe) -> RunDir:
    facts = {
        "dataset": {"name": "strokes", "digest": "d" * 64},
        "versions": {"metadist": "0.1.0"},
        "learner": {"algorithm": "maml", "norm": "transductive", "derivative_order": 2},
        "mlflow": None,
        "result": None,
    }
    return create_run(tmp_path / "runs", "demo", recipe, facts)


def begin(run: RunDir, uri: str, **tags: Any) -> str:
    info = run.info()
    params, found = track.run_params(run.recipe()), track.run_tags(info, **tags)
    return track.start_run(uri, "metadist", run.name, params, found, key=track.run_key(info))


def history(uri: str, run_id: str) -> dict[tuple[str, int], list[tuple[int, float]]]:
    """Everything an MLflow run holds: (time, value) of each (metric, step)."""
    mlflow = client_module.connect(uri)
    result: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for key in mlflow.get_run(run_id).data.metrics:
        for m in mlflow.get_metric_history(run_id, key):
            result.setdefault((key, m.step), []).append((m.timestamp, m.value))
    return result


def count(uri: str, run_id: str) -> int:
    """How many points an MLflow run holds."""
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
        query = "select count(*) from metrics where run_uuid = ?"
        return int(database.execute(query, (run_id,)).fetchone()[0])


def written(run: RunDir) -> dict[tuple[str, int], list[tuple[int, float]]]:
    return {(p.metric, p.step): [(p.time, p.value)] for p in LogReader(run).poll()}


def add_steps(writer: LogWriter, first: int, last: int) -> None:
    for step in range(first, last + 1):
        writer.add(step, {"train/loss": 1 / step, "train/accuracy": step / 7})
    writer.flush()


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Requests fail while the event is set, every second one after it has arrived."""
    broken = threading.Event()
    honest, calls = send.send_points, 0

    def unreliable(client: Any, run_id: str, points: Any) -> None:
        nonlocal calls
        calls += 1
        if broken.is_set():
            if calls % 2:
                honest(client, run_id, points)
            raise ConnectionError("no answer")
        honest(client, run_id, points)

    monkeypatch.setattr(sync, "send_points", unreliable)
    monkeypatch.setattr(sync, "BACKOFF", (0.01, 0.05))
    yield broken


def test_mlflow_is_not_imported_before_it_is_used():
    code = (
        "import sys, metadist.track, metadist.report, metadist.progress;"
        "metadist.track.default_tracking_uri(__import__('pathlib').Path('.'));"
        "sys.exit('mlflow' in sys.modules or 'ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_where_the_store_is(tmp_path, monkeypatch):
    assert track.default_tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there")
    assert track.default_tracking_uri(tmp_path) == "http://there"
    assert client_module.sqlite_path("sqlite:////a/b.db?timeout=5") == Path("/a/b.db")
    assert client_module.sqlite_path("http://a") is None
    location = client_module.artifact_location(f"sqlite:///{tmp_path}/mlflow.db", "../my exp")
    assert location == (tmp_path / "mlruns" / "_my_exp").as_uri()
    assert client_module.artifact_location("http://a", "e") is None


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
    error = client_module.explain("http://me:pw@host", ValueError("http://me:pw@host failed"))
    assert "pw" not in str(error)


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
    tags = track.run_tags({"versions": {"a@b#c": "v" * 900}, "dataset": None})
    assert tags == {"version.a_b_c": "v" * 499 + "…"}
    run_id = track.start_run(uri, "metadist", "n", params, tags)
    writer = LogWriter(run.claim({}))
    writer.add(1, {"train/acc@5%": 0.5})
    writer.flush()
    assert track.Synchroniser(run, uri, run_id, interval=0.01).start().finish("finished", 20)
    assert list(history(uri, run_id)) == [("train/acc_5_", 1)]


def test_points_arrive_once_with_their_time_and_exact_value(run, uri):
    run_id = begin(run, uri)
    writer = LogWriter(run.claim({"world_size": 1, "bits": "verified"}))
    synchroniser = track.Synchroniser(run, uri, run_id, interval=0.01).start()
    for first in range(1, 1500, 300):
        add_steps(writer, first, first + 299)
        time.sleep(0.02)
    wait_for(lambda: count(uri, run_id) == 3000)
    writer.add(1500, {"val/accuracy": 0.1 + 0.2, "val/tiny": 5e-324})
    writer.flush()
    assert synchroniser.finish("finished", 20)
    found = history(uri, run_id)
    assert found == written(run)
    assert found["val/accuracy", 1500][0][1] == 0.1 + 0.2


def test_values_that_are_not_finite_arrive_once(run, uri):
    run_id = begin(run, uri)
    writer = LogWriter(run.claim({}))
    for step, value in enumerate([math.nan, math.inf, -math.inf, 1.0], 1):
        writer.add(step, {"train/loss": value})
    writer.flush()
    for _ in range(3):
        assert track.Synchroniser(run, uri, run_id).start().finish("finished", 20)
        (run.log / "sent.json").unlink()  # so that everything is sent again
    found = history(uri, run_id)
    values = [found["train/loss", step] for step in (1, 2, 3, 4)]
    assert [len(v) for v in values] == [1, 1, 1, 1]
    assert math.isnan(values[0][0][1])
    assert values[1][0][1] == sys.float_info.max
    assert values[2][0][1] == -sys.float_info.max


def test_an_outage_loses_and_doubles_nothing(run, uri, monkeypatch, caplog):
    run_id = begin(run, uri)
    writer = LogWriter(run.claim({}))
    with failing(monkeypatch) as broken, caplog.at_level(logging.WARNING):
        synchroniser = track.Synchroniser(run, uri, run_id, interval=0.01).start()
        add_steps(writer, 1, 200)
        wait_for(lambda: count(uri, run_id) >= 400)
        broken.set()
        add_steps(writer, 201, 1100)
        wait_for(lambda: "does not take points" in caplog.text)
        broken.clear()
        add_steps(writer, 1101, 1150)
        assert synchroniser.finish("finished", 20)
    assert history(uri, run_id) == written(run)
    assert caplog.text.count("does not take points") == 1
    assert caplog.text.count("takes points again") == 1


def test_redone_steps_and_a_new_driver_add_nothing(run, uri):
    run_id = begin(run, uri)
    writer = LogWriter(run.claim({}))
    first = track.Synchroniser(run, uri, run_id, interval=0.01).start()
    add_steps(writer, 1, 800)
    wait_for(lambda: count(uri, run_id) == 1600)
    first.stop()  # as good as killed: nothing is closed
    later = LogWriter(run.claim({}))
    track.reopen_run(uri, run_id, track.run_params(run.recipe()), {"world_size": "3"})
    second = track.Synchroniser(run, uri, run_id, interval=0.01).start()
    add_steps(later, 500, 900)
    assert second.finish("finished", 20)
    found = history(uri, run_id)
    assert found == written(run)
    assert len(found) == 1800
    assert client_module.connect(uri).get_run(run_id).data.tags["world_size"] == "3"


def test_a_new_driver_does_not_send_all_again(run, uri, monkeypatch):
    run_id = begin(run, uri)
    add_steps(LogWriter(run.claim({})), 1, 1000)
    assert track.Synchroniser(run, uri, run_id).start().finish("finished", 30)
    assert json.loads((run.log / "sent.json").read_text()) == {"run_id": run_id, "sent": 2000}
    sent: list[int] = []

    def counting(client: Any, run_id: str, points: Any) -> None:
        sent.append(len(points))
        send.send_points(client, run_id, points)

    monkeypatch.setattr(sync, "send_points", counting)
    add_steps(LogWriter(run.claim({})), 950, 1010)
    assert track.Synchroniser(run, uri, run_id).start().finish("finished", 30)
    assert sum(sent) == 1000 + 20
    assert history(uri, run_id) == written(run)


@pytest.mark.parametrize("note", ["", "[]", '{"run_id": "other", "sent": 99999}', '{"sent": 4}'])
def test_a_note_that_is_no_note_costs_only_time(run, uri, note):
    run_id = begin(run, uri)
    add_steps(LogWriter(run.claim({})), 1, 20)
    (run.log / "sent.json").write_text(note)
    assert track.Synchroniser(run, uri, run_id).start().finish("finished", 20)
    assert history(uri, run_id) == written(run)


def test_a_log_that_cannot_be_read_for_a_moment_is_read_again(run, uri, monkeypatch):
    run_id = begin(run, uri)
    writer = LogWriter(run.claim({}))
    add_steps(writer, 1, 50)
    monkeypatch.setattr(sync, "BACKOFF", (0.01, 0.05))
    honest, calls = LogReader._news, 0

    def unsteady(self: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        points = honest(self, *args)
        if calls in (1, 3):
            raise OSError("stale file handle")
        return points

    monkeypatch.setattr(LogReader, "_news", unsteady)
    synchroniser = track.Synchroniser(run, uri, run_id, interval=0.01).start()
    add_steps(writer, 51, 90)
    assert synchroniser.finish("finished", 20)
    monkeypatch.undo()
    assert history(uri, run_id) == written(run)


def test_finish_sends_files_result_and_end(run, uri):
    run_id = begin(run, uri)
    add_steps(LogWriter(run.claim({"world_size": 4, "bits": "verified"})), 1, 10)
    write_parquet(run)
    run.evaluation.mkdir()
    for name in ("test-1q.json", "test-1q.parquet", ".partial-x"):
        (run.evaluation / name).write_text("{}")
    run.report.write_text("<p>")
    checkpoint = run.checkpoints / "step-00000010"
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


def test_files_that_cannot_be_stored_do_not_keep_a_run_open(run, uri, monkeypatch, caplog):
    run_id = begin(run, uri)
    add_steps(LogWriter(run.claim({})), 1, 10)
    monkeypatch.setattr(sync, "BACKOFF", (0.01, 0.05))
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
    assert "metadist sync demo" in caplog.text
    assert str(run.path) in caplog.text
    # Later, by hand.
    run.update(status="finished", mlflow={"tracking_uri": uri, "run_id": run_id})
    assert track.sync_run(run) == run_id
    assert history(uri, run_id) == written(run)
    assert client_module.connect(uri).get_run(run_id).info.status == "FINISHED"


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


def test_more_steps_are_noted_beside_the_param(run, uri, recipe):
    run_id = begin(run, uri)
    params = track.run_params(recipe) | {"outer.steps": "9999"}
    track.reopen_run(uri, run_id, params, {})
    data = client_module.connect(uri).get_run(run_id).data
    assert data.params["outer.steps"] == str(recipe.outer.steps)
    assert data.tags["now.outer.steps"] == "9999"


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
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "15"


def test_a_user_decides_how_long_to_wait(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    with client_module.impatient():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"


@pytest.mark.slow
def test_two_drivers_may_make_the_store_at_once(tmp_path):
    code = (
        "import sys, logging; logging.basicConfig(level=logging.INFO);"
        "from metadist import track; track.ensure_experiment(sys.argv[1], 'metadist')"
    )
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/new/mlflow.db"]
    drivers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    for driver in drivers:
        output, _ = driver.communicate(timeout=120)
        assert driver.returncode == 0, output
        assert "alembic" not in output
        assert "mlflow.store" not in output


def test_status_is_one_of_three(run, uri):
    with pytest.raises(ValueError, match="finished, failed, killed"):
        track.Synchroniser(run, uri, "x").finish("done")


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
