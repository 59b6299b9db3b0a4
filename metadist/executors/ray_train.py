"""Training on Ray workers that each adapt a share of the tasks.

Ray Train starts the workers and their process group; everything else, checkpoints included, is
the engine's own and the same without Ray. A group that has failed is started afresh from the newest
checkpoint until three in a row have made no progress.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.train import TrainingFailedError

from data_pipeline.errors import DataError
from data_pipeline.timeouts import seconds_of
from metadist.errors import GivenUp, MetadistError, RunError
from metadist.executors.cluster.connection import connected
from metadist.executors.cluster.ray_processes import died
from metadist.executors.cluster.resources import group_size
from metadist.executors.cluster.worker_logs import LogMirror, ShowMessages
from metadist.executors.control.channels import ControlActor, ControlFile
from metadist.executors.control.elastic_group import ElasticGroup
from metadist.executors.control.signal_control import SignalControl
from metadist.executors.job import Job
from metadist.executors.worker_group import causes, found_no_place, lasting_error, run_group
from metadist.process.announce import Announce
from metadist.process.environment import variables
from metadist.runs import checkpoints
from metadist.runs.run_dir import RunDir

#: What Ray Train reads from the environment, unless the user has said otherwise.
_ENVIRONMENT = {
    # The controller's poll paces start and end of a run; its default is two seconds.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # A group that cannot be placed is given up after this time and asked for anew.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    # The driver looks for nodes that will go itself.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
#: Groups in a row without a newer checkpoint after which a run is given up.
PATIENCE = 3


@variables(_ENVIRONMENT)
def execute(job: Job, announce: Announce) -> dict[str, Any]:
    """Train on Ray workers and return the run's result.

    Raises:
        ResourceError: the cluster cannot be reached or lacks what the workers need.
        RunError: three groups in a row ended without progress.
        Terminated: asked to end; a checkpoint of the last step is kept.
        MetadistError: what the workers raised, if trying again would not help.
    """
    wait = seconds_of("METADIST_NODE_WAIT_S", 600.0, RunError)
    if not job.address and not ray.is_initialized():
        job = replace(job, workers=job.workers.on(os.cpu_count() or 1))
    run = RunDir(job.run)
    with (
        LogMirror(run) if run.store.shared else contextlib.nullcontext(),
        connected(job.address, job.workers.high, announce),
        ShowMessages(job.run, announce),
    ):
        channel = _channel(job)
        tell = channel.send_yield if isinstance(channel, ControlFile) else None
        with (
            SignalControl(job.run, tell=tell, handled=channel is not None, lost=died) as signals,
            _told_to_end(signals),
        ):
            result = _Groups(job, channel, signals, announce, wait).train()
    run.pull()  # the workers may have been on other nodes
    return result


def _channel(job: Job) -> ControlActor | ControlFile | None:
    """How this process reaches the workers; not at all on this machine if a search ends them."""
    if job.address or job.workers.elastic:
        return ControlActor.start()
    return ControlFile(job.run / ".leave") if not job.controls else None


@contextlib.contextmanager
def _told_to_end(signals: SignalControl) -> Iterator[None]:
    """Once the run was asked to end, what Ray raises on the way there is of no interest."""
    try:
        yield
    except (MetadistError, DataError):
        raise
    except (Exception, KeyboardInterrupt):  # Ray has one of its own
        signals.check()
        raise


@dataclass
class _Groups:
    """Groups of workers, one after another, until one has come to the end of the run."""

    job: Job
    channel: ControlActor | ControlFile | None
    signals: SignalControl
    announce: Announce
    wait: float
    without_progress: int = 0
    queued: bool = False

    def train(self) -> dict[str, Any]:
        """The result of rank 0 of the last group."""
        size, device, asked = self.job.workers, self.job.device, self.signals.event
        workers, resources = group_size(size, device, self.announce, asked=asked)
        while True:
            before = self._progress()
            try:
                result = self._train_group(workers, resources)
                if "yielded" not in result:
                    return result
                why = f"Workers have left ({result['yielded']})"
            except TrainingFailedError as error:
                why = self._why_failed(error, before, workers, resources)
            self.signals.check()
            # Nodes may have come or gone: then another size fits, or none.
            workers, resources = group_size(size, device, self.announce, self.wait, asked)
            if why:
                at = max(self._progress(), 0)
                self.announce(f"{why}; starting again from step {at} with {_count(workers)}")
            self.queued = not why

    def _train_group(self, workers: int, resources: dict[str, float]) -> dict[str, Any]:
        """One group; ``yielded`` says why, if it has left before the run's end."""
        channel, job = self.channel, self.job
        if channel is None:
            return run_group(job, workers, resources)
        channel.clear()
        job = replace(job, controls=(*job.controls, channel))
        if isinstance(channel, ControlFile):
            if self.signals.event.is_set():
                channel.send_yield()
            try:
                return run_group(job, workers, resources)
            finally:
                channel.clear()
        with ElasticGroup(
            channel, job.workers, workers, resources, self.signals.event, self.announce
        ) as elastic:
            result = run_group(job, workers, resources)
        if "yielded" in result:
            result["yielded"] = elastic.reason or "asked to end"
        return result

    def _why_failed(
        self, error: TrainingFailedError, before: int, workers: int, resources: dict[str, float]
    ) -> str:
        """Why a group that is started again has failed; empty if it only waits for a place."""
        if (lasting := lasting_error(error)) is not None:
            raise lasting from None
        if found_no_place(error, workers, resources):
            if not self.queued:
                self.announce(f"Waiting: others use what {_count(workers)} would need")
            return ""
        self.without_progress = 0 if self._progress() > before else self.without_progress + 1
        reason = str(error).strip().splitlines()[-1][:300]
        if self.without_progress >= PATIENCE:
            machine = any(isinstance(cause, OSError) for cause in causes(error))
            raise (RunError if machine else GivenUp)(
                f"{self.job.run}: given up after {PATIENCE} attempts without a new checkpoint; "
                f"the last ended with: {reason}"
            ) from error
        return f"Workers lost ({reason})"

    def _progress(self) -> int:
        return max(checkpoints.steps(RunDir(self.job.run)), default=-1)


def _count(workers: int) -> str:
    return f"{workers} worker{'s' if workers > 1 else ''}"
