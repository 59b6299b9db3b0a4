"""What a cluster lacks is an error within seconds, and failures without progress come to an end."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ray.train import WorkerGroupError
from small_runs import small_run

from metadist.errors import (
    MetadistError,
    NonFiniteError,
    ResourceError,
    RunError,
    Terminated,
)
from metadist.executors import ray_train, worker_group
from metadist.executors.cluster import connection, resources
from metadist.executors.cluster.remote_process import on_cluster
from metadist.executors.job import Job
from metadist.executors.pool import Active, Command, Pool, Watcher
from metadist.executors.pool import Job as PoolJob
from metadist.executors.world_size import WorldSize

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]


def _quiet(line: str) -> None:
    """Nobody to tell."""


def test_nobody_at_the_address_is_said_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    with (
        pytest.raises(ResourceError, match="no Ray head answers"),
        connection.connected(f"127.0.0.1:{port}", 2, _quiet),
    ):
        pass
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "somewhere", "host:port"])
def test_addresses_that_cannot_work(address: str) -> None:
    with (
        pytest.raises(ResourceError, match="host:port"),
        connection.connected(address, 2, _quiet),
    ):
        pass


@pytest.mark.slow
def test_too_few_cpus_are_said_after_waiting_for_nodes(private_ray: None) -> None:
    said: list[str] = []
    with pytest.raises(ResourceError, match=r"--workers 50 needs 50 CPUs, the cluster has 4"):
        resources.group_size(
            WorldSize(50, 50), "cpu", said.append, patience=resources.SAID_AFTER + 1
        )
    assert said == ["Waiting for nodes: 4 of 50 workers have a place"]
    assert resources.PATIENCE <= 20


def test_gpus_asked_for_where_there_are_none(
    private_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ResourceError, match=r"1 GPUs, the cluster has 0.*--device cpu"):
        resources.group_size(WorldSize(1, 1), "cuda", _quiet, patience=0.0)


def test_three_failures_without_progress_end_a_run(
    private_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, data = small_run(tmp_path)
    calls = []

    def failing(*_: Any) -> dict[str, Any]:
        calls.append(1)
        raise WorkerGroupError("worker died", {0: RuntimeError("died")})

    monkeypatch.setattr(ray_train, "run_group", failing)
    with pytest.raises(RunError, match="given up after 3 attempts without a new checkpoint"):
        ray_train.execute(Job(run.path, data, WorldSize(2, 2)), _quiet)
    assert len(calls) == 3


def test_failures_with_progress_go_on(
    private_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, data = small_run(tmp_path)
    calls = []

    def failing(*_: Any) -> dict[str, Any]:
        calls.append(1)
        (run.path / "checkpoints" / f"step-{len(calls):08d}").mkdir(parents=True)
        if len(calls) == 7:
            return {"steps": 7}
        raise WorkerGroupError("worker died", {0: RuntimeError("died")})

    monkeypatch.setattr(ray_train, "run_group", failing)
    assert ray_train.execute(Job(run.path, data, WorldSize(2, 2)), _quiet) == {"steps": 7}


@pytest.mark.slow
def test_mistakes_of_the_user_are_not_tried_again(private_ray: None, tmp_path: Path) -> None:
    run, data = small_run(tmp_path, "inner.lr=1e30", "inner.steps=2")
    said: list[str] = []
    with pytest.raises(NonFiniteError, match=r"episodes \["):
        ray_train.execute(Job(run.path, data, WorldSize(2, 2)), said.append)
    assert not any("starting again" in line for line in said)
    assert run.latest_attempt() == 1


def test_other_numerics_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group whose workers disagree on their numerics does not form."""
    import torch

    from metadist.compute.collectives import Solo
    from metadist.compute.setup import Setup
    from metadist.training.loop import TrainingLoop

    class Strange(Solo):
        def broadcast(self, value: Any) -> Any:
            if isinstance(value, dict) and "digest" in value:
                return {"digest": "other", "numerics": {"torch": "9.9"}}
            return value

    run, data = small_run(tmp_path)
    with pytest.raises(MetadistError, match="arithmetic is the same"):
        TrainingLoop(run, Setup.open(run.recipe(), data), Strange(), torch.device("cpu"))


def test_asked_to_end_while_waiting_for_nodes(private_ray: None) -> None:
    asked = threading.Event()
    threading.Timer(1.0, asked.set).start()
    began = time.monotonic()
    with pytest.raises(Terminated):
        resources.group_size(WorldSize(50, 50), "cpu", _quiet, patience=60, asked=asked)
    assert time.monotonic() - began < 10


