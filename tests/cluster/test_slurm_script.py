"""What the Slurm script refuses before it starts anything."""

from __future__ import annotations

import os
import subprocess
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
