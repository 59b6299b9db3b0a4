"""A real MLflow server that goes away while a run is being written, and comes back."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow_server import PATIENCE, Server, answers, free_port, members, wait_for

from metadist import track
from metadist.recipe.schema import load_recipe
from metadist.runs.listing import create_run
from metadist.runs.log import LogReader, LogWriter
from metadist.runs.run_dir import RunDir
from metadist.track.client import connect

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(600)]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    server = Server(tmp_path)
    server.start()
    yield server
    if server._process is not None:
        server.signal(signal.SIGCONT)
    server.stop()


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    facts = {"mlflow": None, "result": None, "dataset": {"name": "strokes", "digest": "d" * 64}}
    return create_run(tmp_path / "runs", "demo", load_recipe("strokes-5w1s-maml"), facts)


def begin(run: RunDir, url: str) -> str:
    params, tags = track.run_params(run.recipe()), track.run_tags(run.info(), {})
    return track.start_run(url, "metadist", run.name, params, tags, key=track.run_key(run.info()))


def add_steps(writer: LogWriter, first: int, last: int) -> None:
    for step in range(first, last + 1):
        writer.add(step, {"train/loss": 1 / step, "train/accuracy": step / 7})
    writer.flush()


def held(url: str, run_id: str) -> Counter[tuple[Any, ...]]:
    """Every point that the server holds, with how often."""
    client = connect(url)
    return Counter(
        (m.key, m.step, m.timestamp, m.value)
        for key in client.get_run(run_id).data.metrics
        for m in client.get_metric_history(run_id, key)
    )


def written(run: RunDir) -> Counter[tuple[Any, ...]]:
    return Counter((p.metric, p.step, p.time, p.value) for p in LogReader(run).poll())


@pytest.mark.parametrize(
    "hard", [pytest.param(False, marks=pytest.mark.long), True], ids=["stopped", "killed"]
)
def test_a_server_that_goes_away_misses_and_doubles_nothing(run, server, hard):
    run_id = begin(run, server.url)
    writer = LogWriter(run.claim({"world_size": 1, "bits": "verified"}))
    synchroniser = track.Synchroniser(run, server.url, run_id, interval=0.02).start()
    add_steps(writer, 1, 500)
    wait_for(lambda: len(held(server.url, run_id)) > 0, "the first points")
    for step in range(501, 3001, 50):  # it goes in the midst of writing
        add_steps(writer, step, step + 49)
        if step == 1501:
            server.stop(hard=hard)
    add_steps(writer, 3001, 3500)
    time.sleep(3)
    server.start()
    add_steps(writer, 3501, 4000)
    run.update(status="finished", result={"accuracy": 0.5})
    run.report.write_text("<p>report</p>")
    assert synchroniser.finish("finished", PATIENCE)
    assert held(server.url, run_id) == written(run)
    client = connect(server.url)
    assert client.get_run(run_id).info.status == "FINISHED"
    assert client.get_run(run_id).data.tags["result.accuracy"] == "0.5"
    names = {f.path for f in client.list_artifacts(run_id)}
    assert {"recipe.toml", "run.json", "report.html"} <= names
    # All of it once more adds nothing.
    run.update(mlflow={"tracking_uri": server.url, "run_id": run_id})
    track.sync_run(run)
    assert held(server.url, run_id) == written(run)


def test_a_server_that_hangs_gets_each_point_once(run, server):
    """Requests that ran into the time limit are answered all the same when it goes on."""
    run_id = begin(run, server.url)
    writer = LogWriter(run.claim({}))
    synchroniser = track.Synchroniser(run, server.url, run_id, interval=0.02).start()
    add_steps(writer, 1, 300)
    server.signal(signal.SIGSTOP)
    add_steps(writer, 301, 1500)
    began = time.monotonic()
    assert not synchroniser._done.wait(8)
    add_steps(writer, 1501, 1600)
    assert time.monotonic() - began < 12, "writing waited for the server"
    server.signal(signal.SIGCONT)
    assert synchroniser.finish("finished", PATIENCE)
    assert held(server.url, run_id) == written(run)


def test_values_that_are_not_finite_arrive_once(run, server):
    run_id = begin(run, server.url)
    writer = LogWriter(run.claim({}))
    writer.add(1, {"train/loss": float("nan"), "val/loss": float("inf")})
    writer.flush()
    for _ in range(2):
        track.Synchroniser(run, server.url, run_id).start().finish("finished", 60)
    client = connect(server.url)
    assert len(client.get_metric_history(run_id, "train/loss")) == 1
    assert client.get_metric_history(run_id, "val/loss")[0].value == sys.float_info.max


_DRIVER = """
import sys, time
from pathlib import Path
from metadist import track
from metadist.runs.run_dir import RunDir
from metadist.runs.log import LogWriter
run = RunDir(Path(sys.argv[1]))
uri, first = sys.argv[2], int(sys.argv[3])
info = run.info()
if info["mlflow"] is None:
    run_id = track.start_run(uri, "metadist", run.name, {}, {}, key=track.run_key(info))
    run.update(mlflow={"tracking_uri": uri, "run_id": run_id})
else:
    run_id = info["mlflow"]["run_id"]
    track.reopen_run(uri, run_id, {}, {})
writer = LogWriter(run.claim({}))
synchroniser = track.Synchroniser(run, uri, run_id, interval=0.02).start()
for step in range(first, 2001):
    writer.add(step, {"train/loss": 1 / step})
    if step % 20 == 0:
        writer.flush()
        time.sleep(0.02)
    if step % 500 == 0:
        print(step, flush=True)
run.update(status="finished")
assert synchroniser.finish("finished", 120)
"""


@pytest.mark.long
def test_drivers_that_are_killed_leave_one_run_without_gaps(run, server):
    def drive(first: int, until: int | None) -> None:
        command = [sys.executable, "-c", _DRIVER, str(run.path), server.url, str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
            assert driver.stdout is not None
            for line in driver.stdout:
                if until is not None and int(line) >= until:
                    driver.kill()
            driver.wait(PATIENCE)
        assert driver.returncode == (0 if until is None else -signal.SIGKILL)

    drive(1, 500)
    drive(401, 1500)  # as after a checkpoint at step 400
    drive(1001, None)
    run_id = run.info()["mlflow"]["run_id"]
    found = held(server.url, run_id)
    assert found == written(run)
    assert sorted(step for _, step, _, _ in found) == list(range(1, 2001))
    client = connect(server.url)
    experiment = client.get_experiment_by_name("metadist")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 1


def test_ending_the_pages_ends_all_of_their_processes(tmp_path, run):
    store = f"sqlite:///{tmp_path}/mlflow.db"
    run_id = begin(run, store)
    run.update(status="finished")
    add_steps(LogWriter(run.claim({})), 1, 3)
    track.sync_run(run, uri=store)
    port = free_port()
    code = (
        "import sys; from metadist import track;"
        "sys.exit(track.run_ui(sys.argv[1], port=int(sys.argv[2])))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, store, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(url), "the pages")
        artifact = f"{url}/get-artifact?path=recipe.toml&run_uuid={run_id}"
        with urllib.request.urlopen(artifact, timeout=30) as reply:
            assert reply.read() == (run.path / "recipe.toml").read_bytes()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        groups = [int(child) for child in children if members(int(child))]
        assert len(groups) == 1
        assert len(members(groups[0])) >= 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not members(groups[0])
        assert not answers(url)
    finally:
        process.kill()
        process.wait()
