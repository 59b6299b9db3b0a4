"""Training in this process: a group of size one, no Ray."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from metadist.compute.allocator import keep_freed_memory
from metadist.compute.collectives import Solo
from metadist.compute.device import local_device
from metadist.executors.control.stop_signals import Leaving
from metadist.executors.job import Job


def fit(job: Job) -> dict[str, Any]:
    """Train and return the run's result.

    Raises:
        Terminated: asked to end; a checkpoint of the last step is kept.
        MetadistError: see :meth:`metadist.training.loop.Run.train`.
    """
    keep_freed_memory()
    device = local_device(job.device)
    if job.watch is not None:  # a trial: its search decides when it ends
        return job.train(Solo(), device)
    with Leaving(job.run) as leaving:
        outcome = replace(job, orders=leaving).train(Solo(), device)
    if "left" in outcome:
        raise leaving.error()
    return outcome
