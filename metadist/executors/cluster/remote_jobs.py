"""Independent jobs, spread over a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray

from metadist.errors import RunError
from metadist.executors.cluster.resources import Resources
from metadist.executors.cluster.worker_environment import (
    change_directory,
    current_directory,
    with_same_code,
)
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
    remote: Any = ray.remote(_call)
    jobs = [with_same_code(job, *PACKAGES) for job in jobs]
    waiting = list(jobs)
    active: list[Any] = []
    failure: BaseException | None = None
    try:
        while waiting or active:
            while waiting and len(active) < resources.concurrent and failure is None:
                options = remote.options(
                    num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=DEATHS
                )
                active.append(options.remote(waiting.pop(0), current_directory()))
            if not active:
                break
            done, active = ray.wait(active)
            for one in done:
                try:
                    ray.get(one)
                except ray.exceptions.RayTaskError as error:
                    failure = failure or cause_of(error)
                except ray.exceptions.RayError as error:
                    failure = failure or RunError(f"a process of the search died: {error}")
    except BaseException:
        for one in active:
            ray.cancel(one, force=True)
        raise
    if failure is not None:
        raise failure


def cause_of(error: ray.exceptions.RayTaskError) -> BaseException:
    """What a remote job has raised."""
    cause = error.cause
    return cause if isinstance(cause, BaseException) else error


def _call(job: Callable[[], None], directory: str) -> None:
    change_directory(directory)
    job()
