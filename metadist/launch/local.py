"""Training in this process: a group of size one, no Ray."""

from __future__ import annotations

from typing import Any

from metadist.engine.allocator import keep_freed_memory
from metadist.engine.group import Solo
from metadist.launch.job import Job, local_device


def fit(job: Job) -> dict[str, Any]:
    """Train and return the run's result.

    Raises:
        MetadistError: see :meth:`metadist.engine.loop.Run.train`.
    """
    keep_freed_memory()
    return job.train(Solo(), local_device(job.device))
