"""Independent jobs, spread over a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray

from metadist.errors import RunError
from metadist.executors.cluster.resources import Resources
from metadist.executors.cluster.worker_environment import with_same_code
from metadist.process.imports import PACKAGES

#: Deaths of a process (a node that goes, memory that runs out) before its work is given up.
DEATHS = 3


def run_jobs(jobs: Sequence[Callable[[], None]], resources: Resources) -> None:
    """Run independent jobs on the Ray that this process is connected to.

    Raises:
        Exception: what the first job that failed has raised, when the others have ended.
    """
    if not resources.cpus and not resources.gpus:
        for job in jobs:  # they have workers of their own
            job()
        return
    remote = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=DEATHS)
    waiting = [with_same_code(job, *PACKAGES) for job in jobs]
    active: list[Any] = []
    failure: BaseException | None = None
    try:
        while active or (waiting and failure is None):
            while waiting and failure is None and len(active) < resources.concurrent:
                active.append(remote(waiting.pop(0)).remote())
            done, active = ray.wait(active)
            failure = failure or _failure(done[0])
    except BaseException:
        for one in active:
            ray.cancel(one, force=True)
        raise
    if failure is not None:
        raise failure


def _failure(done: Any) -> BaseException | None:
    try:
        ray.get(done)
    except ray.exceptions.RayTaskError as error:
        return cause_of(error)
    except ray.exceptions.RayError as error:
        return RunError(f"a process of the search died: {error}")
    return None


def cause_of(error: ray.exceptions.RayTaskError) -> BaseException:
    """What a remote job has raised."""
    cause = error.cause
    return cause if isinstance(cause, BaseException) else error
