"""How a run ends: its record, its report and MLflow are told, whatever else goes wrong."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data_pipeline.errors import StoreError
from data_pipeline.storage import object_requests
from metadist.errors import DamagedCheckpoint, SupersededError
from metadist.process.announce import Announce
from metadist.process.signals import StopRequest
from metadist.report import write_report
from metadist.runs import checkpoints
from metadist.runs.run_dir import Driver
from metadist.track import Synchroniser

log = logging.getLogger(__name__)
#: How a run ends that has a result: at its last step, or before because a search said so.
COMPLETE = ("finished", "stopped")
#: Seconds for MLflow to be told of the end, where somebody wants this process to be gone.
_HURRY = 20.0


@dataclass(frozen=True)
class Ending:
    """Whom to tell of the end.

    Attributes:
        synchroniser: None: MLflow is not told.
        wait: seconds for MLflow to take what it has not got yet.
        reported: write a report.
    """

    driver: Driver
    synchroniser: Synchroniser | None
    wait: float
    announce: Announce
    reported: bool = True

    def failed(self, error: BaseException) -> str:
        """Record and return how a run has ended before its result."""
        # The attempt or driver that has taken over owns run.json and the MLflow run.
        if isinstance(error, SupersededError):
            return "superseded"
        status = "killed" if isinstance(error, KeyboardInterrupt) else "failed"
        try:
            with _despite_the_store(status):
                self.driver.update(status=status)
        except SupersededError:
            return "superseded"
        return status

    def close(self, status: str) -> None:
        """Report, then everything that MLflow has not got yet; a signal does not cut it short."""
        if status == "superseded":
            if self.synchroniser is not None:
                self.synchroniser.stop()
            return
        hurry = None if self.synchroniser is None else partial(self.synchroniser.hurry, _HURRY)
        with StopRequest(tell=hurry) as asked:
            if self.reported:
                self._report(status)
            self._finish_tracking(status)
        asked.check()

    def _report(self, status: str) -> None:
        try:
            self.announce(f"Report: {write_report(self.driver.run)}")
            with _despite_the_store(status):
                self.driver.run.push_report()
            if self.synchroniser is not None:
                self.announce(f"Compare runs in MLflow: {self.synchroniser.where_to_look()}")
        except Exception:
            # A report can be made again at any time; the run's result must not depend on it.
            log.exception(
                "the report could not be written; try again with: metadist report %s",
                self.driver.run.name,
            )

    def _finish_tracking(self, status: str) -> None:
        run, complete = self.driver.run, status in COMPLETE
        # Offline nobody tells an MLflow run that was begun before of its end.
        arrived = self.synchroniser is not None or not run.info().get("mlflow")
        if self.synchroniser is not None:
            newest: list[Path] = []
            with _despite_the_store(status), suppress(DamagedCheckpoint):
                newest = [checkpoints.pull(run, step) for step in checkpoints.steps(run)[-1:]]
            wait = self.wait if complete else min(self.wait, _HURRY)
            arrived = self.synchroniser.finish(status, wait, checkpoints=newest)
        # Whoever has taken over while points were sent closes the run at its own end.
        with suppress(SupersededError), _despite_the_store(status):
            self.driver.update(closed=arrived and complete)


@contextmanager
def _despite_the_store(status: str) -> Iterator[None]:
    """What can be done again later must not hide how the run has ended, nor take long if badly."""
    said = object_requests.gave_up()
    try:
        with object_requests.impatient(math.inf if status in COMPLETE else 5.0):
            yield
    except StoreError as error:
        log.log(logging.DEBUG if said else logging.ERROR, "%s", error)
