"""The Slurm script under Debian's Slurm, on two machines."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import Machines, machines_or_skip, wait
from slurm import Slurm, raylet_of_somebody_else, slurm_or_skip

import metadist
from metadist.runs.log import LogReader
from metadist.runs.run_dir import RunDir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.distributed,
    pytest.mark.timeout(900),
]

SCRIPT = Path(__file__).parents[2] / "cluster" / "slurm" / "metadist.sbatch"
STEPS = 400
SETTINGS = (
    f"outer.steps={STEPS}",
    "outer.batch=4",
    "engine.mode=loop",
    "engine.chunk=1",
    "eval.every=200",
    "eval.episodes=6",
    "eval.val_episodes=4",
    "run.checkpoint_every=10",
)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Two machines without Ray: the jobs start it."""
    machines_or_skip()
    slurm_or_skip()
    state = tmp_path_factory.mktemp("machines") / "state"
    with Machines(state, 2, "--no-ray", "--own=/run/munge") as two:
        yield two


@pytest.fixture(scope="module")
def slurm(machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Slurm:
    return Slurm(machines, tmp_path_factory.mktemp("slurm") / "slurm")


def _train(slurm: Slurm, folder: Path) -> str:
    command = ["train", "sinusoid-10shot-maml", "--name", "x", "--workers", "2", "--offline"]
    for setting in SETTINGS:
        command += ["--set", setting]
    return slurm.submit(folder, "--nodes=2", str(SCRIPT), *command, "--json")


def _steps(folder: Path) -> list[int]:
    run = RunDir(folder / "runs" / "x")
    if not run.path.is_dir():
        return []
    return sorted(p.step for p in LogReader(run).poll() if p.metric == "train/loss")


@pytest.mark.long
def test_two_nodes_and_a_requeue(slurm: Slurm, tmp_path: Path) -> None:
    """The same bits as in one process; `ray stop` reaches nobody outside; nothing secret stays."""
    other = raylet_of_somebody_else(tmp_path)
    try:
        alone = metadist.train(
            "sinusoid-10shot-maml", name="alone", overrides=list(SETTINGS), offline=True,
            runs_dir=tmp_path / "runs", data_dir=tmp_path / "data",
        )  # fmt: skip
        job = _train(slurm, tmp_path)
        wait(lambda: max(_steps(tmp_path), default=0) > 20, "training on two nodes", 180)
        token = tmp_path / ".metadist-slurm" / job / "token"
        assert token.stat().st_mode & 0o777 == 0o600
        assert token.parent.stat().st_mode & 0o777 == 0o700
        secret = token.read_text()
        slurm.run("scontrol", "requeue", job)
        wait(lambda: slurm.job(job)["JobState"] == "PENDING", "the job to be queued again", 60)
        assert max(_steps(tmp_path)) < STEPS
        slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now")
        ended = slurm.wait_for_end(job, 300)
        said = (tmp_path / f"{job}.log").read_text()
        assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0"), said[-3000:]
        assert ended["Restarts"] == "1"
        result = json.loads(next(line for line in said.splitlines() if line.startswith('{"run"')))
        assert result["params_sha256"] == alone["params_sha256"]
        assert result["restarts"] >= 1
        assert _steps(tmp_path) == list(range(1, STEPS + 1))
        assert secret not in said
        assert not token.exists()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_ray_that_does_not_start_is_a_failure(
    slurm: Slurm, machines: Machines, tmp_path: Path
) -> None:
    """`ray symmetric-run` itself ends with 0 there."""
    hold = "import socket, time; s = socket.create_server(('0.0.0.0', 6379)); time.sleep(600)"
    holder = machines.start(1, "python", "-c", hold)
    address = (machines.status()["machines"][0]["ip"], 6379)

    def held() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(address) == 0

    try:
        wait(held, "the port to be taken", 20)
        ended = slurm.wait_for_end(_train(slurm, tmp_path), 200)
    finally:
        machines.kill_command(holder)
    said = next(tmp_path.glob("*.log")).read_text()
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "1:0"), said[-3000:]
    assert "the command was never run: Ray did not start on all 2 nodes" in said
    assert not list(tmp_path.glob(".metadist-slurm/*"))


@pytest.mark.long
def test_the_commands_exit_status_is_the_jobs(slurm: Slurm, tmp_path: Path) -> None:
    job = slurm.submit(tmp_path, "--nodes=2", str(SCRIPT), "train", "nonsense", "--workers", "2")
    ended = slurm.wait_for_end(job, 200)
    said = (tmp_path / f"{job}.log").read_text()
    here = [sys.executable, "-m", "metadist", "train", "nonsense"]
    direct = subprocess.run(here, cwd=tmp_path, capture_output=True)
    assert ended["ExitCode"] == f"{direct.returncode}:0", said[-3000:]
    assert f"the command ended with exit status {direct.returncode}" in said
