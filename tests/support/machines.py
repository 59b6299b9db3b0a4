"""Honest machines on this box, for tests of what happens when one of them is lost."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "cluster" / "netns"
TOOLS = ("ip", "tc", "unshare", "nsenter")
#: Ray notices within seconds, not within half a minute, that a machine is gone.
QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_worker_niceness": "0",
}


def machines_or_skip() -> None:
    """Skip the calling test where machines cannot be made; in CI a missing tool is a failure."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if missing := [tool for tool in TOOLS if shutil.which(tool, path=path) is None]:
        pytest.skip(f"no {', '.join(missing)}: apt-get install iproute2 util-linux")
    probe = ["unshare", "--net", "--pid", "--fork", "--mount", "true"]
    if os.geteuid() != 0 or subprocess.run(probe, capture_output=True).returncode != 0:
        pytest.skip("machines need root and namespaces")


class Machines:
    """Machines 1 to ``count``, the first one the head, that end with the ``with`` block.

    Code, virtual environment and every directory are the same for all of them. Each has one
    logical CPU unless told otherwise, and the custom resource ``machine_<number>``.

    Args:
        state: a directory that nobody else uses; it need not exist.
        count: how many are switched on at the start.
        options: of ``cluster/netns up``, as in ``"--cpus=2"``, ``"--durable-head"``.
        env: variables of every machine, beside ``QUICK``.

    Attributes:
        head: ``host:port`` of the cluster, as ``--address`` wants it.
        host_ip: this box, as the machines see it: where a server of a test must listen.
    """

    def __init__(
        self, state: Path, count: int, *options: str, env: dict[str, str] | None = None
    ) -> None:
        self.state, self._count = state, count
        # It is in the names of links, which are this box's and not this test's alone.
        self.prefix = "".join(random.SystemRandom().choices("abcdefghijklmnopqrstuvwxyz", k=7))
        self._options = [f"--bin={Path(sys.executable).parent}", *options]
        self._options += [f"--env={k}={v}" for k, v in {**QUICK, **(env or {})}.items()]
        self._spawned: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Machines:
        try:
            self.verb("up", str(self._count), f"--prefix={self.prefix}", *self._options)
        except BaseException:
            self.__exit__()
            raise
        self.head: str = self.status()["head"]
        self.host_ip = self.head.rpartition(".")[0] + ".1"
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.verb("down")
        finally:
            for process in self._spawned:
                process.kill()
                process.wait()
                for pipe in filter(None, (process.stdout, process.stderr, process.stdin)):
                    pipe.close()

    def verb(self, *arguments: str) -> str:
        """Output of ``cluster/netns VERB …``, which must end well."""
        command = [sys.executable, str(SCRIPT), "--state", str(self.state), *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self) -> dict[str, Any]:
        """What ``status --json`` says."""
        found: dict[str, Any] = json.loads(self.verb("status", "--json"))
        return found

    def grow(self, count: int) -> None:
        """Let there be more machines; blocks until the new ones' Ray is up."""
        self.verb("up", str(count))

    def power_off(self, *numbers: int) -> None:
        """They end without a word: their peers hear nothing more."""
        self.verb("power-off", *map(str, numbers))

    def kill(self, *numbers: int) -> None:
        """All their processes end; their peers' connections are reset."""
        self.verb("kill", *map(str, numbers))

    def power_on(self, *numbers: int) -> None:
        """Switch on again, with empty memory; blocks until their Ray is up."""
        self.verb("power-on", *map(str, numbers))

    def partition(self, *numbers: int) -> None:
        """Cut their cables."""
        self.verb("partition", *map(str, numbers))

    def heal(self, *numbers: int) -> None:
        """Mend their cables."""
        self.verb("heal", *map(str, numbers))

    def slow_link(self, number: int, rate: str) -> None:
        """Limit a cable, as in ``10mbit``; ``off`` for no longer."""
        self.verb("slow-link", str(number), rate)

    def run(self, number: int, *command: str, timeout: float = 240) -> str:
        """Standard output of a command on a machine, which must end well."""
        process = self.start(number, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.returncode == 0, (process.returncode, out[-2000:], err[-4000:])
        text: str = out.decode()
        return text

    def start(self, number: int, *command: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command on a machine; ``options`` are of Popen."""
        script = [sys.executable, str(SCRIPT), "--state", str(self.state)]
        process = subprocess.Popen([*script, "exec", str(number), "--", *command], **options)
        self._spawned.append(process)
        return process

    def kill_command(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL what ``start`` has started: the command itself, which is below ``nsenter``."""
        import psutil

        for child in psutil.Process(process.pid).children():
            child.kill()
        process.wait(20)

    def alive_nodes(self, number: int = 1) -> int:
        """How many nodes Ray holds for alive, asked on a machine."""
        code = (
            "import ray; ray.init(address={!r}, logging_level='ERROR', log_to_driver=False); "
            "print('ALIVE', sum(n['Alive'] for n in ray.nodes()))"
        )
        said = self.run(number, "python", "-c", code.format(self.head))  # Ray writes there too
        return int(re.findall(r"^ALIVE (\d+)$", said, re.M)[-1])

    def wait_for_nodes(self, count: int, seconds: float = 60) -> float:
        """Until Ray holds exactly so many nodes for alive; the seconds that took."""
        return wait(lambda: self.alive_nodes() == count, f"{count} nodes to be alive", seconds)


def wait(condition: Callable[[], bool], what: str, seconds: float) -> float:
    """Until something is true; the seconds that took."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.2)
    return time.monotonic() - began
