"""``metadist reproduce`` from the command line to its page, at a thousandth of the budget."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from metadist.runs.log import LogReader
from metadist.runs.run_dir import RunDir

pytestmark = [pytest.mark.slow, pytest.mark.learning, pytest.mark.timeout(600)]


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "metadist", "reproduce", *arguments, "--json"],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
        # As in the foreground of a terminal: a shell's background jobs ignore it, and we with them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def reproduced(directory: Path, *arguments: str) -> dict[str, Any]:
    """The document that a request ends with; by row under ``rows``."""
    process = start(directory, *arguments)
    out, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
    document: dict[str, Any] = json.loads(out)
    page = directory / "results" / f"{document['table']}.md"
    assert page.is_file()
    assert json.loads(page.with_suffix(".json").read_text()) == document
    return {**document, "rows": {row["id"]: row for row in document["rows"]}}


def value(document: dict[str, Any], row: str) -> float:
    number: float = document["rows"][row]["ours"]["value"]
    return number


@pytest.mark.long
def test_sinusoids_at_other_shots_with_mlflow(tmp_path: Path) -> None:
    request = ("sinusoid-shots", "--tasks", "800", "--rows", "maml-5,maml-20,mtnet-10")
    first = reproduced(tmp_path, *request)
    assert {row["verdict"]["kind"] for row in first["rows"].values()} == {"above"}
    assert first["rows"]["maml-5"]["verdict"]["text"].startswith("above (worse) at 0.33 %")
    # 200 updates from the small initialisation: little more than the floor of no adaptation.
    assert 2.5 <= value(first, "maml-20") <= 4.5
    assert (tmp_path / "results" / "sinusoid-shots-rows.svg").is_file()
    database = sqlite3.connect(tmp_path / "mlflow.db")
    names = {name for (name,) in database.execute("select name from runs")}
    figures = dict(
        database.execute(
            "select m.key, m.value from metrics m join runs r using (run_uuid) where r.name = ?",
            ("sinusoid-shots-t800",),
        )
    )
    database.close()
    assert names == {
        "sinusoid-shots-maml-t800-s0",
        "sinusoid-shots-mtnet-t800-s0",
        "sinusoid-shots-t800",
    }
    assert figures["maml-5/ours"] == value(first, "maml-5")
    assert figures["maml-5/published"] == 1.07
    # The same again, of the same runs.
    again = reproduced(tmp_path, *request)
    assert again["rows"] == first["rows"]
    assert RunDir(tmp_path / "runs" / "sinusoid-shots-maml-t800-s0").latest_attempt() == 1


@pytest.mark.long
def test_step_sizes(tmp_path: Path) -> None:
    request = ("step-size", "--tasks", "800", "--rows", "maml-0.01,mtnet-10", "--offline")
    document = reproduced(tmp_path, *request)
    assert document["rows"]["maml-0.01"]["verdict"]["kind"] == "above"
    # At this step size what comes out at so few steps is anybody's guess, but it comes out.
    assert document["rows"]["mtnet-10"]["verdict"]["kind"] in ("above", "within")
    assert (tmp_path / "results" / "step-size-rows.svg").is_file()


@pytest.mark.long
def test_masks_on_polynomials(tmp_path: Path) -> None:
    rows = "mse-0,p-update-1-order0,p-update-3-order0"
    document = reproduced(
        tmp_path, "polynomial-masks", "--tasks", "1600", "--rows", rows, "--offline"
    )
    assert {row["verdict"]["kind"] for row in document["rows"].values()} == {"not comparable"}
    # Its floor without adaptation is 1/3; the masks begin at one half.
    assert value(document, "mse-0") < 0.34
    for row in ("p-update-1-order0", "p-update-3-order0"):
        assert 0.4 <= value(document, row) <= 1.0


@pytest.mark.long
def test_fine_tuning_against_maml(tmp_path: Path) -> None:
    document = reproduced(tmp_path, "finetune-contrast", "--tasks", "15000", "--offline")
    assert value(document, "maml") < value(document, "finetune")
    assert value(document, "ratio") == pytest.approx(
        value(document, "finetune") / value(document, "maml")
    )
    assert document["rows"]["ratio"]["ours"]["ci95"] > 0


@pytest.mark.long
def test_speed_of_first_order(tmp_path: Path) -> None:
    request = ("first-order", "--tasks", "40", "--rows", "speed-strokes,speed", "--offline")
    process = start(tmp_path, *request)
    out, err = process.communicate()
    rows = {row["id"]: row for row in json.loads(out)["rows"]}
    assert rows["speed-strokes"]["ours"]["value"] > 0
    # The other row's data are not there: it is missing, and the command says so at its end.
    assert rows["speed"]["verdict"]["kind"] == "missing"
    assert "metadist data prepare mini_imagenet" in rows["speed"]["verdict"]["why"]
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith("Error: 2 of 4 runs failed")


TABLE = """
title = "Two learners"
summary = "For a test."
tasks = 6000
[base]
recipe = "sinusoid-10shot-maml"
set = ["eval.extra_queries=0", "eval.steps=1", "eval.episodes=20", "eval.val_episodes=20"]
published_steps = 1000
published_batch = 25
[runs.maml]
[runs.fomaml]
set = ["algorithm.name=fomaml"]
[[rows]]
id = "maml"
label = "MAML"
run = "maml"
metric = "mse"
not_comparable = "made up"
[[rows]]
id = "fomaml"
label = "first-order MAML"
run = "fomaml"
metric = "mse"
not_comparable = "made up"
"""


def trained(run: RunDir) -> int:
    """Outer steps in the log."""
    if not run.log.is_dir():
        return 0
    return max((p.step for p in LogReader(run).poll()), default=0)


REQUEST = ("two.toml", "--jobs", "2", "--offline")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What comes out where nothing is disturbed."""
    directory = tmp_path_factory.mktemp("whole")
    (directory / "two.toml").write_text(TABLE)
    return reproduced(directory, *REQUEST)


