"""Training in this process: a group of size one, no Ray."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from metadist.engine.allocator import keep_freed_memory
from metadist.engine.group import Solo
from metadist.errors import Terminated
from metadist.launch.job import Job, local_device
from metadist.launch.sigterm import Sigterm


def fit(job: Job) -> dict[str, Any]:
    """Train and return the run's result.

    Raises:
        Terminated: asked to end by SIGTERM; a checkpoint of the last step is kept.
        MetadistError: see :meth:`metadist.engine.loop.Run.train`.
    """
    keep_freed_memory()
    device = local_device(job.device)
    if job.watch is not None:  # a trial: its search decides when it ends
        return job.train(Solo(), device)
    with Sigterm() as term:
        outcome = replace(job, orders=term).train(Solo(), device)
    if "left" in outcome:
        raise Terminated
    return outcome
