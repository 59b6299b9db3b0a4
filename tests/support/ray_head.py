"""A Ray head with its dashboard, as a process of a test's own: ports, directory and token."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

BIN = Path(sys.executable).parent


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that Ray gives to its workers."""
    with contextlib.ExitStack() as stack:
        found = []
        for port in range(7000 + os.getpid() % 2000, 10000):
            listener = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError("no free ports")


@dataclass
class Head:
    """A running head.

    Attributes:
        directory: of Ray's own files; short, because paths of its sockets must be.
        token: what it wants to see; a file holds it.
    """

    directory: Path
    cpus: int
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    ports: list[int] = field(default_factory=lambda: free_ports(4))
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of the dashboard."""
        return f"http://127.0.0.1:{self.ports[1]}"

    @property
    def token_file(self) -> Path:
        """Holds the token."""
        return self.directory / "token"

    @property
    def environment(self) -> dict[str, str]:
        """Of whoever may talk to it, and of itself but for ``PYTHONPATH``."""
        there = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
        return {
            **there,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        }

    def start(self) -> None:
        """Start it and wait until it takes jobs."""
        self.token_file.write_text(self.token)
        self.token_file.chmod(0o600)
        port, dashboard, client, agent = self.ports
        with (self.directory / "head.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(BIN / "ray", "start", "--head", "--block", "--disable-usage-stats"),
                    *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"),
                    *(f"--port={port}", f"--dashboard-port={dashboard}"),
                    *(f"--ray-client-server-port={client}", f"--num-cpus={self.cpus}"),
                    *(f"--dashboard-agent-listen-port={agent}", "--object-store-memory=100000000"),
                    *("--temp-dir", self.directory / "ray"),
                ],
                stdout=log,
                stderr=log,
                # What a job is sent must come with the job.
                env={k: v for k, v in self.environment.items() if k != "PYTHONPATH"},
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while True:
            try:
                self.ask("/api/jobs/")
                return
            except OSError as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    log_text = (self.directory / "head.log").read_text()[-3000:]
                    raise RuntimeError(f"the head has not come up: {error}\n{log_text}") from None
            time.sleep(0.3)

    def ask(self, path: str) -> Any:
        """What the dashboard answers."""
        headers = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def alive(self, kind: str) -> list[dict[str, Any]]:
        """Actors or placement groups (``actors``, ``placement_groups``) that have not ended."""
        listed = self.ask(f"/api/v0/{kind}?limit=1000&detail=1")["data"]["result"]["result"]
        return [one for one in listed if one["state"] not in ("DEAD", "REMOVED")]

    def processes(self, word: str) -> list[psutil.Process]:
        """Processes below it whose command line holds a word."""
        assert self.process is not None
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if word in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it and everything below it."""
        if self.process is None:
            return
        children = []
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        _, left = psutil.wait_procs(children, timeout=10 if number == signal.SIGTERM else 0.1)
        for child in left:
            with contextlib.suppress(psutil.Error):
                child.kill()
        psutil.wait_procs(left, timeout=10)
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self.process = None


@contextlib.contextmanager
def head(cpus: int = 4) -> Iterator[Head]:
    """A head that runs while the block does."""
    directory = Path(tempfile.mkdtemp(prefix="mdh"))
    one = Head(directory, cpus)
    try:
        one.start()
        yield one
    finally:
        one.end()
        shutil.rmtree(directory, ignore_errors=True)
