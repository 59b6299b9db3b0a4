"""What is at work, on a stream: live lines on a terminal, else a plain line now and then."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TextIO

from data_pipeline.errors import DataError
from metadist.driver.progress import Progress, duration, shorten
from metadist.errors import MetadistError
from metadist.executors.pool import Active, CommandResult, Job, Watcher
from metadist.objectives import Metric
from metadist.runs.log import LogReader
from metadist.runs.readers.evaluations import described_in
from metadist.runs.run_dir import RunDir

#: Seconds between two looks of a terminal, and between two plain lines of a run elsewhere.
LIVE_SECONDS = 0.5
PLAIN_SECONDS = 30.0
#: Up so many lines, to the start, and clear what is below.
_UP = "\x1b[{}A\r\x1b[J"


class Display(Watcher):
    """Follows the runs of a request.

    Args:
        runs: run directories by name, whether they exist or not.
        steps: outer steps of each, by name.
        stream: where to draw.
    """

    def __init__(
        self, runs: Mapping[str, RunDir], steps: Mapping[str, int], stream: TextIO
    ) -> None:
        self._runs, self._steps, self._stream = runs, steps, stream
        self._live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._followed: dict[str, tuple[LogReader, Progress]] = {}
        self._drawn_lines = 0
        self._drawn_at = time.monotonic()
        self._done = 0

    def say(self, line: str) -> None:
        """A line that stays."""
        self._clear()
        self._write(f"{line}\n")

    def started(self, job: Job) -> None:
        """A job has begun."""
        if not self._live:
            self.say(f"{job.name}: {job.commands[0].what}")

    def ended(self, job: Job, result: CommandResult) -> None:
        """A job has ended."""
        self._done += 1
        self._followed.pop(job.name, None)
        why = f": {result.why}" if result.why else ""
        took = f" after {duration(result.seconds)}" if result.seconds else ""
        self.say(f"{job.name}: {result.state}{took}{why}")

    def looked(self, active: Sequence[Active], waiting: int) -> None:
        """Draw what is at work, if it is time to."""
        moment = time.monotonic()
        if moment - self._drawn_at < (LIVE_SECONDS if self._live else PLAIN_SECONDS):
            return
        self._drawn_at = moment
        lines = [self._line(one, moment) for one in active]
        if not self._live:
            self._write("".join(f"{line}\n" for line in lines))
            return
        total = self._done + len(active) + waiting
        lines.append(f"{self._done} of {total} runs done, {len(active)} at work")
        room = shutil.get_terminal_size().columns - 1
        self._clear()
        self._write("".join(f"{shorten(line, room)}\n" for line in lines))
        self._drawn_lines = len(lines)

    def close(self) -> None:
        """Leave nothing half drawn."""
        self._clear()

    def _line(self, active: Active, moment: float) -> str:
        name = active.job.name
        if active.command.what != "training":
            return f"{name}: {active.command.what}"
        if name not in self._followed:
            run = self._runs[name]
            describe = partial(_described, run)
            progress = Progress(self._steps[name], describe=describe, stream=io.StringIO())
            self._followed[name] = (LogReader(run), progress)
        reader, progress = self._followed[name]
        try:
            points = reader.poll()
        except (MetadistError, DataError, OSError):  # whoever writes the log will say so
            points = []
        progress.feed(points)
        return f"{name}: {progress.line()} · {duration(moment - active.began)}"

    def _clear(self) -> None:
        if self._drawn_lines:
            self._write(_UP.format(self._drawn_lines))
            self._drawn_lines = 0

    def _write(self, text: str) -> None:
        # A closed terminal or pipe is no reason to stop runs.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


def _described(run: RunDir, name: str) -> Metric:
    info: dict[str, Any] = {}
    with contextlib.suppress(MetadistError, OSError):  # then the name has to do
        info = run.info()
    return described_in(info, name)
