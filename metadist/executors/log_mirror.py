"""What workers on other nodes put into an object store, brought to the driver while they train."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from data_pipeline.errors import DataError
from metadist.executors.polling import Polling
from metadist.runs.run_dir import RunDir

log = logging.getLogger(__name__)
#: Seconds between two looks.
_SECONDS = 2.0


class _Following(Polling):
    """Brings logs; the driver's progress line and MLflow read them on disk."""

    def __init__(self, run: RunDir) -> None:
        super().__init__(_SECONDS)
        self._run = run

    def look(self) -> None:
        """Bring what is new."""
        try:
            self._run.store.pull_logs()
        except DataError as error:
            # Who trains says it too, and waits; what is damaged is said when the run is read.
            log.debug("%s", error)

    def last(self) -> None:
        """Nothing: the driver brings everything, or says why it cannot."""


@contextlib.contextmanager
def following(run: RunDir, workers: int) -> Iterator[None]:
    """Follow a run while the block runs, if its workers may be on other nodes."""
    if not run.store.shared or workers == 0:
        yield
        return
    with _Following(run):
        yield
