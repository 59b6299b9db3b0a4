"""Training on Ray workers that each adapt a share of the tasks.

Ray Train starts the workers and their process group; everything else, checkpoints included, is
the engine's own and the same without Ray. A failed attempt is started afresh from the newest
checkpoint until three in a row have made no progress.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ray
import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from data_pipeline.errors import DataError
from data_pipeline.storage.object_uri import address_of, local_path
from data_pipeline.timeouts import seconds_of
from metadist.compute.allocator import keep_freed_memory
from metadist.compute.collectives import Workers
from metadist.errors import GivenUp, MetadistError, RunError
from metadist.executors.cluster.code_path import same_code
from metadist.executors.cluster.connection import connected, group_for, room
from metadist.executors.cluster.host_process import guest
from metadist.executors.cluster.private_ray import died
from metadist.executors.cluster.worker_logs import ShowMessages, write_messages
from metadist.executors.cluster.working_directory import here, stand_at
from metadist.executors.control.control_actor import ActorControl, ControlActor
from metadist.executors.control.control_file import ControlFile
from metadist.executors.control.elastic_group import ElasticGroup
from metadist.executors.control.signal_control import SignalControl
from metadist.executors.job import Job
from metadist.executors.world_size import WorldSize
from metadist.process.announce import Announce
from metadist.process.code import COMPUTING
from metadist.process.environment import variables
from metadist.runs import checkpoints
from metadist.runs.run_dir import RunDir

log = logging.getLogger(__name__)
#: What Ray Train reads from the environment, unless the user has said otherwise.
_ENVIRONMENT = {
    # The controller's poll paces start and end of a run; its default is two seconds.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # A group that cannot be placed is given up after this time and asked for anew.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    # The driver looks for nodes that will go itself.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
#: Attempts in a row without a newer checkpoint after which a run is given up.
PATIENCE = 3
#: What Ray's trainer calls a group that has found no place in time; it does not export the class.
NO_PLACE = "WorkerGroupStartupTimeoutError"


def group_timeout() -> int:
    """Seconds after which a collective that a worker does not join fails.

    A node that is cut off does not end a collective by itself: Ray ends the group when it has
    declared the node dead, and this is for what Ray does not see.
    """
    return max(1, math.ceil(seconds_of("METADIST_GROUP_TIMEOUT_S", 300.0, RunError)))


def _work(config: dict[str, Any]) -> dict[str, Any]:
    """What each Ray worker runs."""
    stand_at(config["here"])
    # Each node has its own path to what lies in an object store.
    paths = {name: local_path(config[name]) for name in ("run", "data_dir")}
    job: Job = replace(config["job"], **paths)
    RunDir(job.run).pull()
    keep_freed_memory()
    if isinstance(job.control, ActorControl):
        job.control.join()
    if ray.train.get_context().get_world_rank() == 0:
        write_messages(job.run)
    device = ray.train.torch.get_device() if config["gpu"] else torch.device("cpu")
    return job.train(Workers(device), device)


def _users_error(error: BaseException) -> MetadistError | DataError | None:
    """The error that a retry would meet again, if that is what ended the workers."""
    return next((e for e in _causes(error) if isinstance(e, MetadistError | DataError)), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
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


def _others_have(error: BaseException, workers: int, resources: dict[str, float]) -> bool:
    """Whether a group has found no place because others are there."""
    # The workers of a group that has not come to be cannot have said what the matter is.
    queued = any(type(cause).__name__ == NO_PLACE for cause in _causes(error))
    return queued and room(resources) < workers


def _progress(run: RunDir) -> int:
    return max(checkpoints.steps(run), default=-1)


@variables(_ENVIRONMENT)
def fit(job: Job, size: WorldSize, address: str | None, announce: Announce) -> dict[str, Any]:
    """Train on Ray workers and return the run's result.

    Raises:
        ResourceError: the cluster cannot be reached or lacks what the workers need.
        RunError: three attempts in a row ended without progress.
        Terminated: asked to end; a checkpoint of the last step is kept.
        MetadistError: what the workers raised, if trying again would not help.
    """
    wait = seconds_of("METADIST_NODE_WAIT_S", 600.0, RunError)
    run = RunDir(job.run)
    if not address and not ray.is_initialized():
        size = size.on(os.cpu_count() or 1)
    with guest(), connected(address, size.high, announce), ShowMessages(job.run, announce):
        actor = ControlActor() if address or size.elastic else None
        # A trial's search decides when it ends.
        file = ControlFile(run.path / ".leave") if not actor and not job.control else None
        idle, queued = 0, False
        heeded = actor is not None or file is not None
        tell = file.send_yield if file else None
        with (
            SignalControl(run.path, tell=tell, heeded=heeded, lost=died) as term,
            _of_the_end(term),
        ):
            workers, resources = group_for(size, job.device, announce, asked=term.event)
            while True:
                before = _progress(run)
                try:
                    outcome = _group(job, size, workers, resources, actor, file, term, announce)
                except ray.train.TrainingFailedError as error:
                    known = _users_error(error)
                    if known is not None:
                        raise known from None
                    if _others_have(error, workers, resources):
                        if not queued:
                            announce(f"Waiting: others use what {_count(workers)} would need")
                        queued = True
                        term.check()
                        # Others may be nodes that are gone: then another size fits, or none.
                        workers, resources = group_for(size, job.device, announce, wait, term.event)
                        continue
                    machine = any(isinstance(cause, OSError) for cause in _causes(error))
                    idle = 0 if _progress(run) > before else idle + 1
                    reason = str(error).strip().splitlines()[-1][:300]
                    if idle >= PATIENCE:
                        raise (RunError if machine else GivenUp)(
                            f"{run.path}: given up after {PATIENCE} attempts without a new "
                            f"checkpoint; the last ended with: {reason}"
                        ) from error
                    why = f"Workers lost ({reason})"
                else:
                    if "yielded" not in outcome:
                        return outcome
                    why = f"Workers have left ({outcome['yielded']})"
                term.check()
                queued = False
                workers, resources = group_for(size, job.device, announce, wait, term.event)
                at = max(_progress(run), 0)
                announce(f"{why}; starting again from step {at} with {_count(workers)}")


@contextlib.contextmanager
def _of_the_end(term: SignalControl) -> Iterator[None]:
    """Once the run was asked to end, what Ray raises on the way there is of no interest."""
    try:
        yield
    except (MetadistError, DataError):
        raise
    except (Exception, KeyboardInterrupt):  # Ray has one of its own
        term.check()
        raise


def _count(workers: int) -> str:
    return f"{workers} worker{'s' if workers > 1 else ''}"


def _group(
    job: Job,
    size: WorldSize,
    workers: int,
    resources: dict[str, float],
    actor: ControlActor | None,
    file: ControlFile | None,
    term: SignalControl,
    announce: Announce,
) -> dict[str, Any]:
    """One group of workers; ``yielded`` says why, if it ended before the run did."""
    if actor is None:
        if file is None:
            return _attempt(job, workers, resources)
        file.clear()
        if term.event.is_set():
            file.send_yield()
        try:
            return _attempt(replace(job, control=file), workers, resources)
        finally:
            file.clear()
    actor.clear()
    with ElasticGroup(actor, size, workers, resources, term.event, announce) as elastic:
        outcome = _attempt(replace(job, control=actor.control), workers, resources)
    if "yielded" in outcome:
        outcome["yielded"] = elastic.reason or "asked to end"
    return outcome


class _Trainer(TorchTrainer):
    """Leaves Ctrl-C to us: Ray Train would end the group before it has written a checkpoint, and
    then the process, with the exit status of success."""

    def _register_sigint_handler(self, controller: Any) -> None:
        pass


def _attempt(job: Job, workers: int, resources: dict[str, float]) -> dict[str, Any]:
    """One worker group, from its start to the result of rank 0."""
    # Ray keeps its own state under a fresh name: a re-used one would silently resume.
    for leftover in job.run.glob(".ray-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch = tempfile.mkdtemp(prefix=".ray-", dir=job.run)
    config = {
        "job": job,
        "run": address_of(job.run),
        "data_dir": address_of(job.data_dir),
        "gpu": "GPU" in resources,
        "here": here(),
    }
    work = same_code(functools.partial(_work, config), *COMPUTING)
    try:
        trainer = _Trainer(
            lambda: work(),  # Ray counts its arguments
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu="GPU" in resources,
                resources_per_worker=resources,
            ),
            torch_config=TorchConfig(
                backend="nccl" if "GPU" in resources else "gloo", timeout_s=group_timeout()
            ),
            run_config=RunConfig(
                name=f"{job.run.name}-{uuid.uuid4().hex[:8]}",
                storage_path=scratch,
                failure_config=FailureConfig(  # type: ignore[call-arg]  # typed as of older trainers
                    max_failures=0, controller_failure_limit=0
                ),
            ),
        )
        fitted: Any = trainer.fit()
        outcome = fitted.return_value
        if not isinstance(outcome, dict):
            raise RunError(f"{job.run}: the workers ended without a result")
        return outcome
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
