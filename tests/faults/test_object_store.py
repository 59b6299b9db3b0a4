"""A run whose data and directory are in an object store, which hangs, refuses or stays away."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from killing import SETTINGS, evaluation_files, kill_tree
from object_store import BUCKET, Gate, Store, serve

from data_pipeline.storage.object_uri import local_path
from metadist.runs.log import LogReader
from metadist.runs.run_dir import RunDir

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(600)]
Undisturbed = Callable[[], tuple[dict[str, Any], list[tuple[int, float]], dict[str, bytes]]]
#: How long the store is away in mid-run.
AWAY = 20.0
SHARDS = ("data.storage=shards",)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, strokes_data: Path) -> Iterator[Store]:
    """A store of this module's own, for it is stopped; somebody has copied the data into it."""
    for made in serve(tmp_path_factory.mktemp("store")):
        made.copy(strokes_data, "data")
        yield made


class Nodes:
    """``metadist`` on nodes that share an object store and nothing else."""

    def __init__(self, directory: Path, store: Store) -> None:
        self.directory = directory
        self.store = store
        self.place = f"s3://{BUCKET}/{directory.name}"
        self.data = f"s3://{BUCKET}/data"
        self.started: list[subprocess.Popen[bytes]] = []

    def environment(self, node: str, **more: str) -> dict[str, str]:
        """Of a process on a node."""
        cache = {"METADIST_CACHE_DIR": str(self.directory / node)}
        return {**os.environ, **self.store.environment(), **cache, **more}

    def start(self, node: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start ``metadist`` with arguments on a node."""
        number = len(self.started)
        with (
            (self.directory / f"out-{number}").open("w") as out,
            (self.directory / f"err-{number}").open("w") as err,
        ):
            process = subprocess.Popen(
                [sys.executable, "-m", "metadist", *arguments],
                cwd=self.directory,
                stdout=out,
                stderr=err,
                env=self.environment(node, **environment),
            )
        self.started.append(process)
        return process

    def train(self, node: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start training of run ``x``."""
        settings = [part for setting in SETTINGS for part in ("--set", setting)]
        where = ("--runs-dir", f"{self.place}/runs", "--data-dir", self.data)
        command = ("train", "strokes-5w1s-maml", "--json", "--offline", "--name", "x")
        return self.start(node, *command, *settings, *where, *arguments, **environment)

    def errors(self, process: subprocess.Popen[bytes]) -> str:
        """What a process has said."""
        return (self.directory / f"err-{self.started.index(process)}").read_text()

    def result(self, process: subprocess.Popen[bytes], timeout: float = 300) -> dict[str, Any]:
        """The JSON line of a command that ends well."""
        process.wait(timeout)
        assert process.returncode == 0, self.errors(process)[-3000:]
        out = (self.directory / f"out-{self.started.index(process)}").read_text()
        result: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
        return result

    def copy(self, node: str, monkeypatch: pytest.MonkeyPatch) -> RunDir:
        """A node's working copy of the run."""
        for name, value in self.environment(node).items():
            monkeypatch.setenv(name, value)
        return RunDir(local_path(f"{self.place}/runs/x"))


@pytest.fixture
def nodes(tmp_path: Path, store: Store) -> Iterator[Nodes]:
    """Nodes whose processes end with the test."""
    made = Nodes(tmp_path, store)
    yield made
    for process in made.started:
        if process.poll() is None:
            kill_tree(process)


def _losses(run: RunDir) -> list[tuple[int, float]]:
    points = [p for p in LogReader(run).poll() if p.metric == "train/loss"]
    return sorted((p.step, p.value) for p in points)


def _wait_for_step(run: RunDir, step: int, timeout: float = 180) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if run.log.is_dir() and any(number >= step for number, _ in _losses(run)):
            return
        time.sleep(0.05)
    raise AssertionError(f"step {step} not reached in {timeout} s")


def _same(run: RunDir, result: dict[str, Any], undisturbed: Undisturbed) -> None:
    expected, losses, files = undisturbed()
    assert result["params_sha256"] == expected["params_sha256"]
    assert _losses(run) == losses
    assert evaluation_files(run) == files


@pytest.mark.long
def test_trained_from_shards_while_the_store_hangs(
    nodes: Nodes, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [part for setting in (*SETTINGS, *SHARDS) for part in ("--set", setting)]
    shard = ("data", "shard", "strokes-5w1s-maml", *settings, "--writers", "1")
    assert nodes.start("a", *shard, "--data-dir", nodes.data).wait(300) == 0
    process = nodes.train("b", *[part for s in SHARDS for part in ("--set", s)])
    run = nodes.copy("b", monkeypatch)
    _wait_for_step(run, 12)
    nodes.store.signal(signal.SIGSTOP)
    threading.Timer(AWAY, nodes.store.signal, [signal.SIGCONT]).start()
    result = nodes.result(process)
    assert "does not answer" in nodes.errors(process)
    assert "answers again" in nodes.errors(process)
    _same(run, result, undisturbed)
    # … and so it stands in the store: on a node that has nothing, all of it is there.
    found = nodes.start(
        "c",
        "evaluate",
        "x",
        "--json",
        "--runs-dir",
        f"{nodes.place}/runs",
        "--data-dir",
        nodes.data,
    )
    evaluated = nodes.result(found)
    assert evaluated["params_sha256"] == result["params_sha256"]
    _same(nodes.copy("c", monkeypatch), result, undisturbed)


@pytest.mark.long
def test_the_store_refuses_connections_for_a_while(
    nodes: Nodes, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gate.before(nodes.store) as gate:
        process = nodes.train("a", AWS_ENDPOINT_URL=gate.endpoint)
        run = nodes.copy("a", monkeypatch)
        monkeypatch.setenv("AWS_ENDPOINT_URL", gate.endpoint)
        run = RunDir(local_path(f"{nodes.place}/runs/x"))
        _wait_for_step(run, 12)
        gate.shut()
        time.sleep(AWAY)
        gate.open()
        result = nodes.result(process)
        assert "answers again" in nodes.errors(process)
        _same(run, result, undisturbed)


def test_a_store_away_for_too_long_ends_the_run_and_costs_nothing(
    nodes: Nodes, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = nodes.train("a", METADIST_STORE_WAIT_S="6")
    run = nodes.copy("a", monkeypatch)
    _wait_for_step(run, 12)
    nodes.store.signal(signal.SIGSTOP)
    try:
        assert process.wait(120) == 1
    finally:
        nodes.store.signal(signal.SIGCONT)
    said = nodes.errors(process)
    assert "Traceback" not in said
    assert "has not answered for" in said.splitlines()[-1]
    assert "go on with --resume x" in said
    # The same node goes on where it was; its last steps are computed again at most.
    result = nodes.result(nodes.train("a", "--resume", "auto"))
    _same(run, result, undisturbed)


def test_killed_on_one_node_and_resumed_on_another(
    nodes: Nodes, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = nodes.train("a")
    _wait_for_step(nodes.copy("a", monkeypatch), 33)
    kill_tree(first)
    shutil.rmtree(nodes.directory / "a")
    second = nodes.train("b", "--resume", "auto")
    result = nodes.result(second)
    assert "Continuing x from step" in nodes.errors(second)
    assert "from step 0" not in nodes.errors(second)
    _same(nodes.copy("b", monkeypatch), result, undisturbed)


@pytest.mark.long
def test_a_second_driver_supersedes_the_first(
    nodes: Nodes, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = nodes.train("a")
    _wait_for_step(nodes.copy("a", monkeypatch), 12)
    first.send_signal(signal.SIGSTOP)  # a node that was thought dead
    result = nodes.result(nodes.train("b", "--resume", "auto"))
    first.send_signal(signal.SIGCONT)
    assert first.wait(120) == 1
    assert "taken over" in nodes.errors(first)
    _same(nodes.copy("b", monkeypatch), result, undisturbed)


@pytest.mark.long
@pytest.mark.distributed
def test_workers_on_another_node_than_the_driver(
    nodes: Nodes, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from ray.cluster_utils import Cluster

    for name, value in nodes.environment("workers").items():
        monkeypatch.setenv(name, value)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3})
    try:
        process = nodes.train("driver", "--workers", "2", "--address", cluster.address)
        result = nodes.result(process)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert (nodes.directory / "workers" / "s3").is_dir()
    assert "step" in nodes.errors(process)
    _same(nodes.copy("driver", monkeypatch), result, undisturbed)
