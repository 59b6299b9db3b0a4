"""A run's points as an event file, for TensorBoard: made of the run's own log, which is the record.

Whoever starts writes the whole log anew into a file of its own and goes on with what is added. So
each step is there once, whatever has crashed before.
"""

from __future__ import annotations

import logging
import os
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.errors import DataError
from metadist.errors import MetadistError
from metadist.process.polling import Polling
from metadist.runs.log import LogReader
from metadist.runs.run_dir import RunDir

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter

log = logging.getLogger(__name__)
#: Below a run's directory.
FOLDER = "tensorboard"
#: Asks for event files of every run, where no option can be given.
VARIABLE = "METADIST_TENSORBOARD"


def wanted() -> bool:
    """Whether the environment asks for event files."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


class EventFile(Polling):
    """Writes the points of a run while they are logged, inside the block.

    A disk that refuses them costs the event file only: see :func:`write_events`.
    """

    interval = 2.0

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._reader = LogReader(run)
        self._writer: EventsWriter | None = None
        self._failed = False

    def look(self) -> None:
        """Write what is new in the log."""
        if self._failed:
            return
        try:
            self.write()
        except (MetadistError, DataError, OSError) as error:
            self._failed = True
            log.warning(
                "TensorBoard: points cannot be written (%s). Training goes on; then: metadist sync "
                "%s --tensorboard", error, self._run.name,
            )  # fmt: skip

    def last(self) -> None:
        """One look more, and the end."""
        self.look()
        self.close()

    def close(self) -> None:
        """Write no more."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()

    def write(self) -> Path:
        """Write what is new; the folder.

        Raises:
            OSError: the disk refuses. MetadistError, DataError: the log is damaged.
        """
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        folder = self._run.path / FOLDER
        points = self._reader.poll()
        if self._writer is None:
            folder.mkdir(exist_ok=True)
            for earlier in folder.glob("events.out.tfevents.*"):
                earlier.unlink()
            self._writer = EventsWriter(str(folder / "events"))
        for point in points:
            summary = scalar(point.metric, point.value)
            event = Event(wall_time=point.time / 1000, step=point.step, summary=summary)
            self._writer.write_event(event)
        self._writer.flush()
        return folder


def write_events(run: RunDir) -> Path:
    """Write a run's event file anew from its log; the folder to give to TensorBoard.

    Raises:
        OSError: the disk refuses. MetadistError, DataError: the log is damaged.
    """
    with closing(EventFile(run)) as events:
        return events.write()
