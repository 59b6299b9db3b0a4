"""Training in this process: a group of size one, no Ray."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from metadist.engine.allocator import keep_freed_memory
from metadist.engine.group import Solo
from metadist.launch.job import Job, local_device
from metadist.launch.leaving import Leaving


def fit(job: Job) -> dict[str, Any]:
    """Train and return the run's result.

    Raises:
        Terminated: asked to end; a checkpoint of the last step is kept.
        MetadistError: see :meth:`metadist.engine.loop.Run.train`.
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
