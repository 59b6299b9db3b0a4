"""Whatever is killed, the resumed run ends with the same bits, and every step is there once."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from killing import STEPS, Command, evaluation_files, kill_tree, ray_workers

from metadist.runs.attempts import history

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(600)]
Undisturbed = Callable[[], tuple[dict[str, Any], list[tuple[int, float]], dict[str, bytes]]]


def _same(command: Command, result: dict[str, Any], undisturbed: Undisturbed) -> None:
    expected, losses, files = undisturbed()
    assert result["params_sha256"] == expected["params_sha256"]
    assert command.losses() == losses
    assert [step for step, _ in losses] == list(range(1, STEPS + 1))
    assert evaluation_files(command.run) == files


def _mlflow(command: Command, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(command.directory / "mlflow.db")) as database:
        return database.execute(query).fetchall()


@pytest.mark.parametrize("step", [*(pytest.param(k, marks=pytest.mark.long) for k in (1, 13)), 41])
def test_driver_killed_in_process(command: Command, undisturbed: Undisturbed, step: int) -> None:
    # Step 1 lies before the first checkpoint.
    first = command.start("--offline")
    command.wait_for_step(step)
    kill_tree(first)
    _same(command, command.result(command.start("--offline", "--resume", "auto")), undisturbed)


@pytest.mark.long  # that of twenty has it too
def test_worker_killed(command: Command, undisturbed: Undisturbed) -> None:
    process = command.start("--offline", "--workers", "2")
    command.wait_for_step(random.randint(11, 40))
    victims = ray_workers(process)
    assert len(victims) == 2
    random.choice(victims).send_signal(signal.SIGKILL)
    result = command.result(process)
    assert result["restarts"] == 1
    _same(command, result, undisturbed)


def _group(process: Any, number: int) -> None:
    """As ``timeout`` and a terminal do."""
    os.killpg(process.pid, number)


def _everybody(process: Any, number: int) -> None:
    """As ``scancel`` and systemd do."""
    for one in [*psutil.Process(process.pid).children(recursive=True), process]:
        one.send_signal(number)


@pytest.mark.parametrize(
    ("number", "signalled"),
    [
        (signal.SIGTERM, _everybody),
        (signal.SIGINT, _group),
        pytest.param(signal.SIGHUP, _group, marks=pytest.mark.long),
    ],
)
def test_driver_told_to_end(
    command: Command, undisturbed: Undisturbed, number: int, signalled: Callable[[Any, int], None]
) -> None:
    """It costs no step, whoever computes and whoever else is told; nobody stays."""
    first = command.start("--workers", "2")
    command.wait_for_step(13)
    below = psutil.Process(first.pid).children(recursive=True)
    signalled(first, number)
    assert first.wait(60) == 128 + number
    assert command.run.info()["status"] == "killed"
    assert _mlflow(command, "select status from runs") == [("KILLED",)]
    assert not (command.run.path / ".leave").exists()
    assert not psutil.wait_procs(below, timeout=20)[1]
    result = command.result(command.start("--workers", "2", "--resume", "auto"))
    _same(command, result, undisturbed)
    assert [span.redone for span in history(command.run)] == [0, 0]


@pytest.mark.long
def test_driver_told_to_end_whose_ray_is_dead(command: Command, undisturbed: Undisturbed) -> None:
    first = command.start("--offline", "--workers", "2")
    command.wait_for_step(13)
    for one in psutil.Process(first.pid).children(recursive=True):
        if one.name() in ("gcs_server", "raylet"):
            one.kill()
    first.send_signal(signal.SIGTERM)
    assert first.wait(45) == 143
    assert command.run.info()["status"] == "killed"
    _same(command, command.result(command.start("--offline", "--resume", "auto")), undisturbed)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kills", [8, pytest.param(20, marks=pytest.mark.long)])
def test_workers_killed_again_and_again(command: Command, kills: int) -> None:
    """One or both at a time; it costs the steps since the newest checkpoint and nothing else."""
    steps = 6 * kills
    settings = (
        f"outer.steps={steps}",
        "outer.batch=2",
        "inner.steps=1",
        f"eval.every={steps}",
        "eval.val_episodes=4",
        "eval.episodes=4",
        "eval.extra_queries=0",
        "run.checkpoint_every=3",
    )
    expected = command.result(command.start("--offline", settings=settings))
    shutil.rmtree(command.run.path)
    process = command.start("--offline", "--workers", "2", settings=settings)
    chance = random.Random(20)
    reached = killed = rounds = 0
    while killed < kills:
        reached += chance.randint(3, 6)
        command.wait_for_step(reached)
        victims = ray_workers(process)
        while len(victims) < 2:  # it was between two groups
            victims = ray_workers(process)
        chosen = chance.sample(victims, min(chance.choice((1, 2, 2)), kills - killed))
        for victim in chosen:
            victim.send_signal(signal.SIGKILL)
        killed, rounds = killed + len(chosen), rounds + 1
        reached = max(reached, command.losses()[-1][0])
    result = command.result(process, timeout=600)
    assert result["restarts"] == rounds
    assert result["params_sha256"] == expected["params_sha256"]
    assert [step for step, _ in command.losses()] == list(range(1, steps + 1))
    spans = history(command.run)
    assert len(spans) == rounds + 1
    assert all(span.world_size == 2 and span.redone <= 3 for span in spans)


def test_driver_killed_on_ray_with_mlflow(command: Command, undisturbed: Undisturbed) -> None:
    first = command.start("--workers", "2")
    command.wait_for_step(random.randint(11, 40))
    kill_tree(first)
    result = command.result(command.start("--workers", "2", "--resume", "auto"))
    _same(command, result, undisturbed)
    assert _mlflow(command, "select status from runs") == [("FINISHED",)]
    steps = _mlflow(command, "select step from metrics where key = 'train/loss' order by step")
    assert [step for (step,) in steps] == list(range(1, STEPS + 1))


def test_finished_run_is_left_alone(command: Command) -> None:
    settings = ("outer.steps=3", "outer.batch=2", "eval.episodes=4", "eval.val_episodes=4")
    first = command.result(command.start("--offline", settings=settings))
    again = command.result(command.start("--offline", "--resume", "auto", settings=settings))
    assert again == first
    assert command.run.latest_attempt() == 1
