"""A real MLflow server over a store of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from metadist import track

#: Seconds a server may take to come up or a client to catch up, on a busy machine.
PATIENCE = 180.0


def wait_for(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as reply:
            return int(reply.status) == 200
    except (urllib.error.URLError, OSError):
        return False


def members(group: int) -> list[int]:
    """Processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found


class Server:
    """An MLflow server in a process group of its own, on one port throughout."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.store = f"sqlite:///{folder}/mlflow.db"
        track.ensure_experiment(self.store, "other")  # makes the tables
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        with (self._folder / "server.log").open("ab") as output:
            self._process = subprocess.Popen(
                track.ui_command(self.store, port=self._port),
                env=track.ui_environment(),
                start_new_session=True,
                stdout=output,
                stderr=output,
            )
        wait_for(lambda: answers(self.url), "the server")

    def signal(self, number: signal.Signals) -> None:
        """To all of its processes."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def stop(self, *, hard: bool = False) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        if not hard:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                hard = True
        if hard or members(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_for(lambda: not members(process.pid), "the server's processes to end")
