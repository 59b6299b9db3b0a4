"""The Slurm script without Slurm: what it refuses, and what it does where its tools are scripts."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "cluster" / "slurm" / "metadist.sbatch"
IN_A_JOB = {"SLURM_JOB_ID": "7"}


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["train", "x", "--workers", "2"], {}, "start it with sbatch"),
        ([], IN_A_JOB, "what is to be run"),
        (["train", "x"], IN_A_JOB, "train needs --workers N"),
        (["tune", "x"], IN_A_JOB, "tune needs --name"),
        (["report", "x"], IN_A_JOB, "got 'report'"),
        (["train", "x", "--workers=2"], {**IN_A_JOB, "PATH": "/bin:/usr/bin"}, "no 'ray' in PATH"),
    ],
)
def test_refused(tmp_path: Path, arguments: list[str], env: dict[str, str], said: str) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    done = subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        env={**clean, **env}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_every_job_asks_of_slurm() -> None:
    asked = {line.split("#SBATCH ")[1] for line in SCRIPT.read_text().splitlines()
             if line.startswith("#SBATCH ")}  # fmt: skip
    # `ray stop` at the end spares nobody; a requeued job goes on in the same log.
    assert {"--exclusive", "--requeue", "--ntasks-per-node=1", "--open-mode=append"} <= asked


#: In place of what the script calls. Slurm ends a job that goes back into the queue.
TOOLS = {
    "ray": "exit 1",
    "srun": 'while [[ $1 != -- ]]; do shift; done; shift; "$@"',
    "scontrol": 'echo "$* $(cat checkpoint)" >>requeued; kill -TERM $PPID',
    "hostname": "[[ ${1:-} != -I ]] || exit 0; echo here",
    "getent": "echo 10.0.0.1 STREAM here",
}
#: It says that it has begun, and ends half a second after it was asked to, with a checkpoint.
ASKED = """
trap 'sleep 0.5; echo kept >checkpoint; exit {code}' TERM
touch begun
for _ in {{1..400}}; do sleep 0.05; done
"""
LOST = "kill -9 $PPID"  # nothing is left behind of how the command ended


class Job:
    """A job in a folder. ``metadist`` and other tools: what bash runs in their place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bin = folder / "bin"
        self._bin.mkdir()

    def start(
        self, *, restarts: int = 0, env: dict[str, str] | None = None, **tools: str
    ) -> subprocess.Popen[str]:
        for name, body in {**TOOLS, **tools}.items():
            (self._bin / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
            (self._bin / name).chmod(0o755)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "METADIST_"))}
        slurms = {
            "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "here",
            "SLURM_CPUS_ON_NODE": "1", "SLURM_RESTART_COUNT": str(restarts),
            "PATH": f"{self._bin}:{os.environ['PATH']}",
        }  # fmt: skip
        return subprocess.Popen(
            ["bash", str(SCRIPT), "train", "x", "--workers", "2"],
            env={**clean, **slurms, **(env or {})},
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(
        self, *, restarts: int = 0, env: dict[str, str] | None = None, **tools: str
    ) -> tuple[int, str]:
        """Exit status and what was said."""
        process = self.start(restarts=restarts, env=env, **tools)
        said = process.communicate(timeout=30)[0]
        return process.returncode, said

    def run_until_the_time_is_nearly_over(self, metadist: str) -> tuple[int, str]:
        process = self.start(restarts=1, metadist=metadist)
        deadline = time.monotonic() + 20
        while not (self.folder / "begun").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGUSR1)
        said = process.communicate(timeout=30)[0]
        return process.returncode, said

    @property
    def requeued(self) -> list[str]:
        """What was said to ``scontrol``, with the checkpoint that there was then."""
        file = self.folder / "requeued"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def left(self) -> dict[str, str]:
        return {p.name: p.read_text() for p in self.folder.glob(".metadist-slurm/*")}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.mark.parametrize(
    ("getent", "hostname", "address"),
    [
        ("echo 127.0.1.1 STREAM here; echo 10.0.0.1 STREAM here", TOOLS["hostname"], "10.0.0.1"),
        ("echo 127.0.1.1 STREAM here", "echo 10.1.2.3 fe80::1", "10.1.2.3"),
        ("exit 2", "echo 10.1.2.3 fe80::1", "10.1.2.3"),  # the name has no address
    ],
)
def test_the_heads_address(job: Job, getent: str, hostname: str, address: str) -> None:
    code, said = job.run(metadist='echo "$@"; exit 3', getent=getent, hostname=hostname)
    assert f"train x --workers 2 --address {address}:6379 --resume auto" in said.splitlines()
    assert (code, job.requeued, job.left) == (3, [], {})


def test_no_address_at_all(job: Job) -> None:
    code, said = job.run(metadist="exit 0", getent="exit 2")
    assert code == 1
    assert "here has no address; name one with METADIST_HEAD_IP" in said
    assert job.left == {}


def test_the_time_is_nearly_over(job: Job) -> None:
    """The command has kept its checkpoint before Slurm is told to end everything."""
    code, said = job.run_until_the_time_is_nearly_over(ASKED.format(code=143))
    assert job.requeued == ["requeue 7 kept"], said
    assert code == -signal.SIGTERM
    assert job.left == {}


def test_a_command_that_ends_well_when_the_time_is_nearly_over(job: Job) -> None:
    code, said = job.run_until_the_time_is_nearly_over(ASKED.format(code=0))
    assert "the command ended with exit status 0" in said
    assert (code, job.requeued, job.left) == (0, [], {})


def test_lost_nodes_are_counted(job: Job) -> None:
    """Those in a row, and not what else brings a job back into the queue."""
    few = {"METADIST_RESTARTS": "2"}
    for start in (7, 8):  # seven time limits before
        assert job.run(restarts=start, env=few, metadist=LOST)[0] == -signal.SIGTERM
        assert job.left == {"7.losses": f"{start - 6}\n"}
    code, said = job.run(restarts=9, env=few, metadist=LOST)
    assert code == 1
    assert "a node has lost its Ray, as in the 2 starts before" in said
    assert (len(job.requeued), job.left) == (2, {})


@pytest.mark.parametrize(
    ("restarts", "env"), [(0, {}), (4, {"SECONDS": "3600"})], ids=["another-job", "an-hour"]
)
def test_lost_nodes_are_counted_anew(job: Job, restarts: int, env: dict[str, str]) -> None:
    losses = job.folder / ".metadist-slurm" / "7.losses"
    losses.parent.mkdir()
    losses.write_text("5\n")
    assert job.run(restarts=restarts, env=env, metadist=LOST)[0] == -signal.SIGTERM
    assert job.left == {"7.losses": "1\n"}


def test_a_time_limit_ends_the_row_of_lost_nodes(job: Job) -> None:
    assert job.run(metadist=LOST)[0] == -signal.SIGTERM
    assert job.left == {"7.losses": "1\n"}
    job.run_until_the_time_is_nearly_over(ASKED.format(code=143))
    assert job.left == {}


def test_slurm_does_not_take_the_job_back(job: Job) -> None:
    code, said = job.run(metadist=LOST, scontrol="exit 1")
    assert code == 1
    assert "Slurm does not take the job back" in said
    assert job.left == {}
