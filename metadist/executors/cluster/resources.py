"""What a cluster has for a search, and work that is spread over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from metadist.errors import ResourceError, RunError
from metadist.executors.cluster.code_path import same_code
from metadist.executors.cluster.working_directory import here, stand_at
from metadist.process.imports import PACKAGES

#: Deaths of a process (a node that goes, memory that runs out) before its work is given up.
DEATHS = 3


@dataclass(frozen=True)
class Resources:
    """What trials may take.

    Attributes:
        concurrent: trials at once.
        cpus, gpus: of each trial's own process, which may be fractions. A trial that has workers
            of its own computes nothing itself.
    """

    concurrent: int
    cpus: float
    gpus: float = 0.0

    @property
    def bundle(self) -> dict[str, float]:
        """As Ray wants it, which takes no reservation of nothing."""
        return {"CPU": self.cpus, "GPU": self.gpus} if self.cpus or self.gpus else {"memory": 2**20}


def capacity(workers: int, cpus: float, gpus: float, asked: int | None) -> Resources:
    """How many trials fit at once on the cluster this process is connected to.

    Args:
        workers: Ray workers of each trial; 0 and 1: the trial's own process computes.
        cpus, gpus: of each trial's process or, with workers, of each worker.
        asked: not more than so many.

    Raises:
        ResourceError: not even one fits.
    """
    there: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    fits = asked or 10**6
    for kind, each in (("CPU", cpus), ("GPU", gpus)):
        needed = each * max(workers, 1)
        if needed <= 0:
            continue
        have = there.get(kind, 0.0)
        at_once = int((have + 1e-9) // needed)
        if at_once < 1:
            raise ResourceError(
                f"a trial needs {needed:g} {kind}s ({max(workers, 1)} x {each:g}), the cluster "
                f"has {have:g}; ask for fewer --workers-per-trial or a smaller "
                f"--{kind.lower()}s-per-trial"
            )
        fits = min(fits, at_once)
    if workers > 1:
        # Its workers reserve for themselves, all or nothing; the trial only waits for them.
        return Resources(fits, 0.0, 0.0)
    return Resources(fits, cpus, gpus)


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
    jobs = [same_code(job, *PACKAGES) for job in jobs]
    waiting = list(jobs)
    active: list[Any] = []
    failure: BaseException | None = None
    try:
        while waiting or active:
            while waiting and len(active) < resources.concurrent and failure is None:
                options = remote.options(
                    num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=DEATHS
                )
                active.append(options.remote(waiting.pop(0), here()))
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


def _call(job: Callable[[], None], standing: str) -> None:
    stand_at(standing)
    job()


def gpus_there() -> bool:
    """Whether the cluster this process is connected to has GPUs."""
    there: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return there.get("GPU", 0.0) > 0
