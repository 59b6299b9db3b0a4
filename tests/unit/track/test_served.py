"""The registered model where it is used: in a process of its own, and behind MLflow's server."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from own_images import export, request

import metadist
from metadist.episode_data import open_data
from metadist.runs.run_dir import RunDir

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SETTINGS = (
    "outer.steps=6",
    "outer.batch=4",
    "eval.every=3",
    "eval.episodes=4",
    "eval.val_episodes=4",
    "eval.extra_queries=0",
)
#: Loads a model, answers a request and says which of what could unpickle was used.
FRESH = """
import json, pickle, sys
import cloudpickle, mlflow, pandas, torch

def refuse(*arguments, **named):
    raise AssertionError("unpickled")

for module in (pickle, cloudpickle, torch):
    module.load = refuse
model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict(pandas.DataFrame(json.load(open(sys.argv[2]))))
print(json.dumps(answer.to_dict(orient="records")))
"""


@contextmanager
def serving(uri: str, environment: dict[str, str], log: Path) -> Iterator[str]:
    """``mlflow models serve`` in a process group of its own, on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--env-manager", "local", "--workers", "1"],
            env=environment,
            cwd=log.parent,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 300
        while not _answers(f"{address}/ping"):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        yield address
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and its children, which are all in its group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return int(reply.status) == 200
    except (urllib.error.URLError, OSError):
        return False


def ask(address: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and answer of a request."""
    asked = urllib.request.Request(
        f"{address}/invocations",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(asked, timeout=120) as reply:
            return int(reply.status), json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_adapt_a_fresh_process_and_a_server_agree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    metadist.train("strokes-5w1s-maml", name="short", overrides=SETTINGS)
    recipe = RunDir(tmp_path / "runs" / "short").recipe()
    source = open_data(recipe, tmp_path / "data").live("test", 3, 0)
    support, query = export(source.episodes([0]), tmp_path / "mine")
    adapted = metadist.adapt("short", support=support, query=query)
    with (Path(adapted["directory"]) / "predictions.csv").open(newline="") as handle:
        expected = list(csv.DictReader(handle))
    registered = metadist.register("short", name="served")
    assert registered["uri"] == "models:/served/1"
    # The model stands alone: neither its run nor its dataset are there any more.
    (tmp_path / "runs").rename(tmp_path / "gone-runs")
    (tmp_path / "data").rename(tmp_path / "gone-data")
    environment = {
        **os.environ,
        # MLflow starts uvicorn by its name, as in an activated environment.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": registered["tracking_uri"],
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    rows = request(support, query)

    def agrees(answer: list[dict[str, Any]]) -> None:
        assert [row["label"] for row in answer] == [row["label"] for row in expected]
        for row, theirs in zip(answer, expected, strict=True):
            for label, probability in row["probabilities"].items():
                assert probability == float(theirs[f"p({label})"])
            assert len(row["probabilities"]) == 5

    (tmp_path / "request.json").write_text(json.dumps(rows))
    done = subprocess.run(
        [sys.executable, "-c", FRESH, registered["uri"], "request.json"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    agrees(json.loads(done.stdout.strip().splitlines()[-1]))

    with serving(registered["uri"], environment, tmp_path / "serve.log") as address:
        status, answer = ask(address, {"dataframe_records": rows})
        assert status == 200, answer
        agrees(answer["predictions"])
        columns = ["role", "label", "image"]
        split = {"columns": columns, "data": [[row[c] for c in columns] for row in rows]}
        status, answer = ask(address, {"dataframe_split": split, "params": {"steps": 1}})
        assert status == 200, answer
        agrees(answer["predictions"])
        status, answer = ask(address, {"dataframe_records": rows[5:]})
        assert status == 400
        assert "no support image" in answer["message"]
        status, answer = ask(address, {"dataframe_records": [{"role": "support"}]})
        assert status == 400
        assert "image" in answer["message"]