@pytest.mark.faults
@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGTERM, marks=pytest.mark.long),
        pytest.param(signal.SIGINT, marks=pytest.mark.long),
        signal.SIGKILL,
    ],
)
def test_killed_it_leaves_nothing_behind_and_goes_on(
    tmp_path: Path, whole: dict[str, Any], how: signal.Signals
) -> None:
    (tmp_path / "two.toml").write_text(TABLE)
    process = start(tmp_path, *REQUEST)
    runs = [RunDir(tmp_path / "runs" / f"two-{name}-t6000-s0") for name in ("maml", "fomaml")]
    deadline = time.monotonic() + 120
    while not any(trained(run) >= 60 for run in runs):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(how)
    process.communicate()
    assert process.returncode not in (0, None)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    again = reproduced(tmp_path, *REQUEST)
    assert again["rows"] == whole["rows"]
    digests = [[run["params_sha256"] for run in d["runs"]] for d in (whole, again)]
    assert digests[0] == digests[1]
    # It went on from a checkpoint: nothing was trained from the start again.
    resumed = [run for run in runs if run.latest_attempt() == 2]
    assert any(run.attempt_facts(2)["from_step"] >= 24 for run in resumed)


@pytest.mark.long
@pytest.mark.faults
@pytest.mark.distributed
def test_on_a_cluster_it_is_the_same_and_can_be_interrupted(
    tmp_path: Path, whole: dict[str, Any]
) -> None:
    from ray.cluster_utils import Cluster

    (tmp_path / "two.toml").write_text(TABLE)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        request = ("two.toml", "--offline", "--address", cluster.address)
        process = start(tmp_path, *request)
        runs = [RunDir(tmp_path / "runs" / f"two-{name}-t6000-s0") for name in ("maml", "fomaml")]
        deadline = time.monotonic() + 240
        while not all(trained(run) >= 30 for run in runs):  # both at once: a node has one place
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == 130
        assert {run.info()["status"] for run in runs} == {"killed"}  # with a checkpoint
        again = reproduced(tmp_path, *request)
        assert again["rows"] == whole["rows"]
        digests = [[run["params_sha256"] for run in d["runs"]] for d in (whole, again)]
        assert digests[0] == digests[1]
        assert all(run.latest_attempt() == 2 for run in runs)
    finally:
        cluster.shutdown()


def test_when_the_time_is_up_the_same_command_goes_on(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(TABLE)
    early = reproduced(tmp_path, "two.toml", "--minutes", "0.001", "--offline")
    assert {row["verdict"]["kind"] for row in early["rows"].values()} == {"missing"}
    assert all("the time was up" in row["verdict"]["why"] for row in early["rows"].values())
    late = reproduced(tmp_path, "two.toml", "--offline")
    assert all(row["ours"] is not None for row in late["rows"].values())