@pytest.mark.long
@pytest.mark.slow
def test_a_group_waits_for_those_who_are_there(
    private_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than three times the time after which Ray gives up: that is no failure of its own."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "2")
    others = placement_group([{"CPU": 3}])
    ray.get(others.ready())
    said: list[str] = []
    rounds = []
    attempt = worker_group.run_group

    def counting(*arguments: Any) -> dict[str, Any]:
        rounds.append(1)
        if len(rounds) == 5:
            monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "30")
            remove_placement_group(others)
        return attempt(*arguments)

    monkeypatch.setattr(ray_train, "run_group", counting)
    run, data = small_run(tmp_path)
    result = ray_train.execute(Job(run.path, data, WorldSize(2, 2)), said.append)
    assert result["steps"] == 6
    assert len(rounds) == 5
    assert said.count("Waiting: others use what 2 workers would need") == 1
    assert run.latest_attempt() == 1


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_an_elastic_group_that_finds_no_place_takes_what_there_is(
    private_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from ray.train import ControllerError
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
    from ray.util.placement_group import placement_group, remove_placement_group

    others: list[Any] = []
    sizes: list[int] = []
    attempt = worker_group.run_group

    def overtaken(job: Job, workers: int, resources: dict[str, float]) -> dict[str, Any]:
        sizes.append(workers)
        if not others:
            others.append(placement_group([{"CPU": 2}]))
            ray.get(others[0].ready())
            raise ControllerError(WorkerGroupStartupTimeoutError(workers))
        return attempt(job, workers, resources)

    monkeypatch.setattr(ray_train, "run_group", overtaken)
    run, data = small_run(tmp_path)
    try:
        result = ray_train.execute(Job(run.path, data, WorldSize(1, 4)), _quiet)
    finally:
        remove_placement_group(others[0])
    assert result["steps"] == 6
    assert sizes == [4, 2]


def _shell(folder: Path, name: str, *scripts: str) -> PoolJob:
    parts = tuple(Command(("sh", "-c", script), "working") for script in scripts)
    return PoolJob(name, parts, folder / f"{name}.txt")


_GENTLE = """
import sys, time
from pathlib import Path
here = Path(sys.argv[1])
here.joinpath("begun").touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    here.joinpath("asked").touch()
"""


@pytest.mark.slow
def test_command_lines_on_nodes_end_as_they_do_here(private_ray: None, tmp_path: Path) -> None:
    # Not a shell: it unblocks the signals that Ray's processes block.
    gentle = (sys.executable, "-c", _GENTLE, str(tmp_path))
    todo = [
        _shell(tmp_path, "a", f'echo "$WHO" > {tmp_path}/a', f"echo two >> {tmp_path}/a"),
        _shell(tmp_path, "b", "echo Error: it broke; exit 3", "echo never"),
        PoolJob("c", (Command(gentle, "working"),), tmp_path / "c.txt"),
        _shell(tmp_path, "d", "echo never"),
    ]

    class UntilBegun(Watcher):
        def looked(self, active: Sequence[Active], waiting: int) -> None:
            if len(active) == waiting == 1 and (tmp_path / "begun").exists():
                raise KeyboardInterrupt

    ours = resources.capacity(0, 1.0, None, 1, "cpu")
    assert (ours.concurrent, ours.cpus, ours.gpus) == (1, 1.0, 0.0)
    pool = Pool(on_cluster(ours, {"WHO": "me"}), at_once=ours.concurrent, watch=UntilBegun())
    with pytest.raises(KeyboardInterrupt):
        pool.run(todo)
    outcomes = pool.outcomes
    assert {n: o.state for n, o in outcomes.items()} == {
        "a": "done", "b": "failed", "c": "stopped"
    }  # fmt: skip
    assert outcomes["b"].why == f"it broke (working; see {tmp_path / 'b.txt'})"
    assert (tmp_path / "a").read_text() == "me\ntwo\n"
    assert (tmp_path / "asked").exists()


@pytest.mark.slow
def test_a_node_that_does_not_see_the_runs_is_named(private_ray: None, tmp_path: Path) -> None:
    ours = resources.capacity(0, 1.0, None, 1, "cpu")
    job = _shell(tmp_path, "a", "true")
    process = on_cluster(ours, {})(job, 0)
    (tmp_path / "a.txt").unlink()
    assert process.ended(60.0)
    assert f"does not see {tmp_path / 'a.txt'}" in str(process.failure())
    with pytest.raises(ResourceError, match=r"1 x 5 CPUs are needed at once, the cluster has 4"):
        resources.capacity(0, 5.0, None, None, "cpu")
