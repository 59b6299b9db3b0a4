"""Running the command line as a process that can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from metadist.runs.log import LogReader
from metadist.runs.run_dir import RunDir

STEPS = 60
SETTINGS = (
    f"outer.steps={STEPS}",
    "outer.batch=4",
    "eval.every=20",
    "eval.val_episodes=8",
    "eval.episodes=10",
    "eval.extra_queries=2",
    "run.checkpoint_every=10",
)


@dataclass
class Command:
    """``metadist train`` on the embedded data in a directory of its own."""

    directory: Path
    data: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def run(self) -> RunDir:
        """The directory of run ``x``."""
        return RunDir(self.directory / "runs" / "x")

    def _file(self, stream: str, number: int) -> Path:
        return self.directory / f"{stream}-{number}.txt"

    def start(self, *arguments: str, settings: tuple[str, ...] = SETTINGS) -> Any:
        """Start ``metadist train strokes-5w1s-maml --name x`` and more."""
        command = [sys.executable, "-m", "metadist", "train", "strokes-5w1s-maml", "--json"]
        for setting in settings:
            command += ["--set", setting]
        number = len(self.started)
        with (
            self._file("stdout", number).open("w") as out,
            self._file("stderr", number).open("w") as err,
        ):
            process = subprocess.Popen(
                [*command, "--name", "x", "--data-dir", str(self.data), *arguments],
                cwd=self.directory,
                stdout=out,
                stderr=err,
                env={**os.environ, "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"},
                start_new_session=True,  # a group that can be signalled as a whole
            )
        self.started.append(process)
        return process

    def result(self, process: Any, timeout: float = 240) -> dict[str, Any]:
        """The JSON line of a command that ends well."""
        process.wait(timeout)
        number = self.started.index(process)
        out = self._file("stdout", number).read_text()
        assert process.returncode == 0, self._file("stderr", number).read_text()[-3000:]
        result: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
        return result

    def wait_for_step(self, step: int, timeout: float = 120) -> None:
        """Until the log holds this step."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.run.path.is_dir():
                points = LogReader(self.run).poll()
                if any(p.metric == "train/loss" and p.step >= step for p in points):
                    return
            time.sleep(0.05)
        raise AssertionError(f"step {step} not reached in {timeout} s")

    def losses(self) -> list[tuple[int, float]]:
        """(step, loss) of every step in the log."""
        points = [p for p in LogReader(self.run).poll() if p.metric == "train/loss"]
        return sorted((p.step, p.value) for p in points)


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a driver; a private Ray below it ends by itself within seconds."""
    children: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):  # it may be ending just now
        children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(children, timeout=30)


def ray_workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The training workers below a driver."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "RayTrainWorker" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def evaluation_files(run: RunDir) -> dict[str, bytes]:
    """Names and bytes of everything under ``evaluation/``."""
    return {p.name: p.read_bytes() for p in sorted(run.evaluation.iterdir())}
