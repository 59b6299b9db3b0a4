"""One group of Ray workers: from its start to the result of rank 0, or why it has failed."""

from __future__ import annotations

import functools
import math
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import ray.train.torch
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from data_pipeline.errors import DataError
from data_pipeline.storage.object_uri import address_of, local_path
from data_pipeline.timeouts import seconds_of
from metadist.compute.collectives import Workers
from metadist.compute.device import keep_freed_memory
from metadist.errors import MetadistError, RunError
from metadist.executors.cluster.resources import room
from metadist.executors.cluster.worker_environment import with_same_code
from metadist.executors.cluster.worker_logs import write_messages
from metadist.executors.control.channels import ControlActor
from metadist.executors.job import Job
from metadist.process.code import COMPUTING
from metadist.runs.run_dir import RunDir

#: What Ray's trainer calls a group that has found no place in time; it does not export the class.
NO_PLACE = "WorkerGroupStartupTimeoutError"


def run_group(job: Job, workers: int, resources: dict[str, float]) -> dict[str, Any]:
    """Train with so many workers; what :meth:`metadist.executors.job.Job.train` returns on rank 0.

    Args:
        resources: what each worker reserves.

    Raises:
        ray.train.TrainingFailedError: the group has failed.
    """
    # Ray keeps its own state under a fresh name: a re-used one would silently resume.
    for leftover in job.run.glob(".ray-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with TemporaryDirectory(prefix=".ray-", dir=job.run, ignore_cleanup_errors=True) as scratch:
        result = _trainer(job, workers, resources, scratch).fit().return_value
        if not isinstance(result, dict):
            raise RunError(f"{job.run}: the workers ended without a result")
        return result


class _Trainer(TorchTrainer):
    """Leaves Ctrl-C to us: Ray Train would end the group before it has written a checkpoint, and
    then the process, with the exit status of success."""

    def _register_sigint_handler(self, controller: Any) -> None:
        pass


def _trainer(job: Job, workers: int, resources: dict[str, float], scratch: str) -> Any:
    gpu = "GPU" in resources
    # Each node has its own path to what lies in an object store.
    addresses = address_of(job.run), address_of(job.data_dir)
    checked = with_same_code(functools.partial(_work, job, *addresses, gpu), *COMPUTING)
    # A collective that a worker does not join fails after this time. A node that is cut off does
    # not end it: Ray ends the group when it has declared the node dead; this is for the rest.
    timeout = seconds_of("METADIST_GROUP_TIMEOUT_S", 300.0, RunError)
    return _Trainer(
        lambda: checked(),  # Ray counts its arguments
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=gpu, resources_per_worker=resources
        ),
        torch_config=TorchConfig(
            backend="nccl" if gpu else "gloo", timeout_s=max(1, math.ceil(timeout))
        ),
        run_config=RunConfig(
            name=f"{job.run.name}-{uuid.uuid4().hex[:8]}",
            storage_path=scratch,
            failure_config=FailureConfig(  # type: ignore[call-arg]  # typed as of older trainers
                max_failures=0, controller_failure_limit=0
            ),
        ),
    )


def _work(job: Job, run: str, data_dir: str, gpu: bool) -> dict[str, Any]:
    """What each worker runs."""
    job = replace(job, run=local_path(run), data_dir=local_path(data_dir))
    RunDir(job.run).pull()
    keep_freed_memory()
    for control in job.controls:
        if isinstance(control, ControlActor):
            control.join()
    if ray.train.get_context().get_world_rank() == 0:
        write_messages(job.run)
    device = ray.train.torch.get_device() if gpu else torch.device("cpu")
    return job.train(Workers(device), device)


def lasting_error(error: BaseException) -> MetadistError | DataError | None:
    """The error that another group would meet again, if that is what ended the workers."""
    return next((e for e in causes(error) if isinstance(e, MetadistError | DataError)), None)


def found_no_place(error: BaseException, workers: int, resources: dict[str, float]) -> bool:
    """Whether a group has found no place because others are there."""
    # The workers of a group that has not come to be cannot have said what the matter is.
    queued = any(type(cause).__name__ == NO_PLACE for cause in causes(error))
    return queued and room(resources) < workers


def causes(error: BaseException) -> Iterator[BaseException]:
    """What has ended the workers: the error itself, and all that it says it came from."""
    seen: set[int] = set()
    todo: list[Any] = [error]
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        failures = getattr(current, "worker_failures", None)
        if isinstance(failures, dict):
            todo.extend(failures.values())
        todo += [getattr(current, name, None) for name in ("cause", "controller_failure")]
        todo += [current.__cause__, current.__context__]
