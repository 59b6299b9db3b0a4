"""Training in this process: a group of size one, no Ray."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from metadist.compute.collectives import Solo
from metadist.compute.device import keep_freed_memory, local_device
from metadist.executors.control.signal_control import SignalControl
from metadist.executors.job import Job
from metadist.process.announce import Announce


def execute(job: Job, announce: Announce) -> dict[str, Any]:
    """Train in this process and return the run's result.

    Raises:
        Terminated: asked to end; a checkpoint of the last step is kept.
        MetadistError: see :meth:`metadist.training.loop.TrainingLoop.train`.
    """
    keep_freed_memory()
    device = local_device(job.device)
    if job.controls:  # a trial: its search decides when it ends
        return job.train(Solo(), device)
    with SignalControl(job.run) as control:
        result = replace(job, controls=(control,)).train(Solo(), device)
    if "yielded" in result:
        raise control.error()
    return result
