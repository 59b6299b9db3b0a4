"""Debian's Slurm on machines of cluster/netns: a controller on the first one, a node on each."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest
from machines import Machines, wait

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
#: Nothing that a machine of namespaces lacks: no control groups, no accounting.
CONFIGURATION = """\
ClusterName=rehearsal
SlurmctldHost={prefix}1({head})
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
MpiDefault=none
ReturnToService=2
KillWait=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
"""


def slurm_or_skip() -> None:
    """Skip the calling test where Slurm is not installed (in CI that is a failure)."""
    missing = [
        p for p in PROGRAMS if shutil.which(p, path=f"{os.environ['PATH']}:/usr/sbin") is None
    ]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")


class Slurm:
    """Slurm on ``machines``, which were started with ``--no-ray`` and ``--own=/run/munge``."""

    def __init__(self, machines: Machines, folder: Path) -> None:
        self._machines, self._folder = machines, folder
        (folder / "state").mkdir(parents=True)
        rows = machines.status()["machines"]
        text = CONFIGURATION.format(prefix=machines.prefix, head=rows[0]["ip"], folder=folder)
        text += "".join(f"NodeName={r['name']} NodeAddr={r['ip']} CPUs=1\n" for r in rows)
        self._conf = folder / "slurm.conf"
        self._conf.write_text(text + "PartitionName=all Nodes=ALL Default=YES\n")
        # Version 22.05 starts no slurmd without such a plugin; this one asks for nothing at first.
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        key = folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        for number in range(1, len(rows) + 1):
            own = [f"--{what}=/run/munge/{what}" for what in ("pid-file", "log-file", "seed-file")]
            socket = "--socket=/run/munge/munge.socket.2"
            machines.run(number, "munged", "--force", f"--key-file={key}", socket, *own)
        self.run("slurmctld")
        for number in range(1, len(rows) + 1):
            self.run("slurmd", number=number)
        ready = f"{len(rows)} nodes to be idle"
        wait(
            lambda: self.run("sinfo", "-h", "-N", "-o", "%t").split() == ["idle"] * len(rows),
            ready,
            60,
        )

    def run(self, *command: str, number: int = 1) -> str:
        """Output of a command that knows of this Slurm, on a machine."""
        return self._machines.run(number, "env", f"SLURM_CONF={self._conf}", *command)

    def submit(self, folder: Path, *command: str, env: dict[str, str] | None = None) -> str:
        """``sbatch`` in a folder; the number of the job."""
        variables = [f"{name}={value}" for name, value in (env or {}).items()]
        return self.run(
            "env", *variables, "sbatch", "--parsable", f"--chdir={folder}",
            f"--output={folder}/%j.log", *command,
        ).strip()  # fmt: skip

    def job(self, number: str) -> dict[str, str]:
        """What ``scontrol show job`` says."""
        shown = self.run("scontrol", "show", "job", "-o", number)
        return dict(pair.split("=", 1) for pair in shown.split() if "=" in pair)

    def wait_for_end(self, number: str, seconds: float) -> dict[str, str]:
        """Until a job has ended: ``JobState``, ``ExitCode`` and more."""
        going = ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED")
        wait(lambda: self.job(number)["JobState"] not in going, f"job {number} to end", seconds)
        return self.job(number)


def raylet_of_somebody_else(folder: Path) -> subprocess.Popen[bytes]:
    """A process of this box that ``ray stop`` would end if it saw it."""
    program = folder / "raylet"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    return subprocess.Popen([str(program), "3600"])
