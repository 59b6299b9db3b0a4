"""What is at work, on standard error: painted where it can be, else a plain line now and then."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self, TextIO

from data_pipeline.errors import DataError
from metadist.driver.progress import Progress, duration
from metadist.errors import MetadistError
from metadist.executors.pool import Active, CommandResult, Job, Watcher
from metadist.objectives import Metric
from metadist.process.console import Painter, meters
from metadist.runs.log import LogReader
from metadist.runs.readers.evaluations import described_in
from metadist.runs.run_dir import RunDir

#: Seconds between two looks at the logs of what is painted, and between two plain lines of a run.
LIVE_SECONDS = 0.5
PLAIN_SECONDS = 30.0


class Display(Watcher):
    """Follows the runs of a request.

    Args:
        runs: run directories by name, whether they exist or not.
        steps: outer steps of each, by name.
        stream: where to say it.
    """

    def __init__(
        self, runs: Mapping[str, RunDir], steps: Mapping[str, int], stream: TextIO
    ) -> None:
        self._runs, self._steps = runs, steps
        self._painter = Painter(lambda: meters(self._rows), stream, keep=False)
        self._followed: dict[str, tuple[LogReader, Progress]] = {}
        #: Of the bars: of each run at work, and of all runs.
        self._rows: list[tuple[float, float, str]] = []
        self._looked = time.monotonic()
        self._done = 0

    def __enter__(self) -> Self:
        self._painter.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._painter.__exit__()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._painter.say(line)

    def started(self, job: Job) -> None:
        if not self._painter.live:
            self.say(f"{job.name}: {job.commands[0].what}")

    def ended(self, job: Job, result: CommandResult) -> None:
        self._done += 1
        self._followed.pop(job.name, None)
        why = f": {result.why}" if result.why else ""
        took = f" after {duration(result.seconds)}" if result.seconds else ""
        self.say(f"{job.name}: {result.state}{took}{why}")

    def looked(self, active: Sequence[Active], waiting: int) -> None:
        """Show what is at work, if it is time to."""
        moment = time.monotonic()
        if moment - self._looked < (LIVE_SECONDS if self._painter.live else PLAIN_SECONDS):
            return
        self._looked = moment
        rows = [self._row(one, moment) for one in active]
        if self._painter.live:
            total = self._done + len(active) + waiting
            words = f"{self._done} of {total} runs done, {len(active)} at work"
            self._rows = [*rows, (self._done, total, words)]
            self._painter.paint()
        else:
            for _, _, words in rows:
                self.say(words)

    def _row(self, active: Active, moment: float) -> tuple[float, float, str]:
        name = active.job.name
        steps = self._steps.get(name, 0)
        if active.command.what != "training":
            return steps, steps, f"{name}: {active.command.what}"
        if name not in self._followed:
            run = self._runs[name]
            progress = Progress(steps, describe=partial(_described, run))
            self._followed[name] = (LogReader(run), progress)
        reader, progress = self._followed[name]
        with contextlib.suppress(MetadistError, DataError, OSError):  # whoever writes it says so
            progress.feed(reader.poll())
        line = progress.line(cut=self._painter.live)
        return progress.step, steps, f"{name}: {line} · {duration(moment - active.began)}"


def _described(run: RunDir, name: str) -> Metric:
    info: dict[str, Any] = {}
    with contextlib.suppress(MetadistError, OSError):  # then the name has to do
        info = run.info()
    return described_in(info, name)
