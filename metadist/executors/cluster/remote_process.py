"""A command or a function at work on a node of the cluster that this process is connected to."""

from __future__ import annotations

import functools
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import ray

from metadist.errors import RunError
from metadist.executors.cluster.resources import Resources
from metadist.executors.cluster.worker_environment import with_same_code
from metadist.executors.local_process import LocalProcess
from metadist.executors.pool import GRACE_SECONDS, Job, Start
from metadist.process.imports import PACKAGES

#: Deaths of a process (a node that goes, memory that runs out) before its work is given up.
DEATHS = 3


def on_cluster(resources: Resources, variables: Mapping[str, str]) -> Start:
    """Starts command lines wherever the cluster has so much free; logs must be seen there.

    Args:
        variables: for their environment; what is in them is written down nowhere.
    """

    def start(job: Job, index: int) -> RemoteProcess:
        assert job.log is not None
        job.log.touch()
        words = job.commands[index].arguments
        words = tuple("" if word == sys.executable else word for word in words)
        return RemoteProcess(functools.partial(_run, words, job.log, dict(variables)), resources)

    return start


class RemoteProcess:
    """See :class:`metadist.executors.pool.Process`. It is started again if its node is lost."""

    def __init__(self, work: Callable[[], None], resources: Resources) -> None:
        task = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=DEATHS)
        self._task = task(with_same_code(work, *PACKAGES)).remote()

    def ended(self, seconds: float = 0.0) -> bool:
        return bool(ray.wait([self._task], timeout=seconds)[0])

    def failure(self) -> Exception | None:
        try:
            ray.get(self._task)
        except ray.exceptions.RayTaskError as error:
            return cause_of(error)
        except ray.exceptions.RayError as error:
            return RunError(f"its process has died: {error}")
        return None

    def ask(self) -> None:
        ray.cancel(self._task)

    def kill(self) -> None:
        """End it, if it has not ended; a command line is interrupted by the death of its parent."""
        if not self.ended():
            ray.cancel(self._task, force=True)


def _run(words: tuple[str, ...], log: Path, variables: Mapping[str, str]) -> None:
    """Run a command line on this node, with the Python of this process where a word is empty."""
    if not log.is_file():
        raise RunError(
            f"{socket.gethostname()} does not see {log}: all nodes must see the runs at the path "
            "that they have for who starts them"
        )
    process = LocalProcess(tuple(word or sys.executable for word in words), log, variables)
    try:
        while not process.ended(1.0):
            pass
    except KeyboardInterrupt:
        process.ask()
        process.ended(GRACE_SECONDS)
        raise
    finally:
        process.kill()
    if (error := process.failure()) is not None:
        raise error


def cause_of(error: ray.exceptions.RayTaskError) -> Exception:
    """What a remote job has raised."""
    cause = error.cause
    return cause if isinstance(cause, Exception) else error
